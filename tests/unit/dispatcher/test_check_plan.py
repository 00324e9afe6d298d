"""Who takes part in a network check and what they are told to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common import errors, model
from common.model import EndpointState, TaskState
from manager.dispatcher import check_plan
from manager.membership import Membership
from manager.store.tables import View, view_of

NET = model.Network(id="net", spec=model.NetworkSpec(name="web-net"), vni=4099)
INGRESS = model.Network(id="ing", spec=model.NetworkSpec(name="ingress", ingress=True))
HOST = model.Network(id="host", spec=model.NetworkSpec(name="host", driver=model.Driver("host")))


def attached(network: str, address: str) -> model.NetworkAttachment:
    return model.NetworkAttachment(network_id=network, addresses=(address,))


def node(name: str, number: int, role: model.NodeRole = model.NodeRole.WORKER) -> model.Node:
    return model.Node(
        id=name, role=role, number=number, attachments=(attached("ing", f"10.0.0.{number}/16"),),
        description=model.NodeDescription(hostname=name.upper()),
        status=model.NodeStatus(model.NodeState.NODE_READY, "", f"192.0.2.{number}"),
    )  # fmt: skip


def task(name: str, on: str, address: str, **more: Any) -> model.Task:
    made = model.Task(
        id=name, service_id="web", node_id=on, networks=(attached("net", f"{address}/24"),),
        status=model.TaskStatus(state=TaskState.TASK_RUNNING), desired_state=TaskState.TASK_RUNNING,
        endpoint=EndpointState.ENDPOINT_SERVING,
    )  # fmt: skip
    return replace(made, **more)


SERVICE = model.Service(
    id="web",
    spec=model.ServiceSpec(name="web"),
    endpoint=model.Endpoint(virtual_ips=(model.VirtualIP("net", "10.0.1.2/24"),)),
)


def world(*objects: Any) -> tuple[View, Membership]:
    nodes = (node("m", 1, model.NodeRole.MANAGER), node("w1", 2), node("w2", 3))
    view = view_of((NET, INGRESS, HOST, *nodes, *objects))
    members = Membership()
    members.reset(view)
    return view, members


def plan(
    *objects: Any, network: str = "net", asker: str = "m", sessions: str = "m w1 w2"
) -> check_plan.Planned:
    view, members = world(*objects)
    ask = model.CheckAsk("c", network)
    return check_plan.planned(view, members, ask, asker, sessions.split(), b"nonce")


TASKS = (SERVICE, task("a", "m", "10.0.1.3"), task("b", "w1", "10.0.1.4"))


def test_every_node_takes_part_and_those_with_a_task_are_on_the_network() -> None:
    made = plan(*TASKS, sessions="m w1")
    assert [(n.id, n.hostname, n.vtep, n.addr, n.leg, n.listens) for n in made.plan.nodes] == [
        ("m", "M", "192.0.2.1", "192.0.2.1", "10.0.1.3", True),
        ("w1", "W1", "192.0.2.2", "192.0.2.2", "10.0.1.4", True),
        ("w2", "W2", "192.0.2.3", "192.0.2.3", "", False),
    ]
    assert made.plan.services == (model.CheckService("web", "10.0.1.2", ("10.0.1.3", "10.0.1.4")),)
    assert made.lives_on == {"10.0.1.3": "m", "10.0.1.4": "w1"}
    assert made.down == {"w2": "its session has just ended"}


def test_a_leg_with_a_mac_of_its_own() -> None:
    legs = tuple(replace(leg, mac="92:d0:c6:0a:29:33") for leg in TASKS[1].networks)
    made = plan(SERVICE, replace(TASKS[1], networks=legs), TASKS[2])
    assert [n.leg_mac for n in made.plan.nodes] == ["92:d0:c6:0a:29:33", "", ""]


def test_a_task_that_does_not_run_yet_makes_no_leg() -> None:
    starting = replace(
        TASKS[1], status=model.TaskStatus(state=TaskState.TASK_STARTING), endpoint=EndpointState.ENDPOINT_NONE
    )
    made = plan(SERVICE, starting)
    assert not any(n.leg for n in made.plan.nodes)
    assert made.plan.services == ()


def test_in_the_ingress_network_all_nodes_are_and_no_service_has_a_name() -> None:
    made = plan(*TASKS, network="ing")
    assert [n.leg for n in made.plan.nodes] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert made.plan.services == ()


def test_a_service_without_a_vip_leads_to_its_tasks() -> None:
    spec = model.ServiceSpec(name="web", endpoint=model.EndpointSpec(mode=model.EndpointMode.DNSRR))
    made = plan(replace(SERVICE, spec=spec), *TASKS[1:])
    assert made.plan.services == (model.CheckService("web", "", ("10.0.1.3", "10.0.1.4")),)


def test_a_worker_may_ask_for_the_networks_that_it_is_on() -> None:
    assert plan(*TASKS, asker="w1")
    for asker in ("w2", "nobody"):
        with pytest.raises(errors.NotFound, match="network net not found"):
            plan(*TASKS, asker=asker)


def test_what_is_no_overlay_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="network host is no overlay"):
        plan(network="host")
    with pytest.raises(errors.NotFound):
        plan(network="gone")


def test_of_a_large_swarm_only_the_networks_own_nodes_probe_each_other() -> None:
    many = [node(f"x{n}", 10 + n) for n in range(check_plan.MOST_NODES)]
    assert [n.id for n in plan(*TASKS, *many).plan.nodes] == ["m", "w1"]
