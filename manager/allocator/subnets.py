"""Subnets and VNIs for networks: out of the pools, apart from every other network and from every node's routes.

IPv6 subnets come out of a /48 of unique local addresses (RFC 4193) that belongs to the cluster, made from its id: the first /64 is
the routing mesh's, the others are networks'. Pure. Used by reconcile.py; `conflict` also by control, which refuses a subnet that a user asks for before it is stored.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from common import model
from manager.store.view import ReadView

DEFAULT_POOLS: Final = ("10.0.0.0/8",)
DEFAULT_SIZE: Final = 24
INGRESS_SIZE: Final = 16
SIZE6: Final = 64
MESH_PREFIXES: Final = range(97)  # an IPv4 address has its place behind
IN_USE: Final = "Address already in use"
VNI_BASE: Final = 0x530000
VNI_END: Final = 1 << 24

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class AllocationError(Exception):
    """Something cannot be given; the text is what users see."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A range that is in use, and by what."""

    subnet: Subnet
    owner: str


def configs_of(network: model.Network) -> tuple[model.IPAMConfig, ...]:
    """The subnets of a network: as allocated, else as asked for."""
    if network.ipam is not None and network.ipam.configs:
        return network.ipam.configs
    return network.spec.ipam.configs if network.spec.ipam is not None else ()


def parse(subnet: str) -> Subnet | None:
    """A subnet of either family; None for what is none."""
    try:
        return ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        return None


def home(network: model.Network, address: str) -> Subnet | None:
    """The subnet of a network that an address lies in."""
    own = ipaddress.ip_address(address)
    found = (parse(config.subnet) for config in configs_of(network) if config.subnet)
    return next((s for s in found if s is not None and s.version == own.version and own in s), None)


def refusal(network: model.Network, address: str) -> str:
    """Why an address that a user asks for can never be given in a network; empty where it can."""
    try:
        own = ipaddress.ip_address(address)
    except ValueError:
        return f"invalid IP address: {address}"
    if "%" in address:
        return f"invalid IP address: {address}"
    if own.version == 6 and not network.spec.ipv6_enabled:
        return f"Invalid address {address}: the network has no IPv6"
    configs = [
        (subnet, c) for c in configs_of(network) if c.subnet and (subnet := parse(c.subnet)) is not None
    ]
    if any(subnet.version == own.version for subnet, _ in configs) and home(network, address) is None:
        return f"Invalid address {address}: It does not belong to any of this network's subnets"
    kept = {plain(a) for _, c in configs for a in (*c.reserved.values(), *filter(None, (c.gateway,)))}
    ends = {str(end) for subnet, _ in configs for end in (subnet.network_address, subnet.broadcast_address)}
    return f"{IN_USE}: {address}" if str(own) in kept | ends else ""


def lies_in(part: Subnet, whole: Subnet) -> bool:
    """Whether all of `part` is in `whole`; never where they are of two families."""
    if isinstance(part, ipaddress.IPv4Network):
        return isinstance(whole, ipaddress.IPv4Network) and part.subnet_of(whole)
    return isinstance(whole, ipaddress.IPv6Network) and part.subnet_of(whole)


def plain(address: str) -> str:
    """An address without prefix length, in the one form that is used here: IPv6 has many for one address."""
    text = address.partition("/")[0]
    return str(ipaddress.IPv6Address(text)) if ":" in text else text


def gateway(subnet: Subnet, asked: model.IPAMConfig) -> str:
    """The first address that the user doesn't keep for something else; raises AllocationError."""
    kept = {plain(address) for address in asked.reserved.values()}
    free = (str(host) for host in subnet.hosts() if str(host) not in kept)
    if (found := next(free, None)) is None:
        raise AllocationError(f"no address of {subnet} is left for the gateway")
    return found


def taken(view: ReadView, ignoring: str = "", going: bool = True) -> list[Taken]:
    """Every range that a new subnet must not touch, but for those of network `ignoring`; without `going` also but for
    those of networks that have been removed and only wait for their last tasks."""
    found: list[Taken] = []
    own: set[Subnet] = set()
    for network in view.networks.all():
        for config in configs_of(network):
            subnet = parse(config.subnet) if config.subnet else None
            if subnet is None:
                continue
            own.add(subnet)
            if network.id != ignoring and (going or not network.pending_delete):
                found.append(Taken(subnet, f"network {network.spec.name} ({subnet})"))
    for node in view.nodes.all():
        for route in node.description.routes:
            subnet = parse(route)
            if subnet is not None and subnet.prefixlen and subnet not in own:
                found.append(Taken(subnet, f"route {subnet} of node {node.description.hostname or node.id}"))
    return found


def conflict(view: ReadView, subnet: str, ignoring: str = "") -> str | None:
    """What `subnet` overlaps, in words; None when nothing does."""
    wanted = parse(subnet)
    if wanted is None:
        return None
    for other in taken(view, ignoring, going=False):
        if wanted.overlaps(other.subnet):
            return f"subnet {wanted} overlaps {other.owner}"
    return None


def first_free(pool: Subnet, prefix: int, used: Iterable[Taken]) -> Subnet | None:
    """The lowest subnet of this size in `pool` that touches none of `used`."""
    size = 1 << (pool.max_prefixlen - prefix)
    start, end = int(pool.network_address), int(pool.broadcast_address)
    ranges = sorted(
        (int(u.subnet.network_address), int(u.subnet.broadcast_address))
        for u in used
        if u.subnet.version == pool.version
    )
    for low, high in ranges:
        if high < start:
            continue
        if low >= start + size:
            break
        start = (high // size + 1) * size
    return type(pool)((start, prefix)) if start + size - 1 <= end else None


def ingress_prefix(pool: Subnet, size: int) -> int:
    """A /16 where the pool has room for it; never more than a sixteenth of the pool."""
    return max(INGRESS_SIZE, pool.prefixlen, min(size, pool.prefixlen + 4))


def site(cluster_id: str) -> ipaddress.IPv6Network:
    """The cluster's own /48: fd, and forty bits that no other site is likely to have."""
    number = 0xFD << 40 | int.from_bytes(hashlib.sha256(cluster_id.encode()).digest()[:5], "big")
    return ipaddress.IPv6Network((number << 80, 48))


def mesh_subnet(cluster_id: str, ingress: model.Network) -> ipaddress.IPv6Network:
    """Where the routing mesh's IPv6 addresses lie: in the ingress network's subnet if it has one, else in the site's first."""
    for config in configs_of(ingress):
        subnet = parse(config.subnet) if config.subnet else None
        if isinstance(subnet, ipaddress.IPv6Network) and subnet.prefixlen in MESH_PREFIXES:
            return subnet
    return ipaddress.IPv6Network((site(cluster_id).network_address, SIZE6))


def mesh_address(cluster_id: str, ingress: model.Network, address: str) -> str:
    """The IPv6 address of whoever has this IPv4 one in the ingress network, with prefix length: nobody else's, and
    free again when that is."""
    subnet = mesh_subnet(cluster_id, ingress)
    number = int(subnet.network_address) | int(ipaddress.IPv4Address(address.partition("/")[0]))
    return f"{ipaddress.IPv6Address(number)}/{subnet.prefixlen}"


def choose6(view: ReadView, network: model.Network, also: Sequence[Taken] = ()) -> Subnet:
    """An IPv6 subnet for a network that asks for none; raises AllocationError."""
    pool = site(view.cluster.id)
    mesh = Taken(ipaddress.IPv6Network((pool.network_address, SIZE6)), "the routing mesh")
    found = first_free(pool, SIZE6, [*taken(view, network.id), *also, mesh])
    if found is None:
        raise AllocationError(f"no free subnet is left in {pool} for network {network.spec.name}")
    return found


def choose(view: ReadView, network: model.Network, also: Sequence[Taken] = ()) -> Subnet:
    """An IPv4 subnet for a network that asks for none; raises AllocationError."""
    cluster = view.cluster
    size = cluster.subnet_size or DEFAULT_SIZE
    used = [*taken(view, network.id), *also]
    for text in cluster.default_address_pool or DEFAULT_POOLS:
        pool = parse(text)
        if pool is None or pool.version != 4:
            continue
        prefix = ingress_prefix(pool, size) if network.spec.ingress else max(size, pool.prefixlen)
        found = first_free(pool, prefix, used)
        if found is not None:
            return found
    raise AllocationError(
        f"no free subnet of size /{size} is left in the address pools for network {network.spec.name}"
    )


def choose_vni(next_vni: int, used: set[int]) -> int:
    """The next VNI that no network has; raises AllocationError when there is none."""
    start = max(next_vni, VNI_BASE)
    for vni in chain(range(start, VNI_END), range(VNI_BASE, min(start, VNI_END))):
        if vni not in used:
            return vni
    raise AllocationError("no VXLAN network identifier is left")
