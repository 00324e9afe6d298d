"""A single container on docker_gwbridge, on a node that is in no swarm: the plan knows it as a task without networks."""

from __future__ import annotations

from agent.network import names, plan
from agent.network.facts import Address, Bridge, DefaultRoute, Port, Table, Veth, Vxlan
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import model

ID = "c" * 64


def test_it_has_a_way_out_and_nothing_of_a_swarm() -> None:
    state = NodeState(tasks={ID: model.TaskAssignment(model.Task(id=ID))})
    view = plan.desired(state, {ID: "172.18.0.2"}, Underlay(""))
    assert set(view) == {names.HOST, names.task_namespace(ID)}
    inside = view[names.task_namespace(ID)]
    (leg,) = (fact for fact in inside if isinstance(fact, Veth))
    assert (leg.name, leg.peer, leg.bridge) == ("eth0", names.gateway_port(ID), names.GATEWAY_BRIDGE)
    assert {Address("eth0", "172.18.0.2/16"), DefaultRoute("172.18.0.1", "eth0")} <= inside
    host = view[names.HOST]
    assert any(isinstance(fact, Bridge) and fact.name == names.GATEWAY_BRIDGE for fact in host)
    assert Port(names.gateway_port(ID), names.GATEWAY_BRIDGE, isolated=True) in host
    assert any(isinstance(fact, Table) for fact in host)
    assert not any(isinstance(fact, Vxlan) for facts in view.values() for fact in facts)
