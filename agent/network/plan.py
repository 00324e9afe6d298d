"""The kernel's state that a node's assignments ask for. Pure; wanted.py calls desired() for every change.

Two kinds of namespace belong to us: a sandbox per overlay network (bridge and tunnel) and one per attached task. The
host's own namespace gets docker_gwbridge, the node's leg in the ingress network and one nftables table. What they hold
is put together here, from which legs tasks have (legs.py), who serves (backends.py) and which ports are open (published.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from agent.network import backends, dual, encryption, names, rules
from agent.network.facts import (
    SCTP,
    UDP,
    Address,
    Bridge,
    DefaultRoute,
    Fact,
    Facts,
    Forward,
    KernelView,
    LinkRoute,
    Namespace,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    Sysctl,
    Veth,
    Vxlan,
)
from agent.network.legs import Leg, attached_legs, ingress_network, needs_gateway, subnets, ways_out
from agent.network.published import keeps_addresses, published, published6
from agent.network.rules import Balancer, Published, WayBack
from agent.network.underlay import Underlay, is_encrypted, overlay_mtu, speaks_ipv6
from agent.state import NodeState
from common import model

_NO_BRIDGE_FILTER: Final = frozenset(
    Sysctl(f"net/bridge/bridge-nf-call-{what}", "0") for what in ("iptables", "ip6tables", "arptables")
)
FORWARDING: Final[Facts] = frozenset((*_NO_BRIDGE_FILTER, Sysctl("net/ipv4/ip_forward", "1")))
_SANDBOX: Final[Facts] = frozenset((Namespace(), *_NO_BRIDGE_FILTER))
_TASK: Final[Facts] = frozenset((
    Namespace(),
    Sysctl("net/ipv4/conf/all/rp_filter", "0"),  # clients of the mesh come in by another leg than the way out
    Sysctl("net/ipv4/conf/default/rp_filter", "0"),
    Sysctl("net/ipv4/tcp_fwmark_accept", "1"),  # so that a SYN-ACK tells the MSS of the way it takes
    Sysctl("net/ipv4/ip_unprivileged_port_start", "0"),  # these two as Docker gives them to every container
    Sysctl("net/ipv4/ping_group_range", "0 2147483647"),
))  # fmt: skip


def desired(state: NodeState, attached: Mapping[str, str], underlay: Underlay) -> KernelView:
    """All facts by namespace. `attached` has the tasks with a namespace and their addresses on docker_gwbridge."""
    task_legs = attached_legs(state, attached)
    ingress = ingress_network(state)
    networks = {leg.network.id: leg.network for found in task_legs.values() for leg in found}
    if ingress is not None:
        networks[ingress.id] = ingress
    sealed = tuple(network for network in networks.values() if is_encrypted(network))
    serving = backends.serving(state)
    six, marks = dual.serving(state, serving)
    balancers = {id: backends.balancers(state, id, serving, six, marks) for id in networks}
    mesh6 = dual.meshed(state, ingress) if ingress is not None and speaks_ipv6(ingress, underlay) else ""

    view: dict[str, Facts] = {}
    for network in networks.values():
        if network in sealed and not underlay.seals:
            continue  # never in plain text: a task that was adopted has a leg that leads nowhere
        inside = [
            tid for tid, found in task_legs.items() if any(leg.network.id == network.id for leg in found)
        ]
        has_ipv6 = bool(mesh6 if network is ingress else dual.subnets(network))
        speaks = has_ipv6 and speaks_ipv6(network, underlay)
        view[names.network_namespace(network.id)] = _sandbox(state, network, inside, underlay, speaks)
    for tid, found in task_legs.items():
        view[names.task_namespace(tid)] = _task(state, tid, found, attached[tid], balancers, underlay)
    gateways = ways_out(attached, task_legs)
    ports = published(state, gateways, serving)
    view[names.HOST] = _host(state, ingress, gateways, ports, underlay) | _seals(state, sealed, underlay)
    if ingress is not None and mesh6:
        ports6 = published6(state, ingress.id, six, marks)
        view[names.HOST] |= {*dual.host(mesh6), rules.host_table6(state.node_id, ports6)}
    return view


def _seals(state: NodeState, networks: Collection[model.Network], underlay: Underlay) -> Facts:
    """What seals these networks' tunnels."""
    me = state.nodes.get(state.node_id)
    if not networks or not underlay.seals:
        return frozenset()
    if me is None:
        return encryption.guards()
    vteps = {vtep for network in networks for _, _, vtep in backends.peers(state, network)}
    others = (n for n in state.nodes.values() if n.vtep in vteps and n.id != me.id)
    peers = (encryption.End(n.number, n.vtep) for n in others)
    return encryption.facts(encryption.End(me.number, underlay.address), peers, underlay.keys)


def _sandbox(
    state: NodeState, network: model.Network, tasks: Iterable[str], underlay: Underlay, six: bool
) -> Facts:
    mtu = overlay_mtu(network, underlay)
    port = names.SEALED_PORT if is_encrypted(network) else names.VXLAN_PORT
    facts: set[Fact] = {
        *_SANDBOX,
        *(dual.IN_SANDBOXES if six else dual.OFF),
        Bridge(names.BRIDGE, mtu),
        Vxlan(names.VXLAN, network.vni, underlay.address, mtu, names.BRIDGE, port),
        *(Port(names.sandbox_port(tid), names.BRIDGE, mtu=mtu) for tid in tasks),
    }
    if network.spec.ingress and ingress_network(state) is network:
        facts.add(Port(names.INGRESS_PORT, names.BRIDGE, mtu=mtu))
    for address, mac, vtep in backends.peers(state, network):
        facts |= {Neighbour(address, mac), Forward(mac, vtep)}
    if six:
        facts.update(dual.neighbours(state, network))
    return frozenset(facts)


def _overlay_leg(tid: str, leg: Leg, underlay: Underlay) -> Iterator[Fact]:
    yield Veth(
        leg.interface, leg.mac, overlay_mtu(leg.network, underlay),
        names.sandbox_port(tid), names.network_namespace(leg.network.id), names.BRIDGE,
    )  # fmt: skip
    yield Address(leg.interface, f"{leg.address}/{leg.prefix}")
    own = ipaddress.IPv4Address(leg.address)
    for subnet in subnets(leg.network):
        if own not in subnet:
            yield LinkRoute(str(subnet), leg.interface)


def _task(
    state: NodeState, tid: str, task_legs: tuple[Leg, ...], gateway_address: str,
    balancers: Mapping[str, tuple[Balancer, ...]], underlay: Underlay,
) -> Facts:  # fmt: skip
    task_legs = tuple(
        leg if speaks_ipv6(leg.network, underlay) else replace(leg, address6="") for leg in task_legs
    )
    six = any(leg.address6 for leg in task_legs)
    facts: set[Fact] = {*_TASK, *(dual.IN_TASKS if six else dual.OFF)}
    for leg in task_legs:
        facts.update(_overlay_leg(tid, leg, underlay))
        if six:
            facts.update(dual.leg(leg.interface, leg.network, leg.address6, leg.prefix6))
    if gateway_address and needs_gateway(task_legs):
        name = f"eth{len(task_legs)}"
        facts |= {
            Veth(
                name, names.mac(gateway_address), underlay.mtu,
                names.gateway_port(tid), names.HOST, names.GATEWAY_BRIDGE, isolated=True,
            ),
            Address(name, f"{gateway_address}/{underlay.gateway_prefix}"),
            DefaultRoute(underlay.gateway, name),
        }  # fmt: skip
        if six:
            facts.update(dual.leg(name, model.Network(), "", 0))
    way_back = _way_back(state, task_legs)
    if way_back is not None:
        for number, address in way_back.nodes:
            table = names.route_table(number)
            facts |= {ReturnRoute(table, address, way_back.interface), ReturnRule(number, table)}
        sctp = _targets(state.tasks[tid].task, model.PortProtocol.SCTP)
        facts.add(rules.flows_table(way_back.interface, way_back.address, sctp))
    found = [b for leg in task_legs if not leg.network.spec.ingress for b in balancers[leg.network.id]]
    facts.add(_task_table(tid, tuple(b for b in found if ":" not in b.vip), way_back))
    if six:
        facts |= _task6(state, tid, task_legs, tuple(b for b in found if ":" in b.vip), way_back)
    return frozenset(facts)


def _task6(
    state: NodeState, tid: str, task_legs: tuple[Leg, ...], balancers: tuple[Balancer, ...],
    way_back: WayBack | None,
) -> set[Fact]:  # fmt: skip
    """A task's IPv6 table, and its way back to the nodes."""
    own = next((leg.address6 for leg in task_legs if leg.network.spec.ingress), "")
    way_back = way_back if own else None
    facts: set[Fact] = {_task_table(tid, balancers, way_back, rules.V6)}
    if way_back is not None:
        facts.update(dual.way_back(state, way_back.interface, (number for number, _ in way_back.nodes)))
        task = state.tasks[tid].task
        udp, sctp = (_targets(task, kind) for kind in (model.PortProtocol.UDP, model.PortProtocol.SCTP))
        facts.add(rules.flows_table(way_back.interface, own, sctp))
        facts.update(dual.answers(state, [(UDP, port) for port in udp]))
        facts.update(dual.answers(state, [(SCTP, port) for port in sctp]))
    return facts


def _targets(task: model.Task, protocol: model.PortProtocol) -> frozenset[int]:
    """A task's own ports of a protocol that the mesh publishes."""
    found = (p for p in task.ports if p.protocol is protocol)
    return frozenset(p.target_port for p in found if p.publish_mode is not model.PublishMode.HOST)


_task_table = lru_cache(maxsize=1024)(rules.task_table)


def _way_back(state: NodeState, task_legs: tuple[Leg, ...]) -> WayBack | None:
    leg = next((leg for leg in task_legs if leg.network.spec.ingress), None)
    me = state.nodes.get(state.node_id)
    if leg is None or not keeps_addresses(state) or (me is not None and me.masquerade):
        return None
    nodes = sorted(
        (node.number, node.ingress_addr)
        for node in state.nodes.values()
        if node.ingress_addr and 0 < node.number <= 0xFFFF
    )
    return WayBack(leg.interface, leg.address, tuple(nodes))


def _host(
    state: NodeState, ingress: model.Network | None, gateways: Mapping[str, str],
    ports: Iterable[Published], underlay: Underlay,
) -> Facts:  # fmt: skip
    facts: set[Fact] = {
        *FORWARDING,
        Bridge(names.GATEWAY_BRIDGE, underlay.mtu, f"{underlay.gateway}/{underlay.gateway_prefix}"),
        Sysctl(f"net/ipv4/conf/{names.GATEWAY_BRIDGE}/route_localnet", "1"),
        dual.deaf(names.GATEWAY_BRIDGE),
        *(
            Port(names.gateway_port(tid), names.GATEWAY_BRIDGE, isolated=True, mtu=underlay.mtu)
            for tid in gateways
        ),
    }
    if ingress is not None:
        address = state.nodes[state.node_id].ingress_addr
        facts |= {
            Veth(
                names.INGRESS_LEG, names.mac(address), overlay_mtu(ingress, underlay),
                names.INGRESS_PORT, names.network_namespace(ingress.id), names.BRIDGE,
            ),
            Address(names.INGRESS_LEG, f"{address}/{_prefix(ingress, address)}"),
            Sysctl(f"net/ipv4/conf/{names.INGRESS_LEG}/route_localnet", "1"),
            Sysctl(f"net/ipv4/conf/{names.INGRESS_LEG}/rp_filter", "0"),
            dual.deaf(names.INGRESS_LEG),
        }  # fmt: skip
    facts.add(rules.host_table(state.node_id, ports, underlay.gateway_subnet))
    return frozenset(facts)


def _prefix(network: model.Network, address: str) -> int:
    """The prefix length of the subnet that an address lies in."""
    own = ipaddress.IPv4Address(address)
    return next((subnet.prefixlen for subnet in subnets(network) if own in subnet), 24)
