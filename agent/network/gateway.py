"""Addresses on docker_gwbridge, and its subnet. Pure; used by ground.py. They mean something on this machine only."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import Final

# Docker's own pools for bridges; docker_gwbridge is the second bridge of a fresh Docker, hence 172.18 first.
_POOLS: Final = (
    *(f"172.{n}.0.0/16" for n in range(18, 32)),
    *(f"192.168.{n}.0/20" for n in range(0, 256, 16)),
)


def choose_subnet(taken: Iterable[str]) -> str | None:
    """The first pool that overlaps no route of the machine."""
    networks = [ipaddress.IPv4Network(route, strict=False) for route in taken if ":" not in route]
    for pool in _POOLS:
        candidate = ipaddress.IPv4Network(pool)
        if not any(candidate.overlaps(network) for network in networks):
            return pool
    return None


def next_address(subnet: str, used: Collection[str], last: str) -> str | None:
    """The next free one after `last`, so that an address just given back isn't given again at once."""
    network = ipaddress.IPv4Network(subnet)
    first, size = int(network.network_address), network.num_addresses
    offset = int(ipaddress.IPv4Address(last)) - first if last else 1
    for step in range(1, size):
        candidate = (offset + step) % size
        if candidate in (0, 1, size - 1):  # the network's, the bridge's, broadcast
            continue
        address = str(ipaddress.IPv4Address(first + candidate))
        if address not in used:
            return address
    return None
