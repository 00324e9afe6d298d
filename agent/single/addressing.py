"""Subnets and addresses of this node's own bridges. Pure; for networks.py and wiring.py. Texts are Docker's."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import Final

from agent.single.record import BRIDGE, LocalNetwork
from common import errors

Subnet = ipaddress.IPv4Network
# Docker's own pools, in its order; the default bridge has the first.
POOLS: Final = (
    *(f"172.{n}.0.0/16" for n in range(17, 32)),
    *(f"192.168.{n}.0/20" for n in range(0, 256, 16)),
)

_MAC: Final = re.compile(
    r"(?i)[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5}|(?:-[0-9a-f]{2}){5}|[0-9a-f]{2}(?:\.[0-9a-f]{4}){2})"
)


def choose_subnet(taken: Iterable[str]) -> str:
    """The first pool that overlaps nothing."""
    networks = [Subnet(item, strict=False) for item in taken if ":" not in item]
    for pool in POOLS:
        if not any(Subnet(pool).overlaps(network) for network in networks):
            return pool
    raise errors.ShoalError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )


def refuse_overlap(subnet: str, others: Iterable[str]) -> None:
    """Raises where a subnet that was asked for lies over another network's."""
    own = Subnet(subnet, strict=False)
    if any(own.overlaps(Subnet(other, strict=False)) for other in others):
        raise errors.PermissionDenied("Pool overlaps with other one on this address space")


def first_address(subnet: str, ip_range: str, reserved: Collection[str]) -> str:
    """The gateway's, where nobody has named one."""
    for host in _hosts(subnet, ip_range):
        if host not in reserved:
            return host
    raise errors.ShoalError("no available IPv4 addresses on this network's address pools: ")


def next_address(network: LocalNetwork, used: Collection[str]) -> str:
    """The lowest that is free."""
    kept = {network.gateway, *network.reserved.values(), *used}
    for host in _hosts(network.subnet, network.ip_range):
        if host not in kept:
            return host
    raise errors.ShoalError(
        f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})"
    )


def wanted_address(network: LocalNetwork, wanted: str, used: Collection[str]) -> str:
    """The one that a user has asked for."""
    refuse_wanted(network, wanted)
    kept = {network.gateway, *network.reserved.values(), *used}
    if str(ipaddress.IPv4Address(wanted)) in kept:
        raise errors.PermissionDenied("Address already in use")
    return str(ipaddress.IPv4Address(wanted))


def is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def refuse_link_local(given: Collection[str]) -> None:
    """Raises for what is no link-local address of IPv4."""
    if not all(is_ipv4(text) or is_ipv6(text) for text in given):
        raise errors.ShoalError(f"Invalid link-local IP address: [{' '.join(given)}]")
    for text in given:
        if not ipaddress.ip_address(text).is_link_local:
            raise errors.ShoalError(f"invalid link local IP address: {text}")
        if is_ipv6(text):
            raise errors.Unimplemented("--link-local-ip of IPv6 is not supported yet for single containers")


def mac_address(text: str) -> str:
    """A MAC in the one form that is used here; it may be written with colons, dashes or dots."""
    if text and not _MAC.fullmatch(text):
        raise errors.InvalidArgument(f"invalid MAC address {text}")
    digits = re.sub("[:.-]", "", text).lower()
    return ":".join(digits[n : n + 2] for n in range(0, len(digits), 2))


def refuse_mac(mac: str) -> None:
    """Raises for one that no interface can have: all zeros, or a group's."""
    if mac and (set(mac) <= set("0:") or int(mac[:2], 16) & 1):
        raise errors.ShoalError(f'error setting MAC to "{mac}": cannot assign requested address')


def refuse_wanted(network: LocalNetwork, wanted: str) -> None:
    """Raises where no address may be asked for, or not this one."""
    if network.name == BRIDGE:
        raise errors.InvalidArgument("user specified IP address is supported on user defined networks only")
    if not network.chosen:
        raise errors.InvalidArgument(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    subnet = Subnet(network.subnet)
    try:
        address = ipaddress.IPv4Address(wanted)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid IPv4 address: {wanted}") from exc
    if address in subnet and address in (subnet.network_address, subnet.broadcast_address):
        raise errors.PermissionDenied("Address already in use")
    if address not in subnet:
        raise errors.InvalidArgument(
            f"Invalid address {wanted}: It does not belong to any of this network's subnets"
        )


def _hosts(subnet: str, ip_range: str) -> Iterable[str]:
    whole = Subnet(subnet)
    part = Subnet(ip_range, strict=False) if ip_range else whole
    if not whole.supernet_of(part):
        part = whole
    ends = (whole.network_address, whole.broadcast_address) if whole.num_addresses > 2 else ()
    return (str(address) for address in part if address not in ends)
