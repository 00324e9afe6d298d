"""What a kernel's network is made of, as comparable values: one fact is one object in one namespace.

plan.py says which facts there should be, kernel.py reads those that there are and carries out the difference, which
is computed here. Pure. Fields with compare=False are needed to make an object but don't tell whether it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.network import names

UDP: Final = 17  # as IP headers have it (IANA, protocol numbers)
SCTP: Final = 132
_LINK_LOCAL: Final = "169.254."


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespace itself; made with its loopback up."""


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A file below /proc/sys, as seen in the namespace."""

    path: str
    value: str


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge that is up; addresses with prefix length where it has some."""

    name: str
    mtu: int
    address: str = ""
    address6: str = ""


@dataclass(frozen=True, slots=True)
class Vxlan:
    """The tunnel's end: lives in a sandbox, its UDP socket in the host's namespace."""

    name: str
    vni: int
    local: str
    mtu: int
    bridge: str = field(compare=False)
    port: int = names.VXLAN_PORT


@dataclass(frozen=True, slots=True)
class SealState:
    """One direction of ESP between two nodes, with one key (encryption.py)."""

    source: str
    destination: str
    spi: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """What happens to packets for the port of encrypted tunnels: "out" they are sealed by the state `spi` on their way to
    `destination`, or dropped where there is none; "in" they must have been sealed."""

    direction: str
    source: str = ""
    destination: str = ""
    spi: int = 0


@dataclass(frozen=True, slots=True)
class Veth:
    """A leg: this end is `name` here, the other a bridge port in `peer_namespace`."""

    name: str
    mac: str
    mtu: int
    peer: str = field(compare=False)
    peer_namespace: str = field(compare=False)
    bridge: str = field(compare=False)
    isolated: bool = field(compare=False, default=False)


@dataclass(frozen=True, slots=True)
class Port:
    """The other end of a leg, in its bridge and up; isolated ports don't talk to each other."""

    name: str
    bridge: str
    isolated: bool = False
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Address:
    """An address with prefix length on a leg."""

    interface: str
    address: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent answer to ARP, or to IPv6's neighbour discovery, on the tunnel."""

    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Where the tunnel sends frames for a MAC."""

    mac: str
    vtep: str


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """The way out, of one family. A container may have put another in its place: any default route counts."""

    gateway: str = field(compare=False)
    interface: str = field(compare=False)
    version: int = 4


@dataclass(frozen=True, slots=True)
class LinkRoute:
    """Another subnet of the network that a leg is in: its addresses are reached over the leg directly."""

    destination: str
    interface: str


@dataclass(frozen=True, slots=True)
class ReturnRoute:
    """The way back through the node that took a connection."""

    table: int
    gateway: str
    interface: str


@dataclass(frozen=True, slots=True)
class ReturnRule:
    """Packets with this mark use that table."""

    mark: int
    table: int
    version: int = 4


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """What goes by IPv6 from a port of the mesh, without a connection that has a mark, uses that table. There is no default route
    for it to be thought possible by, before its mark is known."""

    port: int
    table: int
    protocol: int = UDP


@dataclass(frozen=True, slots=True)
class LoopbackRoute:
    """::1 over a leg as well: answers come in by it to what the mesh has taken at [::1]. Nobody can send to ::1 from there."""

    interface: str


@dataclass(frozen=True, slots=True)
class Table:
    """One of the namespace's nftables tables; `digest` of its text stands in the kernel as a chain's name."""

    digest: str
    text: str = field(compare=False, repr=False)
    name: str = names.TABLE
    family: str = "ip"


Fact = (
    Namespace
    | Sysctl
    | SealState
    | SealPolicy
    | Bridge
    | Vxlan
    | Veth
    | Port
    | Address
    | Neighbour
    | Forward
    | DefaultRoute
    | LinkRoute
    | ReturnRoute
    | ReturnRule
    | AnswerRule
    | LoopbackRoute
    | Table
)
Facts = frozenset[Fact]
KernelView = Mapping[str, Facts]  # by namespace

# In this order things are made, over all namespaces; the other way round they are removed.
_ORDER: Final[tuple[type, ...]] = (
    Namespace, Sysctl, SealState, SealPolicy, Bridge, Vxlan, Veth, Port, Address, Forward, Neighbour, DefaultRoute, LinkRoute, ReturnRoute,
    ReturnRule, AnswerRule, LoopbackRoute, Table,
)  # fmt: skip
_RANK: Final = {kind: rank for rank, kind in enumerate(_ORDER)}

# A container with NET_ADMIN may add what it likes to its own namespace: only these are taken away there.
_REMOVED_IN_TASKS: Final = (ReturnRoute, ReturnRule, AnswerRule)


@dataclass(frozen=True, slots=True)
class Change:
    """One step towards the plan."""

    namespace: str
    fact: Fact
    remove: bool = False


def shown(change: Change) -> str:
    """A step that was taken, for the log; neither keys nor tables' texts are in it."""
    return f"{change.namespace or 'host'}: {change.fact!r} {'removed' if change.remove else 'made'}"


def rank(fact: Fact) -> int:
    """Where a fact stands in the order of making; a sysctl of an interface comes after the interface."""
    if isinstance(fact, Sysctl) and _interface(fact):
        return _RANK[Port]
    return _RANK[Sysctl] if is_guard(fact) else _RANK[type(fact)]


def is_guard(fact: Fact) -> bool:
    """Whether it keeps plain text in: it stands before any tunnel of an encrypted network, and goes after the last one."""
    if isinstance(fact, Table):
        return fact.name in (names.SEALS_TABLE, names.HELD_TABLE)
    return isinstance(fact, SealPolicy) and not fact.destination


def sealed_tunnels(view: KernelView) -> frozenset[str]:
    """Namespaces with the tunnel of an encrypted network."""
    return frozenset(
        name
        for name, facts in view.items()
        if any(isinstance(f, Vxlan) and f.port == names.SEALED_PORT for f in facts)
    )


def held_back(view: KernelView) -> KernelView:
    """`view` without the tunnels of encrypted networks and what is in them: what is to be where the guards can't be made."""
    gone = (Vxlan, Forward, Neighbour)
    without = {
        name: frozenset(f for f in view[name] if not isinstance(f, gone)) for name in sealed_tunnels(view)
    }
    return {**view, **without}


def _interface(fact: Sysctl) -> str:
    return sysctl_interface(fact.path)


def sysctl_interface(path: str) -> str:
    """Whose sysctl it is: it comes with that interface and goes with it; "" for one of the namespace."""
    if not path.startswith(("net/ipv4/conf/", "net/ipv6/conf/")):
        return ""
    interface = path.split("/")[3]
    return "" if interface in ("all", "default") else interface


def _key(change: Change) -> tuple[int, str, bool, str]:
    """Programs take an interface's first address for its own: link-local ones come behind."""
    fact = change.fact
    beside = isinstance(fact, Address) and fact.address.startswith(_LINK_LOCAL)
    return rank(fact), change.namespace, beside, repr(fact)


def _additions(namespace: str, actual: Facts, desired: Facts) -> Iterable[Change]:
    return (Change(namespace, fact) for fact in desired - actual)


def _removals(namespace: str, actual: Facts, desired: Facts) -> Iterable[Change]:
    """What is to go: with a namespace everything in it goes, but a tunnel's end has to be named (its VNI is taken)."""
    if Namespace() in actual and Namespace() not in desired:
        return (Change(namespace, f, remove=True) for f in actual if isinstance(f, Namespace | Vxlan))
    extra = actual - desired
    if names.task_of(namespace) is not None:
        extra = frozenset(f for f in extra if isinstance(f, _REMOVED_IN_TASKS))
    kept = {_identity(f) for f in desired}
    return (Change(namespace, f, remove=True) for f in extra if _goes(f) and _identity(f) not in kept)


def _goes(fact: Fact) -> bool:
    """A sysctl and a way out are set, never taken back."""
    return not isinstance(fact, Sysctl | DefaultRoute | Namespace)


def _identity(fact: Fact) -> object:
    """Facts of one identity replace each other in place: making the new one is enough."""
    match fact:
        case Bridge(name=name) | Vxlan(name=name) | Veth(name=name) | Port(name=name):
            return type(fact), name
        case SealState(destination=destination, spi=spi):
            return SealState, destination, spi
        case SealPolicy(direction=direction, source=source, destination=destination):
            return SealPolicy, direction, source, destination
        case Neighbour(address=address):
            return Neighbour, address
        case Forward(mac=mac):
            return Forward, mac
        case ReturnRoute(table=table, gateway=gateway):
            return ReturnRoute, table, ":" in gateway
        case Table(name=name, family=family):
            return Table, name, family
        case Sysctl(path=path):
            return Sysctl, path
        case _:
            return fact


def difference(actual: KernelView, desired: KernelView) -> tuple[Change, ...]:
    """The steps from `actual` to `desired`, in the order in which they work: first what is new, then what goes.

    Something is offered after it is reachable and is taken away after it is no longer offered, so removals are last.
    """
    additions: list[Change] = []
    removals: list[Change] = []
    for namespace in sorted(actual.keys() | desired.keys()):
        have, want = actual.get(namespace, frozenset()), desired.get(namespace, frozenset())
        if have == want:
            continue
        additions += _additions(namespace, have, want)
        removals += _removals(namespace, have, want)
    return (*sorted(additions, key=_key), *sorted(removals, key=_key, reverse=True))


def after(view: KernelView, changes: Iterable[Change]) -> dict[str, Facts]:
    """`view` once `changes` are done."""
    result = {namespace: set(facts) for namespace, facts in view.items()}
    for change in changes:
        facts = result.setdefault(change.namespace, set())
        if not change.remove:
            identity = _identity(change.fact)
            facts -= {f for f in facts if type(f) is type(change.fact) and _identity(f) == identity}
            facts.add(change.fact)
        elif isinstance(change.fact, Namespace):
            result.pop(change.namespace)
        else:
            facts.discard(change.fact)
            if isinstance(change.fact, Bridge | Vxlan | Veth):
                facts -= {f for f in facts if isinstance(f, Sysctl) and _interface(f) == change.fact.name}
    return {namespace: frozenset(facts) for namespace, facts in result.items()}
