"""The kernel's IPsec database by netlink: reads, makes and removes the states and policies that are ours. Network thread only.

kernel.py and reader.py call it. Ours are those with our request id, or policies for our port. States are in transport mode with
AES-GCM and a 16 byte tag. They don't guard against replays: a sender that has booted counts from one again, and a receiver
that remembers would drop all that it sends until the next key. What is carried guards itself, as on any other wire.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, Self

from agent.network import names
from agent.network.facts import SealPolicy, SealState

_TIMEOUT: Final = 10.0  # seconds; the kernel answers at once
_FAMILY: Final = 6  # NETLINK_XFRM
_NEW_STATE, _DELETE_STATE, _GET_STATE = 0x10, 0x11, 0x12
_DELETE_POLICY, _GET_POLICY, _UPDATE_POLICY = 0x14, 0x15, 0x19
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TEMPLATES, _REPLAY, _AEAD = 5, 10, 18

_SELECTOR: Final = struct.Struct("=16s16s2s2s2s2sHBBB3xiI")
_ID: Final = struct.Struct("=16s4sB3x")
_LIFETIMES: Final = struct.pack("=8Q", *([2**64 - 1] * 4), *([0] * 4)) + bytes(32)
_STATE_END: Final = struct.Struct("=12xIIHBBB7x")
_STATE_ID: Final = struct.Struct("=16s4sHBx")
_POLICY_END: Final = struct.Struct("=IIBBBB4x")
_POLICY_ID: Final = struct.Struct("=IB3x")
_TEMPLATE: Final = struct.Struct("=16s4sB3xHxx16sIBBBxIII")
_ALGORITHM: Final = struct.Struct("=64sII")
_COUNT: Final = struct.Struct("=I")
_STATE_SIZE: Final = _SELECTOR.size + _ID.size + 16 + len(_LIFETIMES) + _STATE_END.size
_POLICY_SIZE: Final = _SELECTOR.size + len(_LIFETIMES) + _POLICY_END.size

_ESP: Final = 50
_UDP: Final = 17
_TRANSPORT: Final = 0
_NAME: Final = b"rfc4106(gcm(aes))"
_TAG_BITS: Final = 128
_ALL: Final = 2**32 - 1
_DIRECTIONS: Final = ("in", "out")
_ALLOW, _BLOCK = 0, 1
REQUEST_ID: Final = 0x5A0A1
_FIRST, _LAST = 1000, 2000  # priorities: between two nodes, and what holds for all others
WORN: Final = 3 << 30  # packets, of the 2^32 that a state can number: then it is made anew
_PROBE: Final = SealState("192.0.2.1", "192.0.2.2", 0x100, bytes(20))


class Xfrm:
    """One socket, in the namespace where it was opened; raises OSError with the kernel's cause."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _FAMILY)
        self._socket.settimeout(_TIMEOUT)
        self._socket.bind((0, 0))
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> frozenset[SealState | SealPolicy]:
        """Everything of ours."""
        states = (parsed_state(body) for body in self._dump(_GET_STATE))
        policies = (parsed_policy(body) for body in self._dump(_GET_POLICY))
        return frozenset(fact for fact in (*states, *policies) if fact is not None)

    def remove(self, fact: SealState | SealPolicy) -> None:
        """What is gone already is as good as removed."""
        match fact:
            case SealState():
                self._remove_state(fact)
            case SealPolicy():
                self._remove_policy(fact)

    def make_state(self, fact: SealState) -> None:
        """One with another key in its place is replaced."""
        try:
            self._ask(_NEW_STATE, packed_state(fact))
        except FileExistsError:
            self._remove_state(fact)
            self._ask(_NEW_STATE, packed_state(fact))

    def _remove_state(self, fact: SealState) -> None:
        self._ask(_DELETE_STATE, _STATE_ID.pack(*_target(fact), socket.AF_INET, _ESP), missing=errno.ESRCH)

    def make_policy(self, fact: SealPolicy) -> None:
        """In place of one for the same packets, in one step."""
        self._ask(_UPDATE_POLICY, packed_policy(fact))

    def _remove_policy(self, fact: SealPolicy) -> None:
        body = _selector(fact) + _POLICY_ID.pack(0, _DIRECTIONS.index(fact.direction))
        self._ask(_DELETE_POLICY, body, missing=errno.ENOENT)

    def _ask(self, kind: int, body: bytes, missing: int = 0) -> None:
        for answer, content in self._exchange(kind, _REQUEST | _ACK, body):
            if answer == _ERROR:
                number = -int.from_bytes(content[:4], "little", signed=True)
                if number not in (0, missing):
                    raise OSError(number, f"{os.strerror(number)} (ESP)")
                return

    def _dump(self, kind: int) -> Iterator[bytes]:
        for answer, content in self._exchange(kind, _REQUEST | _DUMP, b""):
            if answer == _DONE:
                return
            if answer == _ERROR:
                number = -int.from_bytes(content[:4], "little", signed=True)
                raise OSError(number, f"{os.strerror(number)} (ESP)")
            yield content

    def _exchange(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Messages of the answer; whoever asked stops at the last one."""
        number = next(self._numbers)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body)
        while True:
            data = self._socket.recv(1 << 18)
            while len(data) >= _HEADER.size:
                length, answer, _, answered, _ = _HEADER.unpack_from(data)
                if answered == number:
                    yield answer, data[_HEADER.size : length]
                data = data[(length + 3) & ~3 :]


def missing_module() -> str:
    """The kernel's module that sealing would need and that can't be had; empty when all is there."""
    try:
        xfrm = Xfrm()
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            return "xfrm_user"
        raise
    with xfrm:
        try:
            xfrm.make_state(_PROBE)
        except OSError as error:
            return missing_for(error)
        xfrm.remove(_PROBE)
    return ""


def missing_for(error: OSError) -> str:
    """The module whose absence makes the kernel refuse a state this way."""
    match error.errno:
        case errno.EPROTONOSUPPORT:
            return "esp4"
        case errno.ENOSYS | errno.ENOENT:
            return "gcm"
        case _:
            raise error


# ---- what goes over the socket


def packed_state(fact: SealState) -> bytes:
    """The body of the request that makes a state."""
    body = bytes(_SELECTOR.size) + _ID.pack(*_target(fact), _ESP) + _address(fact.source) + _LIFETIMES
    body += _STATE_END.pack(0, REQUEST_ID, socket.AF_INET, _TRANSPORT, 0, 0)
    key = _ALGORITHM.pack(_NAME, len(fact.key) * 8, _TAG_BITS) + fact.key
    return body + _attribute(_AEAD, key)


def parsed_state(body: bytes) -> SealState | None:
    """A state of ours; None for others', and for one that has numbered nearly all the packets that it can."""
    at = _SELECTOR.size
    destination, index, protocol = _ID.unpack_from(body, at)
    source = body[at + _ID.size : at + _ID.size + 16]
    _, request, family, mode, _, _ = _STATE_END.unpack_from(body, _STATE_SIZE - _STATE_END.size)
    if (request, protocol, family) != (REQUEST_ID, _ESP, socket.AF_INET):
        return None
    attributes = dict(_attributes(body[_STATE_SIZE:]))
    sent = _COUNT.unpack_from(attributes[_REPLAY])[0] if _REPLAY in attributes else 0
    name, bits, tag = _ALGORITHM.unpack_from(attributes.get(_AEAD, bytes(_ALGORITHM.size)))
    key = attributes.get(_AEAD, b"")[_ALGORITHM.size : _ALGORITHM.size + bits // 8]
    right = (name.rstrip(b"\0"), tag, mode) == (_NAME, _TAG_BITS, _TRANSPORT) and sent < WORN
    return SealState(_text(source), _text(destination), int.from_bytes(index, "big"), key if right else b"")


def packed_policy(fact: SealPolicy) -> bytes:
    """The body of the request that makes a policy or puts it in another's place."""
    sealed = fact.direction == "in" or bool(fact.spi)
    priority = _FIRST if fact.destination else _LAST
    direction = _DIRECTIONS.index(fact.direction)
    end = _POLICY_END.pack(priority, 0, direction, _ALLOW if sealed else _BLOCK, 0, 0)
    body = _selector(fact) + _LIFETIMES + end
    if not sealed:
        return body
    template = _TEMPLATE.pack(
        _address(fact.destination), fact.spi.to_bytes(4, "big"), _ESP, socket.AF_INET, _address(fact.source),
        REQUEST_ID, _TRANSPORT, 0, 0, _ALL, _ALL, _ALL,
    )  # fmt: skip
    return body + _attribute(_TEMPLATES, template)


def parsed_policy(body: bytes) -> SealPolicy | None:
    """A policy for our port; one that doesn't do what ours do has an index that no state has."""
    destination, source, port, mask, _, _, family, _, _, protocol, _, _ = _SELECTOR.unpack_from(body)
    priority, _, direction, action, _, _ = _POLICY_END.unpack_from(body, _POLICY_SIZE - _POLICY_END.size)
    ours = (int.from_bytes(port, "big"), mask, family, protocol) == (
        names.SEALED_PORT, b"\xff\xff", socket.AF_INET, _UDP,
    )  # fmt: skip
    if not ours or direction >= len(_DIRECTIONS):
        return None
    fact = SealPolicy(_DIRECTIONS[direction], _text(source), _text(destination))
    template = dict(_attributes(body[_POLICY_SIZE:])).get(_TEMPLATES, b"")
    spi = 0
    if template:
        _, index, kind, _, _, request, mode, _, optional, *_ = _TEMPLATE.unpack_from(template)
        spi = int.from_bytes(index, "big")
        if (kind, request, mode, optional) != (_ESP, REQUEST_ID, _TRANSPORT, 0):
            spi = -1
    found = SealPolicy(fact.direction, fact.source, fact.destination, spi)
    sealed = fact.direction == "in" or bool(spi)
    right = priority == (_FIRST if fact.destination else _LAST) and bool(template) == sealed
    if right and action == (_ALLOW if sealed else _BLOCK):
        return found
    return SealPolicy(fact.direction, fact.source, fact.destination, -1)


def _selector(fact: SealPolicy) -> bytes:
    source, destination = 32 * bool(fact.source), 32 * bool(fact.destination)
    return _SELECTOR.pack(
        _address(fact.destination), _address(fact.source), names.SEALED_PORT.to_bytes(2, "big"), b"\xff\xff",
        bytes(2), bytes(2), socket.AF_INET, destination, source, _UDP, 0, 0,
    )  # fmt: skip


def _target(fact: SealState) -> tuple[bytes, bytes]:
    return _address(fact.destination), fact.spi.to_bytes(4, "big")


def _address(text: str) -> bytes:
    return (socket.inet_aton(text) if text else bytes(4)) + bytes(12)


def _text(address: bytes) -> str:
    return socket.inet_ntoa(address[:4]) if any(address) else ""


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
