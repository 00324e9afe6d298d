"""What `docker run -p` asks for, from HostConfig.PortBindings. Pure; for container_requests.py. Texts are Docker's."""

from __future__ import annotations

import ipaddress
from typing import Final

from agent.engine.http import Fields
from agent.single.record import PortRequest
from common import errors

_PROTOCOLS: Final = ("tcp", "udp", "sctp")


def asked(host: Fields) -> tuple[PortRequest, ...]:
    """One for each port of this node, in the order of the container's ports."""
    table = host.part("PortBindings", "nat.PortMap")
    found: list[PortRequest] = []
    for key in table.names():
        protocol, target = port(key)
        for given in table.objects(key, "nat.PortBinding") or (Fields({}),):
            first, last = _range(given.text("HostPort"))
            found.append(PortRequest(protocol, target, _address(given.text("HostIp")), first, last))
    return tuple(sorted(found, key=lambda request: (request.target, request.protocol)))


def port(text: str) -> tuple[str, int]:
    """(protocol, port) of "80/tcp"."""
    number, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    if not number.isascii() or not number.isdecimal() or not 0 < int(number) < 65536:
        raise errors.InvalidArgument(f'invalid port specification: "{number}"')
    if protocol not in _PROTOCOLS:
        raise errors.InvalidArgument(f"invalid proto: {protocol}")
    return protocol, int(number)


def _range(text: str) -> tuple[int, int]:
    if not text or text == "0":
        return 0, 0
    first, _, last = text.partition("-")
    ends = [first, last or first]
    if not all(end.isascii() and end.isdecimal() and 0 < int(end) < 65536 for end in ends):
        raise errors.InvalidArgument(f'invalid port specification: "{text}"')
    return int(ends[0]), int(ends[1])


def _address(text: str) -> str:
    if not text:
        return ""  # the network's own, or all
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid IP address: {text}") from exc
    if "%" in text:  # an address of one link alone: nobody else can come by it
        raise errors.InvalidArgument(f"invalid IP address: {text}")
    return str(address)
