"""Subnets and VNIs for networks: out of the pools, apart from every other network and from every node's routes.

Pure. Used by reconcile.py; `conflict` also by control, which refuses a subnet that a user asks for before it is stored.
"""

from __future__ import annotations

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
VNI_BASE: Final = 0x530000
VNI_END: Final = 1 << 24


class AllocationError(Exception):
    """Something cannot be given; the text is what users see."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A range that is in use, and by what."""

    subnet: ipaddress.IPv4Network
    owner: str


def configs_of(network: model.Network) -> tuple[model.IPAMConfig, ...]:
    """The subnets of a network: as allocated, else as asked for."""
    if network.ipam is not None and network.ipam.configs:
        return network.ipam.configs
    return network.spec.ipam.configs if network.spec.ipam is not None else ()


def parse(subnet: str) -> ipaddress.IPv4Network | None:
    """An IPv4 subnet; None for another family or no subnet at all."""
    try:
        return ipaddress.IPv4Network(subnet, strict=False)
    except ValueError:
        return None


def gateway(subnet: ipaddress.IPv4Network, asked: model.IPAMConfig) -> str:
    """The first address that the user doesn't keep for something else; raises AllocationError."""
    kept = set(asked.reserved.values())
    free = (str(host) for host in subnet.hosts() if str(host) not in kept)
    if (found := next(free, None)) is None:
        raise AllocationError(f"no address of {subnet} is left for the gateway")
    return found


def taken(view: ReadView, ignoring: str = "", going: bool = True) -> list[Taken]:
    """Every range that a new subnet must not touch, but for those of network `ignoring`; without `going` also but for
    those of networks that have been removed and only wait for their last tasks."""
    found: list[Taken] = []
    own: set[ipaddress.IPv4Network] = set()
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


def first_free(
    pool: ipaddress.IPv4Network, prefix: int, used: Iterable[Taken]
) -> ipaddress.IPv4Network | None:
    """The lowest subnet of this size in `pool` that touches none of `used`."""
    size = 1 << (32 - prefix)
    start, end = int(pool.network_address), int(pool.broadcast_address)
    ranges = sorted((int(u.subnet.network_address), int(u.subnet.broadcast_address)) for u in used)
    for low, high in ranges:
        if high < start:
            continue
        if low >= start + size:
            break
        start = (high // size + 1) * size
    return ipaddress.IPv4Network((start, prefix)) if start + size - 1 <= end else None


def ingress_prefix(pool: ipaddress.IPv4Network, size: int) -> int:
    """A /16 where the pool has room for it; never more than a sixteenth of the pool."""
    return max(INGRESS_SIZE, pool.prefixlen, min(size, pool.prefixlen + 4))


def choose(view: ReadView, network: model.Network, also: Sequence[Taken] = ()) -> ipaddress.IPv4Network:
    """A subnet for a network that asks for none; raises AllocationError."""
    cluster = view.cluster
    size = cluster.subnet_size or DEFAULT_SIZE
    used = [*taken(view, network.id), *also]
    for text in cluster.default_address_pool or DEFAULT_POOLS:
        pool = parse(text)
        if pool is None:
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
