"""Gossip between machines: the dead leave the balancers without any manager; filtered gossip empties none, and is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = pytest.mark.lab

DETECTED = 20.0  # 7 s until it is dead for gossip, and what is lost of connections to it meanwhile
LAPSED = 60.0  # 30 s after that, and what a look takes


def well(web: Lab, machines: list[Machine], tasks: int) -> bool:
    """Whether each of them sends to so many tasks, and to none that does not answer."""
    found = web.connections([f"{machine.addr}:80" for machine in machines], 25)
    return all(len(a) == tasks and not any(k.startswith("FAILED") for k in a) for a in found.values())


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


def test_the_dead_leave_the_balancers_without_any_manager(web: Lab) -> None:
    manager, worker, dying = web.manager, web.machines["worker1"], web.machines["worker2"]
    tasks = web.wait_running("my-nginx", 5)
    left = [task for task in tasks if web.node_of(task) is not dying]
    (victim, *_) = [task for task in left if web.node_of(task) is worker]
    manager.run("systemctl", "stop", "shoal-manager.socket", "shoal-manager")
    try:
        web.tool("power-off", dying.name)
        until(
            lambda: well(web, [manager, worker], len(left)), DETECTED, f"{dying.name}'s tasks are not offered"
        )
        worker.run("kill", "-9", str(victim["Status"]["ContainerStatus"]["PID"]))
        until(lambda: well(web, [manager, worker], len(left) - 1), 5, "the killed task is not offered")
    finally:
        manager.run("systemctl", "start", "shoal-manager.socket", "shoal-manager")
        web.tool("power-on", dying.name)
    web.wait_node(dying.name, "ready")
    web.wait_running("my-nginx", 5)
    until(lambda: well(web, list(web.machines.values()), 5), 30, "all three machines serve five tasks again")


def test_filtered_gossip_empties_no_balancer_and_is_told(web: Lab) -> None:
    manager, machines = web.manager, list(web.machines.values())
    until(lambda: shown(manager) == {"Ready"}, 30, "gossip sees all three nodes")
    until(lambda: well(web, machines, 5), 30, "all three machines serve five tasks")
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
        until(lambda: well(web, machines, 5), LAPSED, "managers are believed that all nodes live")
        assert {task["ID"] for task in web.wait_running("my-nginx", 5)} == before
    until(lambda: shown(manager) == {"Ready"}, 30, "gossip sees all three nodes again")
    assert well(web, machines, 5)
