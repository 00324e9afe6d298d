"""The ports of this machine that lead to tasks: those of the routing mesh, and single tasks' in host mode. Pure.

The plan makes rules of them; manager.py asks whether a port is taken, forgetting.py who is behind a UDP port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from agent.network import backends, dual, names
from agent.network.dual import Serving
from agent.network.legs import attached_legs, ingress_network, ways_out
from agent.network.rules import Published
from agent.state import NodeState
from common import model, publishing

_PROTOCOLS: Final = {
    model.PortProtocol.PROTOCOL_UNSET: "tcp",
    model.PortProtocol.TCP: "tcp",
    model.PortProtocol.UDP: "udp",
    model.PortProtocol.SCTP: "sctp",
}
# In a swarm of more nodes a task would need too many routes: there the mesh masquerades.
MOST_WAYS_BACK: Final = 500


def published(state: NodeState, gateways: Mapping[str, str], offered: Serving) -> tuple[Published, ...]:
    """By IPv4, one entry per port; `gateways` are attached tasks' addresses on docker_gwbridge, `offered` who is behind the mesh.

    A task that stops and its successor may hold one host-mode port for a moment: the newest has it."""
    tasks = {tid: state.tasks[tid].task for tid in gateways}
    found = {(item.protocol, item.port): item for item in _host_mode(tasks, gateways)}
    ingress = ingress_network(state)
    if ingress is not None:
        found |= {(item.protocol, item.port): item for _, item in _meshed(state, ingress.id, offered, 4)}
    return tuple(found.values())


def published6(state: NodeState, ingress_id: str, offered: Serving, marks: Serving) -> list[Published]:
    """By IPv6: the mesh's ports, of services that have tasks with such addresses."""
    able = dual.services(state, ingress_id)
    return [
        replace(item, marked=marks.get((service_id, ingress_id), ()))
        for service_id, item in _meshed(state, ingress_id, offered, 6)
        if service_id in able
    ]


def published_ports(state: NodeState, attached: Mapping[str, str]) -> frozenset[tuple[str, int]]:
    """(protocol, port) of all that is published on this node, by the mesh and in host mode."""
    found = published(state, {t: a for t, a in attached.items() if t in state.tasks}, {})
    return frozenset((item.protocol, item.port) for item in found)


def datagram_ports(state: NodeState, attached: Mapping[str, str]) -> Mapping[int, frozenset[int]]:
    """The UDP ports published here, and the marks of all that their clients' datagrams may go on to."""
    gateways = ways_out(attached, attached_legs(state, attached))
    return {
        item.port: frozenset(names.backend_mark(address) for address in item.backends)
        for item in published(state, gateways, backends.present(state))
        if item.protocol == "udp" and item.backends
    }


def host_ports(task: model.Task) -> Iterator[tuple[str, model.PortConfig]]:
    """A task's host-mode ports, and their protocols."""
    for port in task.ports:
        protocol = _PROTOCOLS.get(port.protocol)
        if port.published_port and protocol and port.publish_mode is model.PublishMode.HOST:
            yield protocol, port


def keeps_addresses(state: NodeState) -> bool:
    """Whether tasks know a way back through every node; all nodes find the same, for all are in the ingress network."""
    return sum(bool(node.ingress_addr) for node in state.nodes.values()) <= MOST_WAYS_BACK


def _meshed(
    state: NodeState, ingress_id: str, offered: Serving, version: int
) -> Iterator[tuple[str, Published]]:
    """The ports of each service that are published on addresses of one family."""
    large, blind = not keeps_addresses(state), _blind(state, ingress_id)
    for service in state.services.values():
        addresses = _of_family(service.publish_addresses, version)
        for port in service.ports if addresses is not None else ():
            protocol = _PROTOCOLS.get(port.protocol)
            if port.published_port and protocol and port.publish_mode is not model.PublishMode.HOST:
                yield service.id, Published(
                    protocol, port.published_port, port.target_port, offered.get((service.id, ingress_id), ()),
                    addresses or (), service.masquerade or large,
                    masqueraded=blind.get(service.id, frozenset()),
                )  # fmt: skip


def _blind(state: NodeState, ingress_id: str) -> Mapping[str, frozenset[str]]:
    """By service, the addresses of its tasks on nodes that can't lead answers back by marks."""
    found: dict[str, frozenset[str]] = {}
    for e in state.endpoints.values():
        node = state.nodes.get(e.node_id)
        if e.network_id == ingress_id and node is not None and node.masquerade:
            found[e.service_id] = found.get(e.service_id, frozenset()) | {e.addr}
    return found


def _of_family(addresses: tuple[str, ...], version: int) -> tuple[str, ...] | None:
    """Those of one family; None where there are others only: nothing is published on this one then."""
    found = tuple(address for address in addresses if (":" in address) is (version == 6))
    return found if found or not addresses else None


def _host_mode(tasks: Mapping[str, model.Task], gateways: Mapping[str, str]) -> Iterator[Published]:
    """Oldest first, and those before that are to stop."""

    def age(tid: str) -> tuple[bool, int]:
        return tasks[tid].desired_state <= model.TaskState.TASK_RUNNING, tasks[tid].assigned_index

    for tid in sorted(gateways, key=age):
        addresses = _of_family(publishing.addresses(tasks[tid].service_labels), 4)
        if addresses is None:
            continue
        for protocol, port in host_ports(tasks[tid]):
            yield Published(protocol, port.published_port, port.target_port, (gateways[tid],), addresses)
