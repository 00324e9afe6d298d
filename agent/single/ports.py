"""Ports of this node for single containers: what `-p` and `-P` ask for, what is free, Docker's refusals. Pure; for wiring.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from agent.network.bridges import ANY, Binding
from agent.single.record import PortRequest, SingleRecord
from common import errors

DYNAMIC: Final = range(49153, 65536)
Taken = Callable[[Binding], Awaitable[bool]]


def requests(record: SingleRecord) -> tuple[PortRequest, ...]:
    """All that are to be published: those of -p, and with -P each that is exposed and isn't among them."""
    found = list(record.ports)
    if record.publish_all:
        named = {(request.protocol, request.target) for request in found}
        found += [PortRequest(*port) for port in exposed(record.exposed) if port not in named]
    return tuple(found)


def exposed(texts: Iterable[str]) -> list[tuple[str, int]]:
    """(protocol, port) of "80/tcp" or "53", in order; what is none is left out."""
    pairs = (text.partition("/") for text in texts)
    found = {(protocol or "tcp", int(port)) for port, _, protocol in pairs if port.isdecimal()}
    return sorted(found, key=lambda port: (port[1], port[0]))


def clashes(one: Binding, other: Binding) -> bool:
    """Whether both can't be."""
    same = (one.protocol, one.port) == (other.protocol, other.port)
    return same and (ANY in (one.address, other.address) or one.address == other.address)


async def allocate(
    record: SingleRecord, held: Callable[[], Collection[Binding]], taken: Taken, unsaid: str = ANY
) -> tuple[Binding, ...]:
    """A port for each request; `held` are other containers' bindings, `taken` asks for the rest of the machine. `unsaid` is
    this node's address for those that name none."""
    found: list[Binding] = []
    for request in requests(record):
        found.append(await _one(request, unsaid, found, held, taken))
    return tuple(found)


async def _one(
    request: PortRequest,
    unsaid: str,
    own: Collection[Binding],
    held: Callable[[], Collection[Binding]],
    taken: Taken,
) -> Binding:
    address = request.address or unsaid
    tries = range(request.first, (request.last or request.first) + 1) if request.first else DYNAMIC
    for port in tries:
        binding = Binding(request.protocol, address, port, request.target)
        if any(clashes(binding, other) for other in (*own, *held())):
            continue
        if not await taken(binding):
            return binding
    if len(tries) > 1:
        raise errors.ShoalError("all ports are allocated")
    raise errors.ShoalError(f"Bind for {address}:{request.first} failed: port is already allocated")
