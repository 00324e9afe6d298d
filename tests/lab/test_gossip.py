"""Gossip between machines: the dead leave the balancers without any manager; filtered gossip empties none, and is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.support import Lab, Machine, until
from tests.lab.support import addresses as all_addresses

pytestmark = pytest.mark.lab

Say = Callable[[str], None]

# Seconds until no balancer has a node's tasks, or all have: 8 and 5 it shall be, which test_swim.py holds on a virtual clock. Here a
# busy machine may take longer to look, and to be asked.
GONE, BACK = 16.0, 12.0
DETECTED = 30.0  # 7 s until they are dead for gossip, and what a look takes
LAPSED = 60.0  # 30 s after that, and what a look takes


def addresses(tasks: Iterable[dict[str, Any]]) -> set[str]:
    """As the mesh's balancers have them, which a machine without a task has too."""
    return all_addresses(tasks, "ingress")


def shown(manager: Machine) -> set[str]:
    """The states that `node ls` has."""
    return set(manager.shoal("node", "ls", "--format", "{{.Status}}").stdout.splitlines())


@contextmanager
def filtered(machines: list[Machine]) -> Iterator[None]:
    """Nothing comes in on 7946; VXLAN does."""
    rules = (
        "table inet filtered { chain input { type filter hook input priority -10; th dport 7946 drop; }; }"
    )
    for machine in machines:
        machine.sh(f"echo '{rules}' | nft -f -")
    try:
        yield
    finally:
        for machine in machines:
            machine.sh("nft delete table inet filtered")


def after(began: float, condition: Callable[[], bool], limit: float, what: str, say: Say) -> None:
    """It holds at most `limit` seconds after `began`; says when it did, by the clock at the start of the look that found it so."""

    def looked() -> float:
        at = time.monotonic()
        return at - began if condition() else 0.0

    say(f"{what}: after {until(looked, limit, what):.1f} s")


def spread(web: Lab) -> None:
    """Tasks on every machine, wherever earlier failures have taken them, and every machine's balancers send to all."""
    tasks = web.wait_running("my-nginx", 5)
    if {m.name for m in map(web.node_of, tasks)} != set(web.machines):
        for count in (1, 5):
            web.manager.docker("service", "scale", "--detach", f"my-nginx={count}")
            tasks = web.wait_running("my-nginx", count)
    everywhere = addresses(tasks)
    until(lambda: all(everywhere <= m.backends() for m in web.machines.values()), 30, "all send to all")


def test_a_node_that_is_cut_off_leaves_the_balancers_without_any_manager(web: Lab, say: Say) -> None:
    spread(web)
    manager, worker, lost = web.manager, web.machines["worker1"], web.machines["worker2"]
    tasks = web.wait_running("my-nginx", 5)
    left = [task for task in tasks if web.node_of(task) is not lost]
    (victim, *_) = [task for task in left if web.node_of(task) is worker]
    everywhere, there = addresses(tasks), addresses([task for task in tasks if task not in left])
    both = (manager, worker)
    manager.run("systemctl", "stop", "shoal-manager.socket", "shoal-manager")
    try:
        began = time.monotonic()
        web.tool("cut", lost.name)
        after(
            began, lambda: not any(there & m.backends() for m in both), GONE, f"{lost.name} gets nothing", say
        )
        until(lambda: web.serves(80, len(left), both), 30, "those that are left answer")
        until(lambda: lost.backends() & everywhere == there, DETECTED, f"{lost.name} sees nobody else")
        worker.run("kill", "-9", str(victim["Status"]["ContainerStatus"]["PID"]))
        dead = addresses([victim])
        began = time.monotonic()
        after(
            began,
            lambda: not any(dead & m.backends() for m in both),
            BACK,
            "the killed task gets nothing",
            say,
        )
        until(lambda: web.serves(80, len(left) - 1, both), 30, "those that are left answer")
        began = time.monotonic()
        web.tool("heal", lost.name)
        living = everywhere - dead
        for machine in web.machines.values():
            after(
                began,
                lambda m=machine: living <= m.backends(),
                BACK,
                f"{machine.name} sends to all again",
                say,
            )
    finally:
        web.tool("heal", lost.name)
        manager.run("systemctl", "start", "shoal-manager.socket", "shoal-manager")
    web.wait_node(lost.name, "ready")
    web.wait_running("my-nginx", 5)
    until(lambda: web.serves(80, 5), 30, "all three machines serve five tasks again")


def test_a_node_that_is_cut_off_and_comes_back(web: Lab, say: Say) -> None:
    """With managers, who hold it Down meanwhile and have its tasks run elsewhere."""
    spread(web)
    lost = web.machines["worker2"]
    tasks = web.wait_running("my-nginx", 5)
    there = addresses([task for task in tasks if web.node_of(task) is lost])
    others = [machine for machine in web.machines.values() if machine is not lost]
    began = time.monotonic()
    web.tool("cut", lost.name)
    try:
        after(
            began,
            lambda: not any(there & m.backends() for m in others),
            GONE,
            f"{lost.name} gets nothing",
            say,
        )
        web.wait_node(lost.name, "down", DETECTED)

        def moved() -> list[dict[str, Any]]:
            found = web.wait_running("my-nginx", 5)
            return [] if lost in [web.node_of(task) for task in found] else found

        replaced = until(moved, DETECTED, f"what ran on {lost.name} runs elsewhere")
    finally:
        began = time.monotonic()
        web.tool("heal", lost.name)
    wanted = addresses(replaced)
    after(
        began,
        lambda: wanted <= lost.backends() and not there & lost.backends(),
        BACK,
        f"{lost.name} sends to all",
        say,
    )
    web.wait_node(lost.name, "ready")
    until(lambda: web.serves(80, 5), 30, "all three machines serve five tasks")


def test_filtered_gossip_empties_no_balancer_and_is_told(web: Lab) -> None:
    manager, machines = web.manager, list(web.machines.values())
    until(lambda: shown(manager) == {"Ready"}, 30, "gossip sees all three nodes")
    until(lambda: web.serves(80, 5), 30, "all three machines serve five tasks")
    before = {task["ID"] for task in web.wait_running("my-nginx", 5)}
    with filtered(machines):
        until(
            lambda: shown(manager) == {"Ready, unseen"},
            DETECTED,
            "node ls says that gossip sees none of them",
        )
        inspected = manager.docker("node", "inspect", "--format", "{{.Status.Message}}", "worker1").stdout
        assert "is port 7946 open" in inspected
        for found in web.connections([f"{machine.addr}:80" for machine in machines], 25).values():
            assert found and not any(k.startswith("FAILED") for k in found), found
        until(lambda: web.serves(80, 5), LAPSED, "managers are believed that all nodes live")
        assert {task["ID"] for task in web.wait_running("my-nginx", 5)} == before
    until(lambda: shown(manager) == {"Ready"}, 30, "gossip sees all three nodes again")
    assert web.serves(80, 5)
