"""Which addresses `swarm init` and `swarm join` mean. Pure: what the machine has is a parameter. Called by swarm.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from agent.engine.backend import InterfaceAddress
from common import errors

DEFAULT_PORT: Final = 2377
DATA_PATH_PORTS: Final = (1024, 49151)
BAD_LISTEN: Final = "listen address must be an IP address or network interface (with optional port number)"
BAD_ADVERTISE: Final = (
    "advertise address must be a non-zero IP address or network interface (with optional port number)"
)
BAD_DATA_PATH: Final = "data path address must be a non-zero IP address or network interface"
NO_ADDRESS: Final = "could not find the system's IP address - specify one with --advertise-addr"
_INTERNAL: Final = ("docker", "veth", "br-", "shoal", "sh-", "vx-")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def join_port(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_port(text: str, default: int) -> tuple[str, int]:
    """Host and port of ADDRESS[:PORT]; raises ValueError for a port that is none."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not port:
        return host, default
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"no port: {port}")
    return host, int(port)


def resolve_listen(text: str, local: Sequence[InterfaceAddress]) -> tuple[str, int]:
    """Host and port to listen on; raises errors.InvalidArgument."""
    try:
        host, port = split_port(text, DEFAULT_PORT)
        return str(_resolve(host, local)), port
    except ValueError as exc:
        raise errors.InvalidArgument(BAD_LISTEN) from exc


def resolve_advertise(
    text: str, listen: tuple[str, int], local: Sequence[InterfaceAddress]
) -> tuple[str, int]:
    """Host and port that the others are told; chosen from the machine's own when nothing is said."""
    if text:
        try:
            host, port = split_port(text, listen[1])
            address = _resolve(host, local)
            if address.is_unspecified:
                raise ValueError("unspecified")
        except ValueError as exc:
            raise errors.InvalidArgument(BAD_ADVERTISE) from exc
        return str(address), port
    if not ipaddress.ip_address(listen[0]).is_unspecified:
        return listen
    return str(system_address(local)), listen[1]


def resolve_data_path(text: str, local: Sequence[InterfaceAddress]) -> str:
    """The address for VXLAN; empty when nothing is said."""
    if not text:
        return ""
    try:
        address = _resolve(text, local)
        if address.is_unspecified:
            raise ValueError("unspecified")
    except ValueError as exc:
        raise errors.InvalidArgument(BAD_DATA_PATH) from exc
    return str(address)


def require_own(host: str, local: Sequence[InterfaceAddress]) -> None:
    """The advertised address must be this machine's: the manager is called there, also by its own node."""
    own = [_ip(item) for item in local]
    if ipaddress.ip_address(host) in own:
        return
    others = ", ".join(str(ip) for ip in own if ip.version == 4 and not ip.is_loopback)
    raise errors.InvalidArgument(
        f"advertise address {host} belongs to no interface of this node, which has {others or 'none'}: "
        "nodes behind address translation are not supported yet"
    )


def _resolve(host: str, local: Sequence[InterfaceAddress]) -> IP:
    """An interface's address (IPv4 first) or the address itself; raises ValueError."""
    own = [_ip(a) for a in local if a.interface == host]
    usable: list[IP] = [ip for ip in own if ip.version == 4]
    usable = usable or [ip for ip in own if not ip.is_link_local]
    if own:
        if len(usable) != 1:
            several = ", ".join(str(ip) for ip in usable)
            raise errors.InvalidArgument(
                f"interface {host} has more than one IP address ({several}): say which"
                if usable
                else f"interface {host} has no usable IPv4 or IPv6 address"
            )
        return usable[0]
    return ipaddress.ip_address(host)


def _ip(item: InterfaceAddress) -> IP:
    return ipaddress.ip_address(item.address.partition("/")[0])


def system_address(local: Iterable[InterfaceAddress]) -> IP:
    """The machine's only address that others may reach; raises errors.InvalidArgument, naming two if there are more."""
    usable = [
        (item.interface, ip)
        for item in local
        if not item.interface.startswith(_INTERNAL)
        and not ((ip := _ip(item)).is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
    ]
    chosen = [pair for pair in usable if pair[1].version == 4] or usable
    if not chosen:
        raise errors.InvalidArgument(NO_ADDRESS)
    if len(chosen) > 1:
        (first, one), (second, two) = chosen[:2]
        where = (
            f"on interface {first} ({one} and {two})"
            if first == second
            else f"on different interfaces ({one} on {first} and {two} on {second})"
        )
        raise errors.InvalidArgument(
            f"could not choose an IP address to advertise since this system has multiple addresses {where}"
            " - specify one with --advertise-addr"
        )
    return chosen[0][1]


def check_pool(pool: Sequence[str], size: int) -> None:
    """The default address pool of a new swarm; raises errors.InvalidArgument."""
    networks = []
    for text in pool:
        try:
            network = ipaddress.ip_network(text, strict=False)
            if "/" not in text or network.version != 4:
                raise ValueError("no IPv4 network")
        except ValueError as exc:
            raise errors.InvalidArgument(f"invalid base pool request: invalid CIDR address: {text}") from exc
        if size and size < network.prefixlen:
            raise errors.InvalidArgument(f'invalid CIDR: "{text}". Subnet size is too small for pool: {size}')
        networks.append(network)
    if size and not 8 <= size <= 29:
        raise errors.InvalidArgument(f"invalid subnet size {size}: it must be between 8 and 29")
    for i, network in enumerate(networks):
        for other in networks[:i]:
            if network.overlaps(other):
                raise errors.InvalidArgument(f"invalid base pool request: {network} overlaps with {other}")


def check_data_path_port(port: int) -> None:
    """The UDP port of VXLAN; raises errors.InvalidArgument."""
    low, high = DATA_PATH_PORTS
    if port and not low <= port <= high:
        raise errors.InvalidArgument(f"Datapath port number is not in valid range ({low}-{high})")
