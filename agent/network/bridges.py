"""Bridges of this node's own and the single containers on them: the kernel's state that they ask for. Pure.

agent/single says what there is (`Local`), wanted.py lays these facts over what plan.py makes of the assignments. Everything in
the host's namespace is in a table of its own, so that it changes without the mesh and stands without a swarm.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.network import dual, names, rules
from agent.network.facts import (
    Address,
    Bridge,
    DefaultRoute,
    Fact,
    Facts,
    KernelView,
    Namespace,
    Port,
    Sysctl,
    Table,
    Veth,
)
from agent.network.legs import INTERFACE_LABEL
from agent.network.plan import FORWARDING
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import model

_LOCAL: Final = "127.0.0.0/8"
_LINK_LOCAL: Final = 16  # the prefix length of 169.254.0.0
ANY: Final = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class BridgeNetwork:
    """A bridge in the host's namespace; docker_gwbridge isn't one of them."""

    id: str
    bridge: str  # the interface
    subnet: str
    gateway: str  # the bridge's own address; empty where the network gives none
    mtu: int = 1500
    internal: bool = False
    talking: bool = True  # its containers reach each other
    masquerade: bool = True
    standing: bool = True  # also while nobody is on it


@dataclass(frozen=True, slots=True)
class BridgeLeg:
    """A container's interface on a bridge."""

    network: str  # a BridgeNetwork's id, or names.GATEWAY_BRIDGE
    interface: str
    address: str  # without prefix length
    mac: str = ""  # another one than belongs to the address
    link_local: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OverlayLeg:
    """A container's interface in an overlay: the place that the managers gave, as a task of the assignments."""

    attachment: str
    interface: str


@dataclass(frozen=True, slots=True)
class Binding:
    """A port of this node that leads to a container."""

    protocol: str
    address: str  # of this node; ANY for all
    port: int
    target: int


@dataclass(frozen=True, slots=True)
class Wired:
    """A container with a namespace, and what is plugged into it."""

    bridges: tuple[BridgeLeg, ...] = ()
    overlays: tuple[OverlayLeg, ...] = ()
    way_out: str = ""  # the network whose gateway is the default one; empty for none
    bindings: tuple[Binding, ...] = ()

    def address(self, network: str) -> str:
        """Its address on a bridge."""
        return next((leg.address for leg in self.bridges if leg.network == network), "")


@dataclass(frozen=True, slots=True)
class Local:
    """All that is this node's own."""

    networks: Mapping[str, BridgeNetwork] = field(default_factory=dict)
    containers: Mapping[str, Wired] = field(default_factory=dict)

    @property
    def needs_kernel(self) -> bool:
        """Whether there is something to be made, with or without containers."""
        return any(network.standing for network in self.networks.values())

    def gateway_addresses(self) -> Mapping[str, str]:
        """Addresses on docker_gwbridge, by container."""
        found = {id: wired.address(names.GATEWAY_BRIDGE) for id, wired in self.containers.items()}
        return {id: address for id, address in found.items() if address}


def assignment(
    container_id: str, wired: Wired, tasks: Mapping[str, model.TaskAssignment]
) -> model.TaskAssignment:
    """A container as plan.py sees it: one task in all of its overlays, with interfaces that were chosen before."""
    networks: list[model.NetworkAttachment] = []
    interfaces: dict[str, str] = {}
    for leg in wired.overlays:
        place = tasks.get(leg.attachment)
        for attachment in place.task.networks if place is not None else ():
            networks.append(attachment)
            interfaces[INTERFACE_LABEL + attachment.network_id] = leg.interface
    return model.TaskAssignment(model.Task(id=container_id, networks=tuple(networks), labels=interfaces))


def laid_over(
    view: KernelView, local: Local, attached: Collection[str], state: NodeState, underlay: Underlay
) -> dict[str, Facts]:
    """`view` with all that is this node's own; `attached` are the containers whose namespaces are to be there."""
    containers = {id: wired for id, wired in local.containers.items() if id in attached}
    result = dict(view)
    for id, wired in containers.items():
        name = names.task_namespace(id)
        facts = view.get(name, frozenset({Namespace()}))
        if facts >= dual.IN_TASKS:  # in an overlay it speaks IPv6, on bridges it doesn't
            facts = facts.union(*(dual.leg(leg.interface, model.Network(), "", 0) for leg in wired.bridges))
        result[name] = facts | _inside(id, wired, local, underlay)
    used = {leg.network for wired in containers.values() for leg in wired.bridges}
    if not state.node_id and names.GATEWAY_BRIDGE not in used:
        result[names.HOST] = frozenset()  # nobody needs docker_gwbridge
    bridges = [n for n in local.networks.values() if n.standing or n.id in used]
    host = set(result.get(names.HOST, frozenset()))
    for network in bridges:
        host |= set(_bridge(network))
    for id, wired in containers.items():
        host |= {_port(id, leg, local, underlay) for leg in wired.bridges}
    if bridges:
        host |= {*FORWARDING, _table(bridges, containers)}
    if host:
        result[names.HOST] = frozenset(host)
    else:
        result.pop(names.HOST, None)
    return result


def udp_bindings(local: Local, attached: Collection[str]) -> frozenset[int]:
    """UDP ports of this node that lead to its own containers."""
    return frozenset(
        binding.port
        for id, wired in local.containers.items()
        if id in attached
        for binding in wired.bindings
        if binding.protocol == "udp"
    )


def _length(network: BridgeNetwork) -> int:
    return ipaddress.IPv4Network(network.subnet).prefixlen


def _bridge(network: BridgeNetwork) -> Iterator[Fact]:
    own = f"{network.gateway}/{_length(network)}" if network.gateway else ""
    yield Bridge(network.bridge, network.mtu, own)
    yield Sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1")


def _port(container_id: str, leg: BridgeLeg, local: Local, underlay: Underlay) -> Port:
    if leg.network == names.GATEWAY_BRIDGE:
        port = names.gateway_port(container_id)
        return Port(port, names.GATEWAY_BRIDGE, isolated=True, mtu=underlay.mtu)
    network, port = local.networks[leg.network], names.bridge_port(container_id, leg.network)
    return Port(port, network.bridge, isolated=not network.talking, mtu=network.mtu)


def _inside(container_id: str, wired: Wired, local: Local, underlay: Underlay) -> Facts:
    facts: set[Fact] = set()
    for leg in wired.bridges:
        port = _port(container_id, leg, local, underlay)
        network = local.networks.get(leg.network)
        length = _length(network) if network is not None else underlay.gateway_prefix
        gateway = network.gateway if network is not None else underlay.gateway
        mac = leg.mac or names.mac(leg.address)
        facts |= {
            Veth(leg.interface, mac, port.mtu, port.name, names.HOST, port.bridge, port.isolated),
            Address(leg.interface, f"{leg.address}/{length}"),
            *(Address(leg.interface, f"{address}/{_LINK_LOCAL}") for address in leg.link_local),
        }
        if leg.network == wired.way_out and gateway:
            facts.add(DefaultRoute(gateway, leg.interface))
    return frozenset(facts)


# ---- rules in the host's namespace


def _table(bridges: Iterable[BridgeNetwork], containers: Mapping[str, Wired]) -> Table:
    bridges = sorted(bridges, key=lambda network: network.bridge)
    published = _published(containers)
    lines: list[str] = []
    lookups: list[str] = []
    for protocol in ("tcp", "udp", "sctp"):
        ports = sorted(port for kind, port in published if kind == protocol)
        entries = [f"{port} : goto {protocol}_{port}" for port in ports]
        for port in ports:
            lines += rules.chain(f"{protocol}_{port}", published[protocol, port])
        lines += rules.verdicts(f"{protocol}_ports", "type inet_service : verdict", entries)
        lookups.append(f"fib daddr type local {protocol} dport vmap @{protocol}_ports")
    # Before the mesh: a port that a container here has stays its own.
    lines += rules.hook("from_outside", "nat", "prerouting", -101, lookups)
    lines += rules.hook("from_inside", "nat", "output", -101, lookups)
    every = ", ".join(f'"{network.bridge}"' for network in bridges)
    legs = f"{{ {every} }}"
    lines += rules.hook(
        "guard_loopback", "filter", "prerouting", -150, [f"iifname {legs} ip daddr {_LOCAL} drop"]
    )
    out = [f"ip saddr {_LOCAL} oifname {legs} masquerade"]
    for network in bridges:
        name, subnet = f'"{network.bridge}"', network.subnet
        if network.masquerade and not network.internal:
            out.append(f"ip saddr {subnet} oifname != {name} masquerade")
        out.append(f"ip saddr {subnet} oifname {name} ct status dnat masquerade")
    lines += rules.hook("way_out", "nat", "postrouting", 100, out)
    guard: list[str] = []
    for network in bridges:
        name = f'"{network.bridge}"'
        if network.internal:
            guard += [f"iifname {name} oifname != {name} drop", f"iifname != {name} oifname {name} drop"]
        else:  # only what was published may be reached from outside or from another bridge
            guard.append(f"oifname {name} iifname != {name} ct state new ct status & dnat == 0 drop")
    lines += rules.hook("guard_inside", "filter", "forward", 0, guard)
    return rules.table(lines, rules.V4, names.LOCAL_TABLE)


def _published(containers: Mapping[str, Wired]) -> Mapping[tuple[str, int], list[str]]:
    """Lines of the chain of each (protocol, port); those for one address go before those for all."""
    found: dict[tuple[str, int], list[tuple[bool, str]]] = {}
    for wired in containers.values():
        address = wired.address(wired.way_out) or next((leg.address for leg in wired.bridges), "")
        for binding in wired.bindings if address else ():
            mark = names.backend_mark(address) | (names.DATAGRAMS if binding.protocol == "udp" else 0)
            only = "" if binding.address == ANY else f"ip daddr {binding.address} "
            line = (
                f"{only}ct mark set {mark:#x} meta l4proto {binding.protocol}"
                f" dnat to {address}:{binding.target}"
            )
            found.setdefault((binding.protocol, binding.port), []).append((not only, line))
    return {key: [line for _, line in sorted(lines)] for key, lines in found.items()}
