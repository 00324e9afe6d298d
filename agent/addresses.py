"""The node's own addresses, and which one it advertises. Called by agent/membership.py at init and join.

`choose` and `resolve` are pure: what the machine has is a parameter; `local_addresses` reads it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Mapping
from typing import Final

from common import errors

DEFAULT_PORT: Final = 2377
BAD_ADVERTISE: Final = (
    "advertise address must be a non-zero IP address or network interface (with optional port number)"
)
BAD_LISTEN: Final = "listen address must be an IP address or network interface (with optional port number)"
BAD_DATA_PATH: Final = "data path address must be a non-zero IP address or network interface"
_SIOCGIFADDR: Final = 0x8915
_SIOCGIFFLAGS: Final = 0x8913
_UP: Final = 0x1
_NOT_THE_MACHINES: Final = ("lo", "docker", "veth", "br-", "shoal", "sh-")

Interfaces = Mapping[str, str]  # name -> IPv4 address


def local_addresses() -> dict[str, str]:
    """The first IPv4 address of each interface that is up."""
    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("16s24x", name.encode())
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, request)
            except OSError:
                continue  # without an IPv4 address
            if flags & _UP:
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def split_port(text: str) -> tuple[str, int]:
    """Host and port of ADDRESS[:PORT]; port 0 when there is none. Raises ValueError."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":")) if rest else 0
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, int(port)
    return text, 0


def _ip(host: str, interfaces: Interfaces) -> str:
    if host in interfaces:
        return interfaces[host]
    return str(ipaddress.ip_address(host))


def resolve(text: str, interfaces: Interfaces, complaint: str) -> tuple[str, int]:
    """IP and port of an address or interface name; raises errors.InvalidArgument with `complaint`."""
    try:
        host, port = split_port(text)
        address = _ip(host, interfaces)
        if ipaddress.ip_address(address).is_unspecified or not 0 <= port < 65536:
            raise ValueError("not an address of a machine")
    except ValueError as exc:
        raise errors.InvalidArgument(complaint) from exc
    return address, port


def listen(text: str, interfaces: Interfaces) -> str:
    """host:port to listen on; empty means every address at Swarm's port."""
    try:
        host, port = split_port(text or "0.0.0.0")
        address = _ip(host, interfaces)
    except ValueError as exc:
        raise errors.InvalidArgument(BAD_LISTEN) from exc
    return join_port(address, port or DEFAULT_PORT)


def join_port(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def choose(interfaces: Interfaces) -> str:
    """The address to advertise when none was given; raises errors.InvalidArgument when that is not clear."""
    own = {n: a for n, a in interfaces.items() if not n.startswith(_NOT_THE_MACHINES)}
    if not own:
        raise errors.InvalidArgument(
            "could not find the system's IP address - specify one with --advertise-addr"
        )
    if len(own) > 1:
        (one, first), (two, second) = sorted(own.items())[:2]
        raise errors.InvalidArgument(
            "could not choose an IP address to advertise since this system has multiple addresses on different "
            f"interfaces ({first} on {one} and {second} on {two}) - specify one with --advertise-addr"
        )
    return next(iter(own.values()))
