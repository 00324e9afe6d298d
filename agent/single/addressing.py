"""Subnets and addresses of this node's own bridges. Pure; for networks.py and wiring.py. Texts are Docker's."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Protocol

from agent.single.record import BRIDGE, LocalNetwork, Pool6
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


class Pool(Protocol):
    """Where addresses of one family come from: a LocalNetwork itself of IPv4, its `six` of IPv6."""

    @property
    def subnet(self) -> str: ...
    @property
    def gateway(self) -> str: ...
    @property
    def ip_range(self) -> str: ...
    @property
    def reserved(self) -> Mapping[str, str]: ...
    @property
    def chosen(self) -> bool: ...


def choose_subnet6(network_id: str) -> str:
    """A unique local one (RFC 4193) that hardly anybody else has: its 56 bits come from the network's id, which is by chance."""
    digits = f"fd{network_id[:14]}"
    groups = ":".join(digits[n : n + 4] for n in range(0, 16, 4))
    return str(ipaddress.IPv6Network(f"{groups}::/64"))


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
    own = ipaddress.ip_network(subnet, strict=False)
    networks = (ipaddress.ip_network(other, strict=False) for other in others)
    if any(own.version == network.version and own.overlaps(network) for network in networks):
        raise errors.PermissionDenied("Pool overlaps with other one on this address space")


def first_address(subnet: str, ip_range: str, reserved: Collection[str]) -> str:
    """The gateway's, where nobody has named one."""
    for host in _hosts(subnet, ip_range):
        if host not in reserved:
            return host
    version = 6 if ":" in subnet else 4
    raise errors.ShoalError(f"no available IPv{version} addresses on this network's address pools: ")


def addresses(network: LocalNetwork, wanted: str, wanted6: str, used: Collection[str]) -> tuple[str, str]:
    """What a container gets on a bridge, of IPv4 and IPv6: those that its user asks for, or the lowest that are free."""
    address = wanted_address(network, wanted, used) if wanted else next_address(network, used)
    if wanted6:
        return address, wanted_address(network, wanted6, used)
    return address, next_address(network, used, network.six) if network.six is not None else ""


def next_address(network: LocalNetwork, used: Collection[str], six: Pool | None = None) -> str:
    """The lowest that is free, of IPv4 or of the pool that is given."""
    pool: Pool = six or network
    kept = {pool.gateway, *pool.reserved.values(), *used}
    for host in _hosts(pool.subnet, pool.ip_range):
        if host not in kept:
            return host
    version = 6 if ":" in pool.subnet else 4
    raise errors.ShoalError(
        f"no available IPv{version} addresses on this network's address pools: {network.name} ({network.id})"
    )


def wanted_address(network: LocalNetwork, wanted: str, used: Collection[str]) -> str:
    """The one that a user has asked for, of either family."""
    refuse_wanted(network, wanted)
    pool, address = _pool(network, wanted), str(ipaddress.ip_address(wanted))
    if address in {pool.gateway, *pool.reserved.values(), *used}:
        raise errors.PermissionDenied("Address already in use")
    return address


def plainly(text: str) -> str:
    """An address in the one way that it is compared in; what is none stays as it is."""
    return str(ipaddress.IPv6Address(text)) if is_ipv6(text) else text


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
    pool = _pool(network, wanted)
    if not pool.chosen:
        raise errors.InvalidArgument(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )
    subnet = ipaddress.ip_network(pool.subnet)
    try:
        address = ipaddress.ip_address(wanted)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid IPv{subnet.version} address: {wanted}") from exc
    if address in subnet and address in ends(subnet):
        raise errors.PermissionDenied("Address already in use")
    if address not in subnet:
        raise errors.InvalidArgument(
            f"Invalid address {wanted}: It does not belong to any of this network's subnets"
        )


def _pool(network: LocalNetwork, wanted: str) -> Pool:
    """That of an address's family; one that nobody has chosen where the network has none."""
    if ":" not in wanted:
        return network
    return network.six or Pool6("")


def ends(subnet: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[object, ...]:
    """Addresses that nobody gets; the last one is only one of them in IPv4."""
    if subnet.num_addresses <= 2:
        return ()
    first, last = subnet.network_address, subnet.broadcast_address
    return (first, last) if subnet.version == 4 else (first,)


def _hosts(subnet: str, ip_range: str) -> Iterable[str]:
    whole = ipaddress.ip_network(subnet)
    part = ipaddress.ip_network(ip_range, strict=False) if ip_range else whole
    if part.version != whole.version or not whole.supernet_of(part):  # type: ignore[arg-type]
        part = whole
    unused = ends(whole)
    return (str(address) for address in part if address not in unused)
