"""Waiting for a service: what's shown until it has converged."""

from __future__ import annotations

from typing import Any

import pytest
from fake_daemon import Daemon, HeldClock, Shoal

SERVICE = {
    "ID": "s1",
    "Version": {"Index": 7},
    "Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": 2}}, "TaskTemplate": {"ContainerSpec": {}}},
}
NODES = [{"ID": "n1", "Status": {"State": "ready"}}, {"ID": "n2", "Status": {"State": "down"}}]
UP_TO_DATE = {"service": {"s1": True}, "_up-to-date": {"true": True}}


def task(slot: int, state: str, error: str = "", node: str = "n1") -> dict[str, Any]:
    status = {"State": state, **({"Err": error} if error else {})}
    return {"Slot": slot, "NodeID": node, "DesiredState": "running", "Status": status}


def script(daemon: Daemon, *rounds: list[dict[str, Any]], service: dict[str, Any] = SERVICE) -> None:
    daemon.says("POST", "/services/create", {"ID": "s1"}, 201)
    daemon.says("GET", "/services/s1", service, insertDefaults="false")
    daemon.says("GET", "/nodes", NODES)
    for tasks in rounds:
        daemon.says("GET", "/tasks", tasks, filters=UP_TO_DATE)


CREATE = ("service", "create", "--no-resolve-image", "--replicas", "2", "nginx")


@pytest.mark.usefixtures("held_clock")
def test_lines_for_a_pipe(daemon: Daemon, shoal: Shoal) -> None:
    script(
        daemon,
        [],
        [task(1, "running"), task(2, "preparing")],
        [task(1, "running"), task(2, "running")],
    )

    result = shoal(*CREATE)

    lines = result.out.splitlines()
    assert lines[:7] == [
        "s1",
        "overall progress: 0 out of 2 tasks",
        "1/2:  ",
        "2/2:  ",
        "overall progress: 0 out of 2 tasks",
        "overall progress: 1 out of 2 tasks",
        "overall progress: 2 out of 2 tasks",
    ]
    assert lines[7] == "verify: Waiting 5 seconds to verify that tasks are stable..."
    assert lines[-2] == "verify: Waiting 1 seconds to verify that tasks are stable..."
    assert lines[-1] == "verify: Service s1 converged"
    assert (result.code, result.err) == (0, "")


@pytest.mark.usefixtures("held_clock")
def test_bars_on_a_terminal(daemon: Daemon, shoal: Shoal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    script(daemon, [task(1, "pending"), task(2, "running")], [task(1, "running"), task(2, "running")])

    out = shoal(*CREATE, terminal=True).out

    assert "\n\x1b[1A\x1b[2K\roverall progress: 0 out of 2 tasks \r\x1b[1B" in out
    assert f"\x1b[2A\x1b[2K\r1/2: pending   [{'=' * 16}>{' ' * 34}] \r\x1b[2B" in out
    assert f"\x1b[1A\x1b[2K\r2/2: running   [{'=' * 50}>] \r\x1b[1B" in out
    assert out.endswith("verify: Service s1 converged \r\x1b[1B")


def test_ctrl_c_ends_the_waiting_not_the_work(daemon: Daemon, shoal: Shoal, held_clock: HeldClock) -> None:
    held_clock.interrupt_at = 1.0
    script(daemon, [task(1, "pending", "no suitable node (2 nodes not available for new tasks)")])

    result = shoal(*CREATE)

    assert result.code == 0
    assert "1/2: no suitable node (2 nodes not available for new tasks)\n" in result.out
    assert result.out.endswith(
        "Operation continuing in background.\nUse `shoal service ps s1` to check progress.\n"
    )


def test_a_task_that_fails_starts_the_verification_again(
    daemon: Daemon, shoal: Shoal, held_clock: HeldClock
) -> None:
    good = [task(1, "running"), task(2, "running")]
    script(daemon, good, [task(1, "running"), task(2, "failed", "task: non-zero exit (1)")], good)

    result = shoal(*CREATE)

    assert "verify: Detected task failure\n" in result.out
    assert held_clock.seconds >= 5.4


@pytest.mark.usefixtures("held_clock")
def test_tasks_on_a_dead_node_do_not_count(daemon: Daemon, shoal: Shoal) -> None:
    dead = [task(1, "running"), task(2, "running", node="n2")]
    script(daemon, dead, [task(1, "running"), task(2, "running")])

    assert "overall progress: 1 out of 2 tasks\n" in shoal(*CREATE).out


@pytest.mark.usefixtures("held_clock")
def test_a_paused_update_is_an_error(daemon: Daemon, shoal: Shoal) -> None:
    paused = {**SERVICE, "UpdateStatus": {"State": "paused", "Message": "update paused due to failure"}}
    script(daemon, [], service=paused)

    result = shoal(*CREATE)

    assert (result.code, result.err) == (1, "service update paused: update paused due to failure\n")


@pytest.mark.usefixtures("held_clock")
def test_more_than_twenty_replicas_get_no_lines(daemon: Daemon, shoal: Shoal) -> None:
    many = {**SERVICE, "Spec": {**SERVICE["Spec"], "Mode": {"Replicated": {"Replicas": 21}}}}  # type: ignore[dict-item]
    script(daemon, [task(slot, "running") for slot in range(1, 22)], service=many)

    out = shoal(*CREATE).out

    assert "1/21" not in out
    assert "overall progress: 21 out of 21 tasks\n" in out


@pytest.mark.usefixtures("held_clock")
def test_global_services_have_a_line_for_each_node(
    daemon: Daemon, shoal: Shoal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    everywhere = {**SERVICE, "Spec": {"Name": "web", "Mode": {"Global": {}}}}
    running = {"NodeID": "n1", "DesiredState": "running", "Status": {"State": "running"}}
    script(daemon, [], [running], service=everywhere)

    out = shoal("service", "create", "--no-resolve-image", "--mode", "global", "nginx", terminal=True).out

    assert "overall progress: waiting for new tasks" in out
    assert "n1: running " in out
    assert "overall progress: 1 out of 1 tasks" in out


@pytest.mark.usefixtures("held_clock")
def test_jobs_end_when_complete(daemon: Daemon, shoal: Shoal) -> None:
    job = {
        **SERVICE,
        "Spec": {"Name": "job", "Mode": {"ReplicatedJob": {"TotalCompletions": 2, "MaxConcurrent": 1}}},
        "JobStatus": {"JobIteration": {"Index": 3}},
    }
    first = {**task(1, "running"), "JobIteration": {"Index": 3}}
    done = [{**task(slot, "complete"), "JobIteration": {"Index": 3}} for slot in (1, 2)]
    script(daemon, [first], done, service=job)

    result = shoal(
        "service", "create", "--no-resolve-image", "--mode", "replicated-job", "--replicas", "2", "nginx"
    )

    assert result.out == (
        "s1\nactive tasks: 0 out of 1 tasks\n1/2:  \n2/2:  \nactive tasks: 1 out of 1 tasks\n"
        "active tasks: 0 out of 0 tasks\njob complete\n"
    )


def test_quiet_and_detached(daemon: Daemon, shoal: Shoal, held_clock: HeldClock) -> None:
    script(daemon, [task(1, "running"), task(2, "running")])
    assert shoal(*CREATE[:2], "-q", *CREATE[2:]).out == "s1\n"
    assert held_clock.seconds >= 5
    asked = len(daemon.asked)
    assert shoal(*CREATE[:2], "-d", *CREATE[2:]).out == "s1\n"
    assert len(daemon.asked) == asked + 1


@pytest.mark.usefixtures("held_clock")
def test_scale_waits_under_the_name_that_was_given(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/services/web", SERVICE, insertDefaults="false")
    daemon.says("POST", "/services/s1/update", {"Warnings": None}, version="7")
    daemon.says("GET", "/nodes", NODES)
    daemon.says("GET", "/tasks", [task(1, "running"), task(2, "running")], filters=UP_TO_DATE)

    result = shoal("service", "scale", "web=2")

    assert result.out.startswith("web scaled to 2\n")
    assert result.out.endswith("verify: Service web converged\n")
    assert daemon.sent()[0]["Mode"] == {"Replicated": {"Replicas": 2}}
