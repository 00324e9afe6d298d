"""Ports of this node for single containers: what `-p` and `-P` ask for, what is free, Docker's refusals. Pure; for wiring.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from agent.network.bridges import ANY, ANY6, Binding
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
    kind = (one.protocol, one.port, one.version)
    if kind != (other.protocol, other.port, other.version):
        return False
    return one.address == other.address or bool({ANY, ANY6} & {one.address, other.address})


async def allocate(
    record: SingleRecord,
    held: Callable[[], Collection[Binding]],
    taken: Taken,
    unsaid: str = ANY,
    six: bool = False,
) -> tuple[Binding, ...]:
    """A port for each request; `held` are other containers' bindings, `taken` asks for the rest of the machine. `unsaid` is
    this node's address for those that name none; `six`: the container can be reached by IPv6."""
    found: list[Binding] = []
    for request in requests(record):
        addresses = _addresses(request, unsaid, six)
        found += await _one(request, addresses, found, held, taken)
    return tuple(found)


def _addresses(request: PortRequest, unsaid: str, six: bool) -> tuple[str, ...]:
    """This node's addresses for a request: what stands for all of them is all of both families, where there are two."""
    if ":" in request.address and not six:
        raise errors.ShoalError(
            f"publishing on [{request.address}] is not supported for a container without an IPv6 address: "
            "put it on a network made with --ipv6"
        )
    if request.address:
        return (request.address,)
    return (ANY, ANY6) if six and unsaid == ANY else (unsaid,)


async def _one(
    request: PortRequest,
    addresses: Collection[str],
    own: Collection[Binding],
    held: Callable[[], Collection[Binding]],
    taken: Taken,
) -> list[Binding]:
    """The same port at all of these addresses."""
    tries = range(request.first, (request.last or request.first) + 1) if request.first else DYNAMIC
    refused = ""
    for port in tries:
        found = [Binding(request.protocol, address, port, request.target) for address in addresses]
        refused = await _refused(found, own, held, taken)
        if not refused:
            return found
    if len(tries) > 1:
        raise errors.ShoalError("all ports are allocated")
    raise errors.ShoalError(f"Bind for {refused}:{request.first} failed: port is already allocated")


async def _refused(
    wanted: Iterable[Binding],
    own: Collection[Binding],
    held: Callable[[], Collection[Binding]],
    taken: Taken,
) -> str:
    """The address of the first that cannot be; empty where all can."""
    for binding in wanted:
        if any(clashes(binding, other) for other in (*own, *held())) or await taken(binding):
            return binding.address
    return ""
