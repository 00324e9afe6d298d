"""Bridges of this node's own and the single containers on them: the kernel's state that they ask for. Pure.

agent/single says what there is (`Local`), wanted.py lays these facts over what plan.py makes of the assignments. Everything in
the host's namespace is in a table of its own, so that it changes without the mesh and stands without a swarm.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.network import dual, names, rules
from agent.network.facts import (
    Address,
    Bridge,
    DefaultRoute,
    Fact,
    Facts,
    KernelView,
    LoopbackRoute,
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
ANY6: Final = "::"


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
    subnet6: str = ""  # empty where it has no IPv6
    gateway6: str = ""


@dataclass(frozen=True, slots=True)
class BridgeLeg:
    """A container's interface on a bridge."""

    network: str  # a BridgeNetwork's id, or names.GATEWAY_BRIDGE
    interface: str
    address: str  # without prefix length
    address6: str = ""
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
    address: str  # of this node; ANY for all of IPv4's, ANY6 for all of IPv6's
    port: int
    target: int

    @property
    def version(self) -> int:
        """Which of the container's addresses it leads to."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Wired:
    """A container with a namespace, and what is plugged into it."""

    bridges: tuple[BridgeLeg, ...] = ()
    overlays: tuple[OverlayLeg, ...] = ()
    way_out: str = ""  # the network whose gateway is the default one; empty for none
    bindings: tuple[Binding, ...] = ()
    way_out6: str = ""  # the same of IPv6

    def address(self, network: str) -> str:
        """Its address on a bridge."""
        return next((leg.address for leg in self.bridges if leg.network == network), "")

    def published(self, version: int) -> tuple[str, str]:
        """Where bindings of a family lead to, and the IPv4 address that connections to there are marked by."""
        if version == 6:
            legs = [leg for leg in self.bridges if leg.network == self.way_out6 and leg.address6]
            return next(((leg.address6, leg.address) for leg in legs), ("", ""))
        found = self.address(self.way_out) or next((leg.address for leg in self.bridges), "")
        return found, found


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
    local = local if underlay.ipv6 else _without_ipv6(local)
    containers = {id: wired for id, wired in local.containers.items() if id in attached}
    result = dict(view)
    for id, wired in containers.items():
        name = names.task_namespace(id)
        facts = _speaking(view.get(name, frozenset({Namespace()})), wired, local)
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
    if six := [network for network in bridges if network.subnet6]:
        host |= {Sysctl("net/ipv6/conf/all/forwarding", "1"), _table6(six, containers)}
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


def _length6(network: BridgeNetwork) -> int:
    return ipaddress.IPv6Network(network.subnet6).prefixlen


def _without_ipv6(local: Local) -> Local:
    """What is left of it on a machine whose kernel has no IPv6."""
    networks = {id: replace(network, subnet6="", gateway6="") for id, network in local.networks.items()}
    containers = {
        id: replace(wired, bridges=tuple(replace(leg, address6="") for leg in wired.bridges), way_out6="")
        for id, wired in local.containers.items()
    }
    return Local(networks, containers)


def _speaking(facts: Facts, wired: Wired, local: Local) -> Facts:
    """A container's namespace as plan.py has it, with IPv6 on where it has an address: in an overlay, which the plan knows of,
    or on a bridge. On its other interfaces it stays off."""
    overlays = facts >= dual.IN_TASKS
    if not overlays and not any(leg.address6 for leg in wired.bridges):
        return facts
    found: set[Fact] = {*(facts - dual.OFF), *dual.IN_TASKS}
    for leg in wired.bridges:
        network = local.networks.get(leg.network)
        length = _length6(network) if network is not None and network.subnet6 else 0
        found.update(dual.leg(leg.interface, model.Network(), leg.address6, length))
    for place in wired.overlays if not overlays else ():
        found.update(dual.leg(place.interface, model.Network(), "", 0))
    return frozenset(found)


def _bridge(network: BridgeNetwork) -> Iterator[Fact]:
    own = f"{network.gateway}/{_length(network)}" if network.gateway else ""
    own6 = f"{network.gateway6}/{_length6(network)}" if network.gateway6 else ""
    yield Bridge(network.bridge, network.mtu, own, own6)
    yield Sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1")
    yield dual.deaf(network.bridge)
    if own6:
        yield LoopbackRoute(network.bridge)


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
        if leg.network == wired.way_out6 and network is not None and leg.address6:
            facts.add(DefaultRoute(network.gateway6, leg.interface, 6))
    return frozenset(facts)


# ---- rules in the host's namespace


def _table(bridges: Iterable[BridgeNetwork], containers: Mapping[str, Wired]) -> Table:
    bridges = sorted(bridges, key=lambda network: network.bridge)
    lines = _ports(containers, 4)
    legs = _set(bridges)
    lines += rules.hook(
        "guard_loopback", "filter", "prerouting", -150, [f"iifname {legs} ip daddr {_LOCAL} drop"]
    )
    out = [f"ip saddr {_LOCAL} oifname {legs} masquerade"]
    for network in bridges:
        out += _way_out(network, f"ip saddr {network.subnet}")
    lines += rules.hook("way_out", "nat", "postrouting", 100, out)
    lines += _guard(bridges)
    return rules.table(lines, rules.V4, names.LOCAL_TABLE)


def _table6(bridges: Iterable[BridgeNetwork], containers: Mapping[str, Wired]) -> Table:
    """The same for the bridges that have IPv6. The kernel itself takes nothing for ::1 from a container."""
    bridges = sorted(bridges, key=lambda network: network.bridge)
    lines = _ports(containers, 6)
    out = [f"ip6 saddr ::1 oifname {_set(bridges)} masquerade"]
    for network in bridges:
        out += _way_out(network, f"ip6 saddr {network.subnet6}")
    lines += rules.hook("way_out", "nat", "postrouting", 100, out)
    lines += _guard(bridges)
    return rules.table(lines, rules.V6, names.LOCAL_TABLE)


def _set(bridges: Iterable[BridgeNetwork]) -> str:
    every = ", ".join(f'"{network.bridge}"' for network in bridges)
    return f"{{ {every} }}"


def _ports(containers: Mapping[str, Wired], version: int) -> list[str]:
    """Chains of the published ports of one family, and where they are looked up."""
    published = _published(containers, version)
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
    return lines + rules.hook("from_inside", "nat", "output", -101, lookups)


def _way_out(network: BridgeNetwork, source: str) -> Iterator[str]:
    """How packets from there leave: to the world, and through a published port back to the same bridge."""
    name = f'"{network.bridge}"'
    if network.masquerade and not network.internal:
        yield f"{source} oifname != {name} masquerade"
    yield f"{source} oifname {name} ct status dnat masquerade"


def _guard(bridges: Iterable[BridgeNetwork]) -> list[str]:
    guard: list[str] = []
    for network in bridges:
        name = f'"{network.bridge}"'
        if network.internal:
            guard += [f"iifname {name} oifname != {name} drop", f"iifname != {name} oifname {name} drop"]
        else:  # only what was published may be reached from outside or from another bridge
            guard.append(f"oifname {name} iifname != {name} ct state new ct status & dnat == 0 drop")
    return rules.hook("guard_inside", "filter", "forward", 0, guard)


def _published(containers: Mapping[str, Wired], version: int) -> Mapping[tuple[str, int], list[str]]:
    """Lines of the chain of each (protocol, port); those for one address go before those for all."""
    found: dict[tuple[str, int], list[tuple[bool, str]]] = {}
    family = "ip6" if version == 6 else "ip"
    for wired in containers.values():
        address, marked = wired.published(version)
        place = f"[{address}]" if version == 6 else address
        for binding in (b for b in wired.bindings if address and b.version == version):
            mark = names.backend_mark(marked) | (names.DATAGRAMS if binding.protocol == "udp" else 0)
            only = "" if binding.address in (ANY, ANY6) else f"{family} daddr {binding.address} "
            line = (
                f"{only}ct mark set {mark:#x} meta l4proto {binding.protocol}"
                f" dnat to {place}:{binding.target}"
            )
            found.setdefault((binding.protocol, binding.port), []).append((not only, line))
    return {key: [line for _, line in sorted(lines)] for key, lines in found.items()}
