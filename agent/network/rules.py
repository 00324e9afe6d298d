"""The text of the nftables tables: VIPs, DNS redirect and the mesh's way back in a task, the mesh itself in the host.

Pure; used by plan.py. One table per namespace, replaced whole in one transaction: a NAT chain sees only the first
packet of a connection, so established ones are not touched. The version of libnftables matters: 1.0.6 wants a
newline before the brace that closes a chain or a map, and takes plain words like mark or zone for no names.

IPv6 has tables of its own beside them, where there is something to say in it: what they hold is the same, and connections carry the
marks of their backends' IPv4 addresses, so that conntrack forgets those of both families at once.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from agent.network import names
from agent.network.facts import Table

_LOCAL: Final = "127.0.0.0/8"
_FROM_MESH: Final = f"ct mark 0x1-{names.LARGEST_NODE_MARK:#x}"
_MASQUERADED: Final = names.BACKEND_MARK | names.MASQUERADED
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
FLOW_SECONDS: Final = 180
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Family:
    """What the two families are called in a table's text."""

    name: str
    addresses: str
    # Quick answers when nobody serves: a refused connection instead of a time-out.
    refuse: tuple[str, ...]


V4: Final = Family(
    "ip", "ipv4_addr", ("meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable")
)
V6: Final = Family(
    "ip6", "ipv6_addr", ("meta l4proto tcp reject with tcp reset", "reject with icmpv6 type port-unreachable")
)


@dataclass(frozen=True, slots=True)
class Balancer:
    """A virtual address and who stands behind it, in a stable order."""

    service_id: str
    vip: str
    backends: tuple[str, ...]
    marked: tuple[str, ...] = ()  # the IPv4 addresses of the same, where `backends` are IPv6 ones


@dataclass(frozen=True, slots=True)
class Published:
    """A port of this machine; `backends` in the ingress network, or the one task of a host-mode port."""

    protocol: str  # tcp, udp or sctp
    port: int
    target: int
    backends: tuple[str, ...]
    addresses: tuple[
        str, ...
    ] = ()  # of this machine, or subnets that those lie in: nothing else is published; () for all
    masquerade: bool = False  # backends see this node's address instead of the client's
    marked: tuple[str, ...] = ()  # the IPv4 addresses of the same, where `backends` are IPv6 ones
    masqueraded: frozenset[str] = frozenset()  # IPv4 addresses of those that do in any case


@dataclass(frozen=True, slots=True)
class WayBack:
    """A task's leg in the ingress network: replies leave through the node that took the connection."""

    interface: str
    address: str
    nodes: tuple[tuple[int, str], ...]  # (number, ingress address)


def rotated(backends: Sequence[T], *salt: str) -> tuple[T, ...]:
    """The same backends from another start for each client: a fresh round-robin counter begins at 0 everywhere."""
    if not backends:
        return ()
    start = int.from_bytes(hashlib.sha256("/".join(salt).encode()).digest()[:4], "big") % len(backends)
    return (*backends[start:], *backends[:start])


def _chain(name: str, lines: Iterable[str]) -> list[str]:
    return [f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"]


def _hook(name: str, kind: str, hook: str, priority: int, lines: Iterable[str]) -> list[str]:
    return _chain(name, [f"type {kind} hook {hook} priority {priority}; policy accept;", *lines])


def _map(name: str, types: str, elements: Iterable[str], more: str = "") -> list[str]:
    text = ", ".join(elements)
    inside = f"{types}; {more}" + (f"elements = {{ {text} }}" if text else "")
    return [f"  map {name} {{ {inside}", "  }"]


def _pairs(item: Balancer | Published, *salt: str) -> tuple[tuple[str, str], ...]:
    """(address that it is marked by, address) of each backend, rotated."""
    return rotated(tuple(zip(item.marked or item.backends, item.backends, strict=True)), *salt)


def _picked(
    backends: Sequence[tuple[str, str]], flags: int = 0, masqueraded: Collection[str] = ()
) -> tuple[str, str]:
    """The statement that picks one backend by its mark, and the map from marks to addresses."""
    marks = [
        names.backend_mark(marked) | flags | (names.MASQUERADED if marked in masqueraded else 0)
        for marked, _ in backends
    ]
    picks = ", ".join(f"{n} : {mark:#x}" for n, mark in enumerate(marks))
    addresses = [address for _, address in backends]
    targets = ", ".join(
        f"{mark:#x} : {a}" for mark, a in sorted(dict(zip(marks, addresses, strict=True)).items())
    )
    return f"ct mark set numgen inc mod {len(marks)} map {{ {picks} }}", f"{{ {targets} }}"


def _balanced(backends: Sequence[tuple[str, str]], family: Family) -> tuple[str, ...]:
    """Statements of a VIP, for every protocol: pick a backend, mark the connection with it and translate to it."""
    if not backends:
        return family.refuse
    pick, targets = _picked(backends)
    return (
        pick,
        f"meta l4proto udp ct mark set ct mark or {names.DATAGRAMS:#x}",
        f"dnat to ct mark and {names.BACKEND_MASK:#x} map {targets}",
    )


def _published(item: Published, node_id: str, family: Family) -> list[str]:
    """The chain of a published port."""
    name = f"{item.protocol}_{item.port}"
    flags = names.DATAGRAMS if item.protocol == "udp" else 0
    flags |= names.MASQUERADED if item.masquerade else 0
    lines: list[str] = []
    if item.addresses:
        lines.append(f"{family.name} daddr != {{ {', '.join(sorted(item.addresses))} }} return")
    if item.backends:
        pick, targets = _picked(_pairs(item, node_id, name), flags, item.masqueraded)
        lines += [pick, f"meta l4proto {item.protocol} dnat to ct mark map {targets} : {item.target}"]
    else:
        lines += family.refuse
    return _chain(name, lines)


def _table(lines: Sequence[str], family: Family, name: str = names.TABLE, flags: str = "") -> Table:
    body = "\n".join(lines)
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    flagged = f" {{ flags {flags}; }}" if flags else ""
    text = "\n".join((
        f"table {family.name} {name}{flagged}",
        f"delete table {family.name} {name}",
        f"table {family.name} {name} {{",
        *((f"  flags {flags}",) if flags else ()),
        *_chain(marker(digest), ()),
        body,
        "}\n",
    ))  # fmt: skip
    return Table(digest, text, name, family.name)


chain, hook, verdicts, table = _chain, _hook, _map, _table  # what bridges.py makes its own table with


@lru_cache
def seal_tables() -> frozenset[Table]:
    """What keeps plain text in when somebody takes the kernel's IPsec policies away, until they are back. One survives the agent; the
    other is the agent's own (`owner`): who flushes all rules, and the policies with them, leaves that one standing."""
    port = f"udp dport {names.SEALED_PORT}"
    lines = _hook("sealed_out", "filter", "output", 0, [f"{port} rt ipsec missing counter drop"])
    lines += _hook("sealed_in", "filter", "input", 0, [f"{port} meta ipsec missing counter drop"])
    return frozenset((_table(lines, V4, names.SEALS_TABLE), _table(lines, V4, names.HELD_TABLE, "owner")))


def marker(digest: str) -> str:
    """Name of the empty chain that tells which text a table was made from."""
    return f"plan_{digest}"


def task_table(
    task_id: str, balancers: Iterable[Balancer], way_back: WayBack | None, family: Family = V4
) -> Table:
    """The table of one family in a task's namespace; the resolver is asked by IPv4."""
    lines: list[str] = []
    entries: list[str] = []
    for balancer in sorted(balancers, key=lambda b: (int(ipaddress.ip_address(b.vip)), b.service_id)):
        chain = names.chain_name("vip", balancer.vip)
        entries.append(f"{balancer.vip} : goto {chain}")
        lines += _chain(chain, _balanced(_pairs(balancer, task_id, balancer.service_id), family))
    lines += _map("vips", f"type {family.addresses} : verdict", entries)
    dns = (
        f"ip daddr {names.DNS_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53"
        f" dnat to {names.DNS_ADDRESS}:{names.DNS_PORT}"
    )
    lookup = f"{family.name} daddr vmap @vips"
    lines += _hook("from_inside", "nat", "output", -100, [dns, lookup] if family is V4 else [lookup])
    lines += _hook("from_others", "nat", "prerouting", -100, [lookup])
    if way_back is not None and way_back.nodes:
        lines += _way_back(way_back)
    return _table(lines, family)


def _way_back(way: WayBack) -> list[str]:
    """Marks and zones by the node that sent a connection, told by the MAC of its ingress leg.

    One zone per node, so that equal 5-tuples from two nodes don't clash; the empty nat chain at input lets conntrack
    change the port where they do.
    """
    inside = f'iifname "{way.interface}"'
    lines = _map("mesh_nodes", "type ether_addr : mark", (f"{names.mac(a)} : {n}" for n, a in way.nodes))
    lines += _map(
        "mesh_zones", "typeof ether saddr : ct zone", (f"{names.mac(a)} : {n}" for n, a in way.nodes)
    )
    lines += _hook(
        "mesh_zone", "filter", "prerouting", -300,
        [f"{inside} ct original zone set ether saddr map @mesh_zones"],
    )  # fmt: skip
    lines += _hook(
        "mesh_mark", "filter", "prerouting", -150,
        [
            f"{inside} ct state new ct mark set ether saddr map @mesh_nodes",
            f"{inside} {_FROM_MESH} meta mark set ct mark",
        ],
    )  # fmt: skip
    lines += _hook("mesh_clash", "nat", "input", 100, ())
    lines += _hook(
        "mesh_reply", "route", "output", -150,
        [f"ct direction reply {_FROM_MESH} meta mark set ct mark"],
    )  # fmt: skip
    return lines


@lru_cache(maxsize=1024)
def flows_table(interface: str, address: str, sctp: Collection[int] = ()) -> Table:
    """The second table in the namespace of a task of the mesh, the same for as long as that lives; of the address's family.

    UDP servers bound to 0.0.0.0 or :: choose a source address before the mark can reroute their answer: `mesh_flows` remembers
    where a datagram came from, `mesh_source` puts the right address in. Datagrams of either direction keep a flow alive,
    for longer than conntrack does (two minutes at most). In a table of its own, for a change of any service in the task's
    networks makes the other table anew, and answers may be due.

    SCTP chooses its source by the route, too, whatever its socket is bound to (`sctp`: the task's ports of the mesh). And both ends
    look for further ways to each address that the other has named (RFC 9260, 5.1.2 and 8.3). Nobody has translated those: whoever
    is there knows no such association, and says so, which ends it. What looks for them is dropped, at its start and at its end.
    """
    return (_flows4 if ":" not in address else _flows6)(interface, address, sorted(sctp))


_FLOWS: Final = f"flags dynamic,timeout; timeout {FLOW_SECONDS}s; size 65536;"
_HEARTBEAT: Final = "@th,96,8 4"  # the first chunk's type


def _remembered(sctp: Collection[int]) -> Mapping[str, str]:
    """Maps of flows by protocol."""
    return {"udp": "mesh_flows", **({"sctp": "mesh_paths"} if sctp else {})}


def _no_further_ways(sctp: Collection[int], interface: str) -> list[str]:
    if not sctp:
        return []
    ports = ", ".join(map(str, sctp))
    unknown = f"{_HEARTBEAT} ct state new,invalid drop"
    sent = f"meta l4proto sctp sctp sport {{ {ports} }} {unknown}"
    came = f'iifname "{interface}" meta l4proto sctp {unknown}'
    return [
        *_hook("mesh_ways_out", "filter", "output", 0, [sent]),
        *_hook("mesh_ways_in", "filter", "input", 0, [came]),
    ]


def _flows4(interface: str, address: str, sctp: Collection[int]) -> Table:
    maps = _remembered(sctp)
    lines: list[str] = []
    for name in maps.values():
        lines += _map(name, "type ipv4_addr . inet_service . inet_service : mark", (), _FLOWS)
    lines += _hook(
        "mesh_remember", "filter", "input", 200,
        [
            f'iifname "{interface}" {_FROM_MESH} meta l4proto {kind}'
            f" update @{name} {{ ip saddr . {kind} sport . {kind} dport : ct mark }}"
            for kind, name in maps.items()
        ],
    )  # fmt: skip
    lines += _hook(
        "mesh_source", "route", "output", -300,
        [
            f"ip saddr != {address} meta l4proto {kind}"
            f" meta mark set ip daddr . {kind} dport . {kind} sport map @{name}"
            f" update @{name} {{ ip daddr . {kind} dport . {kind} sport : meta mark }}"
            f" ip saddr set {address}"
            for kind, name in maps.items()
        ],
    )  # fmt: skip
    lines += _no_further_ways(sctp, interface)
    return _table(lines, V4, names.FLOWS_TABLE)


def _flows6(interface: str, address: str, sctp: Collection[int]) -> Table:
    """By a hash of addresses and ports: libnftables 1.0.6 aborts the process on an `update` with a longer key than 16 bytes,
    and looks nothing up by a hash but what is a mark already."""
    maps = _remembered(sctp)
    digest = "jhash ip6 {0}addr . {2} {0}port . {2} {1}port mod 0xffffffff seed 0x5a17"
    lines: list[str] = []
    for name in maps.values():
        lines += _map(name, "type mark : mark", (), _FLOWS)
    lines += _hook(
        "mesh_remember", "filter", "input", 200,
        [
            f'iifname "{interface}" {_FROM_MESH} meta l4proto {kind}'
            f" update @{name} {{ {digest.format('s', 'd', kind)} : ct mark }}"
            for kind, name in maps.items()
        ],
    )  # fmt: skip
    for kind, name in maps.items():
        answer = digest.format("d", "s", kind)
        lines += _chain(
            f"{name.removesuffix('s')}",
            [
                f"meta mark set {answer}",
                f"meta mark set meta mark map @{name} update @{name} {{ {answer} : meta mark }}"
                f" ip6 saddr set {address} return",
                "meta mark set 0",
            ],
        )
    lines += _hook(
        "mesh_source", "route", "output", -300,
        [f"meta l4proto {kind} meta mark == 0 jump {name.removesuffix('s')}" for kind, name in maps.items()],
    )  # fmt: skip
    lines += _no_further_ways(sctp, interface)
    return _table(lines, V6, names.FLOWS_TABLE)


def host_table(node_id: str, published: Iterable[Published], gateway_subnet: str) -> Table:
    """The table in the host's namespace: published ports, and the way out of docker_gwbridge."""
    lines = _ports(node_id, published, V4)
    legs, out = f'{{ "{names.INGRESS_LEG}", "{names.GATEWAY_BRIDGE}" }}', f'oifname "{names.GATEWAY_BRIDGE}"'
    # 127.0.0.1:port works by route_localnet on our legs; nobody behind them may use that in the other direction.
    lines += _hook("guard_loopback", "filter", "prerouting", -150, [f"iifname {legs} ip daddr {_LOCAL} drop"])
    lines += _hook(
        "way_out", "nat", "postrouting", 100,
        [
            f"ip saddr {_LOCAL} oifname {legs} masquerade",
            f'oifname "{names.INGRESS_LEG}" ct mark and {_MASQUERADED:#x} == {_MASQUERADED:#x} masquerade',
            f'ip saddr {gateway_subnet} oifname != "{names.GATEWAY_BRIDGE}" masquerade',
            f"ip saddr {gateway_subnet} {out} ct status dnat masquerade",
        ],
    )  # fmt: skip
    # Only what was published may be reached from outside or from another container.
    lines += _hook(
        "guard_inside", "filter", "forward", 0,
        [f"oifname {legs} ct state new ct status & dnat == 0 drop"],
    )  # fmt: skip
    return _table(lines, V4)


def host_table6(node_id: str, published: Iterable[Published]) -> Table:
    """The IPv6 one: docker_gwbridge has no part in it. The kernel itself takes nothing for ::1 from another machine."""
    lines = _ports(node_id, published, V6)
    out = f'oifname "{names.INGRESS_LEG}"'
    lines += _hook(
        "way_out", "nat", "postrouting", 100,
        [
            f"ip6 saddr ::1 {out} masquerade",
            f"{out} ct mark and {_MASQUERADED:#x} == {_MASQUERADED:#x} masquerade",
        ],
    )  # fmt: skip
    lines += _hook("guard_inside", "filter", "forward", 0, [f"{out} ct state new ct status & dnat == 0 drop"])
    return _table(lines, V6)


def _ports(node_id: str, published: Iterable[Published], family: Family) -> list[str]:
    """Chains of the published ports, and where they are looked up."""
    lines: list[str] = []
    entries: dict[str, list[str]] = {protocol: [] for protocol in _PROTOCOLS}
    for item in sorted(published, key=lambda p: (p.protocol, p.port)):
        entries[item.protocol].append(f"{item.port} : goto {item.protocol}_{item.port}")
        lines += _published(item, node_id, family)
    lookups = []
    for protocol, ports in entries.items():
        lines += _map(f"{protocol}_ports", "type inet_service : verdict", ports)
        lookups.append(f"fib daddr type local {protocol} dport vmap @{protocol}_ports")
    lines += _hook(
        "from_outside", "nat", "prerouting", -100, [f'iifname "{names.INGRESS_LEG}" return', *lookups]
    )
    return lines + _hook("from_inside", "nat", "output", -100, lookups)
