"""The text of the nftables tables: VIPs, DNS redirect and the mesh's way back in a task, the mesh itself in the host.

Pure; used by plan.py. One table per namespace, replaced whole in one transaction: a NAT chain sees only the first
packet of a connection, so established ones are not touched. The version of libnftables matters: 1.0.6 wants a
newline before the brace that closes a chain or a map, and takes plain words like mark or zone for no names.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.network import names
from agent.network.facts import Table

_LOCAL: Final = "127.0.0.0/8"
_FROM_MESH: Final = f"ct mark 0x1-{names.LARGEST_NODE_MARK:#x}"
# Quick answers when nobody serves: a refused connection instead of a time-out.
_REFUSE: Final = ("meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable")


@dataclass(frozen=True, slots=True)
class Balancer:
    """A virtual address and who stands behind it, in a stable order."""

    service_id: str
    vip: str
    backends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A port of this machine; `backends` in the ingress network, or the one task of a host-mode port."""

    protocol: str  # tcp or udp
    port: int
    target: int
    backends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WayBack:
    """A task's leg in the ingress network: replies leave through the node that took the connection."""

    interface: str
    address: str
    nodes: tuple[tuple[int, str], ...]  # (number, ingress address)


def rotated(backends: Sequence[str], *salt: str) -> tuple[str, ...]:
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


def _round_robin(backends: Sequence[str], protocol: str = "", port: int = 0) -> tuple[str, ...]:
    """Statements that pick one backend, mark the connection with it and translate to it."""
    if not backends:
        return _REFUSE
    marks = [names.backend_mark(address) for address in backends]
    picks = ", ".join(f"{n} : {mark:#x}" for n, mark in enumerate(marks))
    targets = ", ".join(f"{mark:#x} : {a}" for mark, a in sorted(zip(marks, backends, strict=True)))
    match, suffix = (f"meta l4proto {protocol} ", f" : {port}") if port else ("", "")
    return (
        f"ct mark set numgen inc mod {len(marks)} map {{ {picks} }}",
        f"{match}dnat to ct mark map {{ {targets} }}{suffix}",
    )


def _table(lines: Sequence[str]) -> Table:
    body = "\n".join(lines)
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    text = "\n".join((
        f"table ip {names.TABLE}",
        f"delete table ip {names.TABLE}",
        f"table ip {names.TABLE} {{",
        *_chain(marker(digest), ()),
        body,
        "}\n",
    ))  # fmt: skip
    return Table(digest, text)


def marker(digest: str) -> str:
    """Name of the empty chain that tells which text a table was made from."""
    return f"plan_{digest}"


def task_table(task_id: str, balancers: Iterable[Balancer], way_back: WayBack | None) -> Table:
    """The table in a task's namespace."""
    lines: list[str] = []
    entries: list[str] = []
    for balancer in sorted(balancers, key=lambda b: (int(ipaddress.IPv4Address(b.vip)), b.service_id)):
        chain = names.chain_name("vip", balancer.vip)
        entries.append(f"{balancer.vip} : goto {chain}")
        lines += _chain(chain, _round_robin(rotated(balancer.backends, task_id, balancer.service_id)))
    lines += _map("vips", "type ipv4_addr : verdict", entries)
    lines += _hook(
        "from_inside", "nat", "output", -100,
        [
            f"ip daddr {names.DNS_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53"
            f" dnat to {names.DNS_ADDRESS}:{names.DNS_PORT}",
            "ip daddr vmap @vips",
        ],
    )  # fmt: skip
    lines += _hook("from_others", "nat", "prerouting", -100, ["ip daddr vmap @vips"])
    if way_back is not None and way_back.nodes:
        lines += _way_back(way_back)
    return _table(lines)


def _way_back(way: WayBack) -> list[str]:
    """Marks and zones by the node that sent a connection, told by the MAC of its ingress leg.

    One zone per node, so that equal 5-tuples from two nodes don't clash; the empty nat chain at input lets conntrack
    change the port where they do. UDP servers bound to 0.0.0.0 choose a source address before the mark can reroute
    their answer: `mesh_flows` remembers where a datagram came from, `mesh_source` puts the right address in.
    """
    inside = f'iifname "{way.interface}"'
    lines = _map("mesh_nodes", "type ether_addr : mark", (f"{names.mac(a)} : {n}" for n, a in way.nodes))
    lines += _map(
        "mesh_zones", "typeof ether saddr : ct zone", (f"{names.mac(a)} : {n}" for n, a in way.nodes)
    )
    lines += _map(
        "mesh_flows", "type ipv4_addr . inet_service . inet_service : mark", (),
        "flags dynamic,timeout; timeout 3m; size 65536;",
    )  # fmt: skip
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
    lines += _hook(
        "mesh_remember", "filter", "input", 200,
        [
            f"{inside} {_FROM_MESH} meta l4proto udp"
            " update @mesh_flows { ip saddr . udp sport . udp dport : ct mark }",
        ],
    )  # fmt: skip
    lines += _hook("mesh_clash", "nat", "input", 100, ())
    lines += _hook(
        "mesh_source", "route", "output", -300,
        [
            f"ip saddr != {way.address} meta l4proto udp"
            f" meta mark set ip daddr . udp dport . udp sport map @mesh_flows ip saddr set {way.address}",
        ],
    )  # fmt: skip
    lines += _hook(
        "mesh_reply", "route", "output", -150,
        [f"ct direction reply {_FROM_MESH} meta mark set ct mark"],
    )  # fmt: skip
    return lines


def host_table(node_id: str, published: Iterable[Published], gateway_subnet: str) -> Table:
    """The table in the host's namespace: published ports, and the way out of docker_gwbridge."""
    lines: list[str] = []
    entries: dict[str, list[str]] = {"tcp": [], "udp": []}
    for item in sorted(published, key=lambda p: (p.protocol, p.port)):
        chain = f"{item.protocol}_{item.port}"
        entries[item.protocol].append(f"{item.port} : goto {chain}")
        backends = rotated(item.backends, node_id, chain)
        lines += _chain(chain, _round_robin(backends, item.protocol, item.target))
    lookups = []
    for protocol, ports in entries.items():
        lines += _map(f"{protocol}_ports", "type inet_service : verdict", ports)
        lookups.append(f"fib daddr type local {protocol} dport vmap @{protocol}_ports")
    legs, out = f'{{ "{names.INGRESS_LEG}", "{names.GATEWAY_BRIDGE}" }}', f'oifname "{names.GATEWAY_BRIDGE}"'
    lines += _hook(
        "from_outside", "nat", "prerouting", -100, [f'iifname "{names.INGRESS_LEG}" return', *lookups]
    )
    lines += _hook("from_inside", "nat", "output", -100, lookups)
    # 127.0.0.1:port works by route_localnet on our legs; nobody behind them may use that in the other direction.
    lines += _hook("guard_loopback", "filter", "prerouting", -150, [f"iifname {legs} ip daddr {_LOCAL} drop"])
    lines += _hook(
        "way_out", "nat", "postrouting", 100,
        [
            f"ip saddr {_LOCAL} oifname {legs} masquerade",
            f'ip saddr {gateway_subnet} oifname != "{names.GATEWAY_BRIDGE}" masquerade',
            f"ip saddr {gateway_subnet} {out} ct status dnat masquerade",
        ],
    )  # fmt: skip
    # Only what was published may be reached from outside or from another container.
    lines += _hook(
        "guard_inside", "filter", "forward", 0,
        [f"oifname {legs} ct state new ct status & dnat == 0 drop"],
    )  # fmt: skip
    return _table(lines)
