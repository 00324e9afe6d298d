"""Which overlays a task's container is in, by which interfaces, and who gets a way out by docker_gwbridge. Pure.

Called by the plan and its parts, and by manager.py for a task that is to be attached.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.network import names
from agent.state import NodeState
from common import model

INTERFACE_LABEL: Final = "shoal.interface."  # of a single container's task, before a network's id


@dataclass(frozen=True, slots=True)
class Leg:
    """One interface of a task in an overlay network."""

    interface: str
    network: model.Network
    address: str  # without prefix length
    prefix: int
    address6: str = ""
    prefix6: int = 0
    mac: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that it has."""
        return (self.address, self.address6) if self.address6 else (self.address,)


def legs(state: NodeState, task: model.Task) -> tuple[Leg, ...]:
    """A task's overlay legs in the order of their interfaces: eth0 is in the ingress network, if any is."""
    found = []
    for attachment in task.networks:
        network = state.networks.get(attachment.network_id)
        address = next((a for a in attachment.addresses if ":" not in a), "")
        if network is not None and network.vni and address:
            parsed = ipaddress.IPv4Interface(address)
            six, _, length = next((a for a in attachment.addresses if ":" in a), "").partition("/")
            mac = attachment.mac or names.mac(str(parsed.ip))
            own = (str(parsed.ip), parsed.network.prefixlen, six, int(length or 0), mac)
            chosen = task.labels.get(INTERFACE_LABEL + network.id, "")
            found.append((not network.spec.ingress, chosen, network, own))
    found.sort(key=lambda item: item[0])  # stable: the others stay in their order
    return tuple(Leg(chosen or f"eth{n}", network, *own) for n, (_, chosen, network, own) in enumerate(found))


def needs_gateway(task_legs: Iterable[Leg]) -> bool:
    """A task has a way out unless all its networks are internal ones."""
    task_legs = tuple(task_legs)
    return not task_legs or any(not leg.network.spec.internal for leg in task_legs)


def ingress_network(state: NodeState) -> model.Network | None:
    """The ingress network, when this node has a leg in it."""
    me = state.nodes.get(state.node_id)
    if me is None or not me.ingress_addr:
        return None
    return next((n for n in state.networks.values() if n.spec.ingress and n.vni), None)


def subnets(network: model.Network) -> tuple[ipaddress.IPv4Network, ...]:
    """A network's IPv4 subnets; all of them are one link."""
    configs = network.ipam.configs if network.ipam is not None else ()
    return tuple(ipaddress.IPv4Network(c.subnet) for c in configs if c.subnet and ":" not in c.subnet)


def attached_legs(state: NodeState, attached: Mapping[str, str]) -> dict[str, tuple[Leg, ...]]:
    """The legs of each task that has a namespace and is assigned."""
    return {tid: legs(state, state.tasks[tid].task) for tid in sorted(attached) if tid in state.tasks}


def ways_out(attached: Mapping[str, str], task_legs: Mapping[str, tuple[Leg, ...]]) -> dict[str, str]:
    """The address on docker_gwbridge of each of these tasks that goes out by it."""
    return {tid: attached[tid] for tid, found in task_legs.items() if attached[tid] and needs_gateway(found)}
