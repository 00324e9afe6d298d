"""IPv6 in the kernel's state that plan.py asks for: where it is switched on, and what stands beside the IPv4 facts. Pure.

A machine that speaks no IPv6 gets none of it, and a namespace without an IPv6 address has it switched off. A leg has one MAC, made
from its IPv4 address; neighbours' entries for both families lead to that, so that the tunnels' forwarding stays as it is.

The routing mesh speaks IPv6 as soon as a task behind a published port has an address: then each node has a leg's address in the ingress
network too, forwards, and has a table of IPv6 rules. Until then nothing of the machine's own IPv6 is touched.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agent.network import names
from agent.network.facts import (
    Address,
    AnswerRule,
    Fact,
    LinkRoute,
    LoopbackRoute,
    Neighbour,
    ReturnRoute,
    ReturnRule,
    Sysctl,
)
from agent.state import NodeState
from common import model

LEAST_MTU: Final = 1280  # below it the kernel has no IPv6 on an interface

OFF: Final = frozenset(Sysctl(f"net/ipv6/conf/{where}/disable_ipv6", "1") for where in ("all", "default"))
# Addresses are nobody else's: looking for another owner would cost a second at each start.
_ON: Final = frozenset(
    Sysctl(f"net/ipv6/conf/{where}/{what}", "0")
    for where in ("all", "default")
    for what in ("accept_dad", "disable_ipv6")
)
# Nobody else in the network may tell a task of addresses and ways out.
IN_TASKS: Final = _ON | {Sysctl("net/ipv6/conf/default/accept_ra", "0")}
# A sandbox has no address, so that nobody speaks there but the tunnel, which answers for its neighbours.
IN_SANDBOXES: Final = _ON | frozenset(
    Sysctl(f"net/ipv6/conf/{where}/addr_gen_mode", "1") for where in ("all", "default")
)

Serving = Mapping[tuple[str, str], tuple[str, ...]]  # addresses by service and network


def deaf(interface: str) -> Sysctl:
    """Containers may send what they like into the machine's own leg, but tell it of no way out."""
    return Sysctl(f"net/ipv6/conf/{interface}/accept_ra", "0")


def plain(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]


def subnets(network: model.Network) -> tuple[ipaddress.IPv6Network, ...]:
    """A network's IPv6 subnets."""
    configs = network.ipam.configs if network.ipam is not None else ()
    return tuple(ipaddress.IPv6Network(c.subnet) for c in configs if ":" in c.subnet)


def meshed(state: NodeState, ingress: model.Network | None) -> str:
    """This node's IPv6 address in the ingress network, with prefix length; empty while nobody there has one."""
    me = state.nodes.get(state.node_id)
    if ingress is None or me is None:
        return ""
    some = any(e.network_id == ingress.id and e.addr6 for e in state.endpoints.values())
    return me.ingress_addr6 if some else ""


def serving(state: NodeState, offered: Serving) -> tuple[Serving, Serving]:
    """The IPv6 addresses of those that are offered, and in the same order the IPv4 ones that connections to them are marked by."""
    known = {(e.network_id, e.addr): e.addr6 for e in state.endpoints.values() if e.addr6}
    if not known:
        return {}, {}
    marks = {
        (service, network): tuple(a for a in addresses if (network, a) in known)
        for (service, network), addresses in offered.items()
    }
    return {key: tuple(known[key[1], a] for a in found) for key, found in marks.items()}, marks


def services(state: NodeState, network_id: str) -> frozenset[str]:
    """Those that have a task with an IPv6 address in a network, offered or not."""
    return frozenset(e.service_id for e in state.endpoints.values() if e.network_id == network_id and e.addr6)


def neighbours(state: NodeState, network: model.Network) -> Iterator[Neighbour]:
    """Answers for the IPv6 addresses that are on other nodes."""
    elsewhere = {node.id for node in state.nodes.values() if node.vtep and node.id != state.node_id}
    for endpoint in state.endpoints.values():
        if endpoint.network_id == network.id and endpoint.addr6 and endpoint.node_id in elsewhere:
            yield Neighbour(endpoint.addr6, endpoint.mac or names.mac(endpoint.addr))
    if network.spec.ingress:
        for node in state.nodes.values():
            if node.ingress_addr and node.ingress_addr6 and node.id in elsewhere:
                yield Neighbour(plain(node.ingress_addr6), names.mac(node.ingress_addr))


def leg(interface: str, network: model.Network, address: str, prefix: int) -> Iterator[Fact]:
    """A task's interface; without an address there IPv6 stays off on it."""
    if not address:
        yield Sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "1")
        return
    yield Sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "0")
    yield Address(interface, f"{address}/{prefix}")
    own = ipaddress.IPv6Address(address)
    for subnet in subnets(network):
        if own not in subnet:
            yield LinkRoute(str(subnet), interface)


def way_back(state: NodeState, interface: str, numbers: Iterable[int]) -> Iterator[Fact]:
    """The routes back through the nodes with these numbers."""
    wanted = set(numbers)
    for node in state.nodes.values():
        if node.number in wanted and node.ingress_addr6:
            table = names.route_table(node.number)
            yield ReturnRoute(table, plain(node.ingress_addr6), interface)
            yield ReturnRule(node.number, table, 6)


def answers(state: NodeState, ports: Iterable[tuple[int, int]]) -> Iterator[AnswerRule]:
    """From these ports of a task (protocol, port) answers are sent by way of this node's leg, unless a mark leads them back through
    another's."""
    me = state.nodes.get(state.node_id)
    if me is not None and me.number and me.ingress_addr6:
        yield from (AnswerRule(port, names.route_table(me.number), protocol) for protocol, port in ports)


def host(address: str) -> Iterator[Fact]:
    """The machine's own leg in the ingress network, and that it forwards."""
    yield Sysctl("net/ipv6/conf/all/forwarding", "1")
    yield Sysctl(f"net/ipv6/conf/{names.INGRESS_LEG}/disable_ipv6", "0")
    yield Address(names.INGRESS_LEG, address)
    yield LoopbackRoute(names.INGRESS_LEG)
