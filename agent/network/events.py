"""What the kernel tells of changes in a namespace, and whether they contradict the picture of it. Pure.

watch.py hands in netlink's messages, kernel.py asks for the judgement. Only what goes away is told: a deletion is seldom,
while additions are mostly our own. The kernel's own changes are judged by the picture: what we have taken away ourselves is no
longer in it. Whatever else differs (an MTU, a sysctl, an entry that leads elsewhere) is found by the next reconciliation.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from agent.network import names
from agent.network.facts import (
    Address,
    AnswerRule,
    Bridge,
    DefaultRoute,
    Facts,
    Forward,
    LinkRoute,
    LoopbackRoute,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    SealPolicy,
    SealState,
    Table,
    Veth,
    Vxlan,
)

NEW_LINK: Final = 16
DEL_LINK: Final = 17
DEL_ADDRESS: Final = 21
DEL_ROUTE: Final = 25
DEL_NEIGHBOUR: Final = 29
DEL_RULE: Final = 33
NEW_GENERATION: Final = 10 << 8 | 15  # nftables: one for each transaction
# IPsec's: numbers of their own, of which some mean something else in the routing family.
DEL_STATE: Final = 0x11
DEL_POLICY: Final = 0x14
STATE_EXPIRED: Final = 0x18
POLICY_EXPIRED: Final = 0x1B
FLUSHED_STATES: Final = 0x1C
FLUSHED_POLICIES: Final = 0x1D

FAMILY_BRIDGE: Final = 7
FAMILY_IPV4: Final = 2
FAMILY_IPV6: Final = 10
HEADER: Final = 16
_MAIN: Final = 254
_LOCAL: Final = 255
_LOOPBACK: Final = "::1/128"
_ALIGN: Final = 4
_UDP: Final = 17


@dataclass(frozen=True, slots=True)
class LinkLost:
    """An interface is gone, down, or in its bridge no more."""

    name: str


@dataclass(frozen=True, slots=True)
class AddressLost:
    """An address with prefix length."""

    address: str


@dataclass(frozen=True, slots=True)
class NeighbourLost:
    """An answer to ARP."""

    address: str


@dataclass(frozen=True, slots=True)
class ForwardLost:
    """An entry of a tunnel's forwarding database."""

    mac: str
    vtep: str


@dataclass(frozen=True, slots=True)
class RouteLost:
    """A route; `destination` is empty for a default one. Of those for ::1, which several legs have, the metric tells whose."""

    table: int
    destination: str
    version: int = 4
    metric: int = 0


@dataclass(frozen=True, slots=True)
class RuleLost:
    """A rule by a mark."""

    mark: int
    table: int
    version: int = 4


@dataclass(frozen=True, slots=True)
class TablesChanged:
    """A transaction of nftables, by the thread or process of this name."""

    by: str


@dataclass(frozen=True, slots=True)
class StateLost:
    """A state of IPsec; all of them where it has no destination."""

    destination: str = ""
    spi: int = 0


@dataclass(frozen=True, slots=True)
class PolicyLost:
    """A policy of IPsec for the port of encrypted tunnels; all policies where it has no direction."""

    direction: str = ""
    source: str = ""
    destination: str = ""


Event = (
    LinkLost
    | AddressLost
    | NeighbourLost
    | ForwardLost
    | RouteLost
    | RuleLost
    | TablesChanged
    | StateLost
    | PolicyLost
)


def parse(data: bytes, ipsec: bool = False) -> Iterator[Event]:
    """The events in what was received at once, of IPsec's socket or another; messages that tell none of ours are left out."""
    offset = 0
    while offset + HEADER <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < HEADER or offset + length > len(data):
            return
        body = data[offset + HEADER : offset + length]
        event = _ipsec(kind, body) if ipsec else _event(kind, body)
        if event is not None:
            yield event
        offset += _aligned(length)


def contradicts(picture: Facts, events: Iterable[Event], ourselves: str) -> Event | None:
    """The first event after which something that the picture has is there no more; transactions by `ourselves` are known."""
    return next((event for event in events if _contradicts(picture, event, ourselves)), None)


def told(event: Event) -> str:
    """What is gone, in words."""
    match event:
        case LinkLost(name=name):
            return f"interface {name}"
        case AddressLost(address=address):
            return f"address {address}"
        case NeighbourLost(address=address):
            return f"neighbour {address}"
        case ForwardLost(mac=mac, vtep=vtep):
            return f"entry {mac} to {vtep}"
        case RouteLost(table=table, destination=destination):
            return f"route to {destination or 'everything'} in table {table}"
        case RuleLost(mark=mark, table=table):
            return f"rule of mark {mark:#x} and table {table}"
        case TablesChanged(by=by):
            return f"nftables, by {by}"
        case StateLost(destination=destination):
            return f"IPsec state to {destination}" if destination else "IPsec's states"
        case PolicyLost(direction=direction, destination=destination):
            return f"IPsec policy {direction} {destination}".rstrip() if direction else "IPsec's policies"


def _contradicts(picture: Facts, event: Event, ourselves: str) -> bool:
    match event:
        case LinkLost(name=name):
            return any(isinstance(f, Bridge | Vxlan | Veth | Port) and f.name == name for f in picture)
        case AddressLost(address=address):
            return any(
                (isinstance(f, Address) and f.address == address)
                or (isinstance(f, Bridge) and address in (f.address, f.address6))
                for f in picture
            )
        case NeighbourLost(address=address):
            return any(isinstance(f, Neighbour) and f.address == address for f in picture)
        case ForwardLost(mac=mac, vtep=vtep):
            return Forward(mac, vtep) in picture
        case RouteLost():
            return any(_is_route(f, event) for f in picture)
        case RuleLost(mark=0, table=table, version=6):
            return any(isinstance(f, AnswerRule) and f.table == table for f in picture)
        case RuleLost(mark=mark, table=table, version=version):
            return ReturnRule(mark, table, version) in picture
        case StateLost(destination=destination, spi=spi):
            states = (f for f in picture if isinstance(f, SealState))
            return any(not destination or (f.destination, f.spi) == (destination, spi) for f in states)
        case PolicyLost(direction=direction, source=source, destination=destination):
            lost = direction, source, destination
            policies = (f for f in picture if isinstance(f, SealPolicy))
            return any(not direction or (f.direction, f.source, f.destination) == lost for f in policies)
        case TablesChanged(by=by):
            return by != ourselves and any(isinstance(f, Table) for f in picture)


def _is_route(fact: object, lost: RouteLost) -> bool:
    match fact:
        case DefaultRoute(version=version):
            return lost == RouteLost(_MAIN, "", version)
        case LinkRoute(destination=wanted):
            return (lost.table, lost.destination) == (_MAIN, wanted)
        case ReturnRoute(table=table, gateway=gateway):
            return lost == RouteLost(table, "", 6 if ":" in gateway else 4)
        case LoopbackRoute(interface=interface):
            return lost == RouteLost(_LOCAL, _LOOPBACK, 6, names.loopback_metric(interface))
        case _:
            return False


# ---- netlink's format


def _aligned(length: int) -> int:
    return (length + _ALIGN - 1) & ~(_ALIGN - 1)


def _attributes(body: bytes, offset: int) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4 or offset + length > len(body):
            break
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]
        offset += _aligned(length)
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _address(value: bytes) -> str:
    return str(ipaddress.ip_address(value)) if len(value) in (4, 16) else ""


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0


def _link(body: bytes) -> Event:
    return LinkLost(_text(_attributes(body, 16).get(3, b"")))


def _address_of(body: bytes) -> Event:
    return AddressLost(f"{_address(_attributes(body, 8).get(1, b''))}/{body[1]}")


def _route(body: bytes) -> Event:
    found = _attributes(body, 12)
    destination = f"{_address(found[1])}/{body[1]}" if 1 in found else ""
    table = _number(found.get(15, b"")) or body[4]
    metric = _number(found.get(6, b"")) if (table, destination) == (_LOCAL, _LOOPBACK) else 0
    return RouteLost(table, destination, _version(body), metric)


def _neighbour(body: bytes) -> Event:
    found = _attributes(body, 12)
    if body[0] != FAMILY_BRIDGE:
        return NeighbourLost(_address(found.get(1, b"")))
    return ForwardLost(":".join(f"{byte:02x}" for byte in found.get(2, b"")), _address(found.get(1, b"")))


def _rule(body: bytes) -> Event:
    found = _attributes(body, 12)
    return RuleLost(_number(found.get(10, b"")), _number(found.get(15, b"")) or body[4], _version(body))


def _version(body: bytes) -> int:
    return 6 if body[0] == FAMILY_IPV6 else 4


def _generation(body: bytes) -> Event:
    return TablesChanged(_text(_attributes(body, 4).get(3, b"")))


_ANY_FAMILY: Final = frozenset(range(256))
_IP: Final = frozenset({FAMILY_IPV4, FAMILY_IPV6})
_PARSERS: Final[Mapping[int, tuple[Callable[[bytes], Event], frozenset[int]]]] = {
    NEW_LINK: (_link, _ANY_FAMILY),  # watch.py lets one through when the link went down
    DEL_LINK: (_link, _ANY_FAMILY),
    DEL_ADDRESS: (_address_of, _IP),
    DEL_ROUTE: (_route, _IP),
    DEL_NEIGHBOUR: (_neighbour, _IP | {FAMILY_BRIDGE}),
    DEL_RULE: (_rule, _IP),
    NEW_GENERATION: (_generation, _ANY_FAMILY),
}


def _event(kind: int, body: bytes) -> Event | None:
    parser, families = _PARSERS.get(kind, (None, _ANY_FAMILY))
    if parser is None or len(body) < (4 if kind == NEW_GENERATION else 8) or body[0] not in families:
        return None
    return parser(body)


# ---- IPsec's: structures whose fields lie at fixed places

_STATE_ID: Final = struct.Struct("=16s4sHB")
_STATE_AT: Final = 56  # of a whole state, its own address and index, after the selector
_SELECTOR: Final = struct.Struct("=16s16s2s8xBBB")  # destination, source, port; lengths of prefixes, protocol
_POLICY_ID_SIZE: Final = 64
_POLICY: Final = 7  # the attribute that shows a whole policy
_POLICY_SIZE: Final = 168
_DIRECTION_AT: Final = 160
_DIRECTIONS: Final = ("in", "out")


def _ipsec(kind: int, body: bytes) -> Event | None:
    if kind == DEL_STATE and len(body) >= _STATE_ID.size:
        return _state(body)
    if kind == STATE_EXPIRED and len(body) >= _STATE_AT + _STATE_ID.size:
        return _state(body[_STATE_AT:])
    if kind == DEL_POLICY:
        return _policy(_attributes(body, _POLICY_ID_SIZE).get(_POLICY, b""))
    if kind == POLICY_EXPIRED:
        return _policy(body)
    if kind == FLUSHED_STATES:
        return StateLost()
    return PolicyLost() if kind == FLUSHED_POLICIES else None


def _state(body: bytes) -> Event:
    destination, spi, *_ = _STATE_ID.unpack_from(body)
    return StateLost(_ipv4(destination), int.from_bytes(spi, "big"))


def _policy(body: bytes) -> Event | None:
    if len(body) < _POLICY_SIZE or body[_DIRECTION_AT] >= len(_DIRECTIONS):
        return None
    destination, source, port, _, _, protocol = _SELECTOR.unpack_from(body)
    if (int.from_bytes(port, "big"), protocol) != (names.SEALED_PORT, _UDP):
        return None
    return PolicyLost(_DIRECTIONS[body[_DIRECTION_AT]], _ipv4(source), _ipv4(destination))


def _ipv4(value: bytes) -> str:
    return str(ipaddress.IPv4Address(value[:4])) if any(value) else ""
