"""Three nodes, an ingress and an application network, a published service: what the tests of a node's plan begin with."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

from agent.network import names
from agent.network.facts import Facts, Table
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import model

UNDERLAY = Underlay("192.0.2.1", 1500)
STATES = list(model.EndpointState)
SERVING = model.EndpointState.ENDPOINT_SERVING


def network(identifier: str, third: int, **spec: object) -> model.Network:
    return model.Network(
        id=identifier,
        spec=model.NetworkSpec(name=identifier, **spec),  # type: ignore[arg-type]
        ipam=model.IPAMOptions(configs=(model.IPAMConfig(subnet=f"10.0.{third}.0/24"),)),
        vni=4096 + third,
    )


def task(
    identifier: str, *legs: tuple[str, str], ports: tuple[model.PortConfig, ...] = ()
) -> model.TaskAssignment:
    attachments = tuple(model.NetworkAttachment(network_id=n, addresses=(f"{a}/24",)) for n, a in legs)
    return model.TaskAssignment(task=model.Task(id=identifier, networks=attachments, ports=ports))


def endpoint(
    tid: str, net: str, addr: str, node: str, state: model.EndpointState = SERVING
) -> model.EndpointRecord:
    return model.EndpointRecord(
        task_id=tid, network_id=net, addr=addr, node_id=node, service_id="svc", state=state
    )


def state(endpoints: tuple[model.EndpointRecord, ...] = (), *tasks: model.TaskAssignment) -> NodeState:
    """Three nodes, an ingress and an application network, one published service; this is node n1."""
    service = model.ServiceRecord(
        id="svc", name="web", mode=model.EndpointMode.VIP,
        virtual_ips=(model.VirtualIP("app", "10.0.1.2/24"), model.VirtualIP("ing", "10.0.0.9/24")),
        ports=(model.PortConfig(protocol=model.PortProtocol.TCP, target_port=80, published_port=8080),),
    )  # fmt: skip
    return NodeState(
        node_id="n1",
        tasks={t.task.id: t for t in tasks},
        networks={"ing": network("ing", 0, ingress=True), "app": network("app", 1)},
        services={"svc": service},
        endpoints={(e.task_id, e.network_id): e for e in endpoints},
        nodes={
            f"n{n}": model.NodeRecord(
                id=f"n{n}", vtep=f"192.0.2.{n}", ingress_addr=f"10.0.0.{n + 1}", number=n
            )
            for n in (1, 2, 3)
        },
    )


def table(facts: Facts) -> str:
    return next(fact.text for fact in facts if isinstance(fact, Table) and fact.name == names.TABLE)


def balanced(text: str, chain: str) -> Counter[str]:
    body = text.partition(f"chain {chain} {{")[2].partition("\n  }")[0]
    return Counter(re.findall(r"0x[0-9a-f]+ : (\d+\.\d+\.\d+\.\d+)", body))


def host_mode(protocol: model.PortProtocol, number: int) -> tuple[model.PortConfig, ...]:
    mode = model.PublishMode.HOST
    return (model.PortConfig(protocol=protocol, target_port=80, published_port=number, publish_mode=mode),)


def with_service(given: NodeState, **changes: Any) -> NodeState:
    return replace(given, services={"svc": replace(given.services["svc"], **changes)})
