"""Daemons die, machines lose power, everything reboots: services go on, and come back by themselves."""

from __future__ import annotations

import time

import pytest

from tests.lab.support import LOAD, Lab, Machine, Running, until

pytestmark = pytest.mark.lab

RATE = "200"
LOAD_SECONDS = 6.0
DOWN_SECONDS = (
    30.0  # some six, which test_sessions_rules.py holds on a clock of its own; here a machine may be busy
)


def clean(running: Running, least: int) -> None:
    """No failure, no reset, no look-up lost (late is allowed)."""
    account = running.account
    assert account["ok"] >= least, account
    assert not account["failed"], (account["failed"], account["first"])
    assert not account["lookups_failed"], account["lookups_failed"]


@pytest.fixture
def client(web: Lab) -> dict[str, object]:
    """A task on a worker from which names and the VIP are used."""
    web.manager.docker(
        "service", "create", "-d", "--name", "client", "--network", "nginx-net", "--constraint", "node.hostname==worker1",
        "--stop-signal", "SIGKILL", "alpine", "sleep", "100000",
    )  # fmt: skip
    (task,) = web.wait_running("client", 1)
    web.machines["worker1"].run("sh", "-c", "cat > /root/load.py", input=LOAD.read_text())
    yield task
    web.manager.docker("service", "rm", "client")
    web.wait_gone("client")


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("unit", ["shoal-agent", "shoal-manager", "containerd"])
def test_kill_9_of_a_daemon_disturbs_nobody(web: Lab, client: dict[str, object], unit: str) -> None:
    before = {t["ID"] for t in web.wait_running("my-nginx", 5)}
    machines = [web.manager] if unit == "shoal-manager" else list(web.machines.values())
    targets = [f"{m.addr}:80" for m in web.machines.values()]
    vip = web.vip("my-nginx", "nginx-net")
    pid = client["Status"]["ContainerStatus"]["PID"]
    inside = [
        "nsenter",
        f"--net=/proc/{pid}/ns/net",
        "python3",
        "/root/load.py",
        "inside",
        "50",
        "my-nginx",
        f"{vip}:80",
    ]
    began = time.monotonic()
    with (
        web.load(["python3", str(LOAD), "http", RATE, *targets]) as outside,
        web.load(inside, machine="worker1") as in_task,
    ):
        for machine in machines:
            old = machine.kill9(unit)
            machine.wait_unit(unit, old)
            if unit != "containerd":
                until(lambda m=machine: answers(m), 30, f"the API of {machine.name} answers")
        until(
            lambda: {t["ID"] for t in web.wait_running("my-nginx", 5)} == before,
            30,
            "the same tasks as before",
        )
        until(lambda: time.monotonic() - began > LOAD_SECONDS, LOAD_SECONDS + 1, "enough load to judge by")
    clean(outside, 800)
    clean(in_task, 100)
    assert {t["ID"] for t in web.wait_running("my-nginx", 5)} == before
    # All is re-adopted: scaling works, both ways.
    web.manager.docker("service", "scale", "-d", "my-nginx=7")
    web.wait_running("my-nginx", 7)
    web.manager.docker("service", "scale", "-d", "my-nginx=5")
    web.wait_running("my-nginx", 5)


def answers(machine: object) -> bool:
    try:
        return machine.api("/info")["Swarm"]["LocalNodeState"] == "active"  # type: ignore[attr-defined]
    except (OSError, LookupError):
        return False


@pytest.mark.usefixtures("served")
def test_without_a_manager_all_serves_on(web: Lab) -> None:
    """The manager process is off; a worker reboots meanwhile and brings its tasks, names and VIPs back by itself."""
    manager, worker = web.manager, web.machines["worker1"]
    vip = web.vip("my-nginx", "nginx-net")
    mine = [t for t in web.wait_running("my-nginx", 5) if web.node_of(t) is worker]
    everybody = [f"{m.addr}:80" for m in web.machines.values()]
    # With a stop signal that no shutdown of a machine sends by itself.
    polite = "trap 'echo good-bye; exit 7' USR1; echo ready; while :; do sleep 1; done"
    worker.docker("run", "-d", "--name", "polite", "--stop-signal", "USR1", "alpine", "sh", "-c", polite)
    until(lambda: "ready" in worker.docker("logs", "polite").stdout, 30, "a container that hears its signal")
    manager.run("systemctl", "stop", "shoal-manager.socket", "shoal-manager")
    try:
        assert all(not k.startswith("FAILED") for a in web.connections(everybody, 20).values() for k in a)
        web.tool("reboot", worker.name)

        def back() -> bool:
            found = web.connections([f"{worker.addr}:80"], 10)[f"{worker.addr}:80"]
            return not any(k.startswith("FAILED") for k in found)

        until(back, 60, "worker1's published port serves again without any manager")
        assert worker.docker("logs", "polite").stdout == "ready\ngood-bye\n"
        assert worker.docker("inspect", "-f", "{{.State.ExitCode}}", "polite").stdout == "7\n"

        def all_run() -> list[str]:
            found = worker.docker("ps", "--format", "{{.ID}}").stdout.split()
            return found if len(found) == len(mine) else []

        here = until(all_run, 60, f"the {len(mine)} tasks of worker1 run again")
        worker.run("sh", "-c", "cat > /root/load.py", input=LOAD.read_text())
        pid = worker.docker("inspect", "--format", "{{.State.Pid}}", here[0]).stdout.strip()
        inside = [
            "nsenter",
            f"--net=/proc/{pid}/ns/net",
            "python3",
            "/root/load.py",
            "inside",
            "50",
            "my-nginx",
            f"{vip}:80",
        ]
        with web.load(inside, machine=worker.name) as in_task:
            until(lambda: web.connections(everybody, 20), 30, "connections through every node")
        clean(in_task, 5)
    finally:
        worker.docker("rm", "-f", "polite", check=False)
        manager.run("systemctl", "start", "shoal-manager.socket", "shoal-manager")
        until(lambda: answers(manager), 30, "the manager's API answers")
        for name in web.machines:
            web.wait_node(name, "ready")
    web.wait_running("my-nginx", 5)


def heard_from(lab: Lab, worker: Machine) -> None:
    """A task runs there: its node has a session. One that a new leader hasn't heard yet has twice the usual grace."""
    lab.manager.docker(
        "service", "create", "-d", "--name", "heard", "--constraint", f"node.hostname=={worker.name}",
        "--stop-grace-period", "100ms", "alpine", "sleep", "1000",
    )  # fmt: skip
    lab.wait_running("heard", 1)
    lab.manager.docker("service", "rm", "heard")
    lab.wait_gone("heard")


def test_power_cut_of_a_worker(web: Lab) -> None:
    worker = web.machines["worker2"]
    heard_from(web, worker)
    web.wait_running("my-nginx", 5)
    web.tool("power-off", worker.name)
    began = time.monotonic()
    web.wait_node(worker.name, "down", 60)
    assert time.monotonic() - began < DOWN_SECONDS
    alive = {m.name for m in web.machines.values()} - {worker.name}

    def moved() -> bool:
        return {web.node_of(t).name for t in web.tasks("my-nginx")} <= alive and len(
            web.tasks("my-nginx")
        ) == 5

    until(moved, 30, "five tasks on the two that are left")
    web.wait_served(80, 5, (web.machines[name] for name in alive))
    web.tool("power-on", worker.name)
    web.wait_node(worker.name, "ready")
    # Nothing left over: containers of tasks that were moved are gone there.
    until(lambda: not worker.docker("ps", "-q").stdout.split(), 30, "no stale containers on worker2")
    web.wait_served(80, 5, [worker])


def test_all_machines_reboot_at_once(web: Lab) -> None:
    web.wait_running("my-nginx", 5)
    web.tool("power-off", *web.machines)
    web.tool("power-on", *web.machines)
    until(lambda: answers(web.manager), 60, "the manager's API answers")
    for name in web.machines:
        web.wait_node(name, "ready")
    web.wait_running("my-nginx", 5, 90)
    web.wait_served(80, 5)
