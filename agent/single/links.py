"""Links between single containers: what `--link` says, and what a container on the default bridge gets of its own. Pure.

On a network that has names a link is one more of them, for the container that links alone (zones.py). On the default bridge, which
has none, it is lines of /etc/hosts and variables that tell of the other's address, ports and environment (linking.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.single.ports import exposed
from agent.single.record import BRIDGE, Leg, SingleRecord
from common import errors

_NOT_TOLD: Final = ("HOME", "PATH")


@dataclass(frozen=True, slots=True)
class Other:
    """A container that another one is linked to, as it is now."""

    name: str
    hostname: str
    address: str  # on the default bridge
    env: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()  # "80/tcp"


def parse(text: str) -> tuple[str, str]:
    """(the other, the name that it gets) of "other:name", "other", or, as inspection shows it, "/other:/own/name"."""
    if not text:
        raise errors.ShoalError("empty string specified for links")
    parts = text.split(":")
    if len(parts) > 2:
        raise errors.ShoalError(f"bad format for links: {text}")
    other, alias = parts[0], parts[-1]
    if len(parts) == 2 and other.startswith("/"):
        return other[1:], alias.rpartition("/")[2]
    return other, alias


def full_name(own: str, alias: str) -> str:
    """Under which a linked container is known, too: "/own/alias"."""
    return f"/{own.removeprefix('/')}/{alias}"


def on_bridge(record: SingleRecord) -> Leg | None:
    """A container's part in the default bridge."""
    return next((leg for leg in record.legs if BRIDGE in (leg.network, leg.network_id)), None)


def ports_of(record: SingleRecord) -> tuple[str, ...]:
    """Those that a container says it has."""
    return tuple({*record.exposed, *(f"{asked.target}/{asked.protocol}" for asked in record.ports)})


def hosts_line(alias: str, other: Other) -> str:
    """Of /etc/hosts: the other's address with all names that it has."""
    names = (alias, other.hostname, *((other.name,) if other.name != alias else ()))
    return " ".join((other.address, *names))


def environment(full: str, other: Other) -> tuple[str, ...]:
    """The variables; `full` is the link's whole name."""
    prefix = full.rpartition("/")[2].upper().replace("-", "_")
    ports = exposed(other.ports)
    found: list[str] = []
    if ports:
        protocol, port = ports[0]
        found.append(f"{prefix}_PORT={protocol}://{other.address}:{port}")
    found += _ranges(prefix, other.address, ports)
    for protocol, port in ports:
        own = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found += [
            f"{own}={protocol}://{other.address}:{port}",
            f"{own}_ADDR={other.address}",
            f"{own}_PORT={port}",
            f"{own}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME={full}")
    for item in other.env:
        name, equals, value = item.partition("=")
        if equals and name not in _NOT_TOLD:
            found.append(f"{prefix}_ENV_{name}={value}")
    return tuple(dict.fromkeys(found))


def _ranges(prefix: str, address: str, ports: Sequence[tuple[str, int]]) -> Iterable[str]:
    """Three and more ports in a row are told of together, besides."""
    at = 0
    while at < len(ports):
        last = _last_in_row(ports, at)
        if last <= at + 1:
            at += 1
            continue
        (protocol, first), (other_protocol, end) = ports[at], ports[last]
        own = f"{prefix}_PORT_{first}_{protocol.upper()}"
        yield f"{own}_START={protocol}://{address}:{first}"
        yield f"{own}_ADDR={address}"
        yield f"{own}_PROTO={protocol}"
        yield f"{own}_PORT_START={first}"
        own = f"{prefix}_PORT_{first}_{other_protocol.upper()}"
        yield f"{own}_END={other_protocol}://{address}:{end}"
        yield f"{own}_PORT_END={end}"
        at = last + 1


def _last_in_row(ports: Sequence[tuple[str, int]], at: int) -> int:
    """As Docker counts: each step may be one at most."""
    value = ports[at][1]
    for number in range(at + 1, len(ports)):
        value += 1
        if ports[number][1] > value:
            return number - 1
    return len(ports) - 1
