"""What stays of containers and of a swarm when somebody says something else."""

from __future__ import annotations

from dataclasses import replace

from agent.network import names
from agent.network.bridges import BridgeLeg, BridgeNetwork, Local, Wired
from agent.network.wanted import Wanted
from agent.state import NodeState
from tests.unit.network.small_swarm import UNDERLAY, state, task

CONTAINER = "c" * 64
NET = BridgeNetwork("n" * 64, "br-nnn", "172.20.0.0/16", "172.20.0.1")
LOCAL = Local({NET.id: NET}, {CONTAINER: Wired((BridgeLeg(NET.id, "eth0", "172.20.0.2"),))})


def test_a_container_whose_task_is_dropped_keeps_its_network() -> None:
    wanted, with_task = Wanted(), state((), task("t1", ("app", "10.0.1.10")))
    wanted.assign(with_task)
    wanted.attach("t1", with_task.tasks["t1"], "172.18.0.2")
    wanted.assign(replace(with_task, tasks={}))
    assert wanted.assignment("t1") is None
    assert wanted.known().tasks == with_task.tasks
    assert names.task_namespace("t1") in wanted.view(UNDERLAY)
    assert wanted.detach("t1") == ["172.18.0.2"]
    assert wanted.known().tasks == {}
    assert names.task_namespace("t1") not in wanted.view(UNDERLAY)


def test_who_is_found_at_the_start() -> None:
    wanted = Wanted()
    assert wanted.adopt("t1")
    assert not wanted.adopt(CONTAINER)
    assert (wanted.is_single("t1"), wanted.is_single(CONTAINER)) == (False, True)
    assert wanted.namespaces() == [names.task_namespace(CONTAINER), names.task_namespace("t1")]


def test_single_containers_outlive_the_swarm() -> None:
    wanted = Wanted()
    assert wanted.idle
    wanted.assign(state((), task("t1")))
    wanted.attach("t1", task("t1"), "172.18.0.2")
    wanted.wire(LOCAL)
    wanted.adopt(CONTAINER)
    assert (wanted.vtep, wanted.needs_gateway_bridge) == ("192.0.2.1", True)
    assert wanted.gateway_addresses() == {"t1": "172.18.0.2"}
    wanted.leave()
    assert wanted.state == NodeState()
    assert (wanted.vtep, wanted.needs_gateway_bridge, wanted.idle) == ("", False, False)
    assert set(wanted.attached) == {CONTAINER}
    assert names.task_namespace(CONTAINER) in wanted.view(UNDERLAY)
    assert wanted.detach(CONTAINER) == ["172.20.0.2"]
    wanted.wire(Local())
    assert wanted.idle
