"""What the filters of agent/network/watch.py let through, by a small machine that runs them as the kernel does."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from agent.network import watch
from agent.network.events import PolicyLost
from agent.network.thread import Namespaces
from agent.network.watch import IPSEC_FILTER, ROUTE_FILTER, TABLE_FILTER, Watch, assembled

UP, ALL = 0x1, 0xFFFF_FFFF


def taken(program: Sequence[tuple[str, int, int, str, str]], message: bytes) -> bool:
    """Runs the assembled program."""
    steps = list(struct.iter_unpack("=HBBI", assembled(program)))
    at, loaded = 0, 0
    while True:
        code, so, not_so, number = steps[at]
        at += 1
        match code:
            case 0x28 | 0x30 | 0x20:
                size = {0x28: 2, 0x30: 1, 0x20: 4}[code]
                loaded = int.from_bytes(message[number : number + size], "big")
            case 0x15:
                at += so if loaded == number else not_so
            case 0x45:
                at += so if loaded & number else not_so
            case _:
                assert code == 0x06
                return bool(number)


def header(kind: int) -> bytes:
    return struct.pack("=IHHII", 64, kind, 0, 0, 0)


def link(kind: int, flags: int, changed: int) -> bytes:
    return header(kind) + struct.pack("=BxHiII", 0, 1, 3, flags, changed)


def neighbour(kind: int, family: int, flags: int) -> bytes:
    return header(kind) + struct.pack("=BxxxiHBB", family, 3, 0x80, flags, 1)


@pytest.mark.parametrize(
    ("message", "through"),
    [
        (link(17, 0x1002, ALL), True),
        (link(16, 0x1002, ALL), False),  # made just now
        (link(16, 0x1043, UP), False),
        (link(16, 0x1002, UP), True),
        (link(16, 0x1003, 0x40), False),
        (link(16, 0x1002, 0x41), True),
        (neighbour(29, 2, 0), True),
        (neighbour(28, 2, 0), False),
        (neighbour(29, 10, 0), True),
        (neighbour(29, 11, 0), False),
        (neighbour(29, 7, 2), True),
        (neighbour(29, 7, 0), False),  # what a bridge has learnt and forgotten
        (header(21) + bytes(12), True),
        (header(25) + bytes(12), True),
        (header(33) + bytes(12), True),
        (header(24) + bytes(12), False),
    ],
)
def test_links_addresses_routes_and_neighbours(message: bytes, through: bool) -> None:
    assert taken(ROUTE_FILTER, message) is through


@pytest.mark.parametrize(("kind", "through"), [(0x0A0F, True), (0x0A00, False), (0x0A0E, False)])
def test_tables(kind: int, through: bool) -> None:
    assert taken(TABLE_FILTER, header(kind) + bytes(12)) is through


@pytest.mark.parametrize("kind", [0x11, 0x14, 0x18, 0x1B, 0x1C, 0x1D])
def test_of_ipsec_what_goes(kind: int) -> None:
    assert taken(IPSEC_FILTER, header(kind) + bytes(64))


@pytest.mark.parametrize("kind", [0x10, 0x13, 0x17, 0x19, 0x1A, 0x1E])
def test_of_ipsec_nothing_that_comes(kind: int) -> None:
    assert not taken(IPSEC_FILTER, header(kind) + bytes(64))


class Nowhere:
    """Namespaces of a machine that has none."""

    def existing(self) -> frozenset[str]:
        return frozenset()


@pytest.fixture
def watching() -> Iterator[Watch]:
    made = Watch(cast(Namespaces, Nowhere()))
    yield made
    made.close()


def test_a_kernel_without_ipsec_is_no_failure(
    watching: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    before = watching.descriptors()
    monkeypatch.setattr(watch, "_listening", refuse)
    watching.hear_ipsec()
    assert watching.descriptors() == before
    assert "unnoticed" in caplog.text


def test_ipsec_is_read_as_such(watching: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers mean something else in the routing family: there 29 is a neighbour that goes."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reading.setblocking(False)
    monkeypatch.setattr(watch, "_listening", lambda *_, **__: reading)
    watching.hear_ipsec()
    watching.hear_ipsec()
    assert len(watching.descriptors()) == 3
    with writing:
        writing.send(struct.pack("=IHHII", 24, 29, 0, 0, 0) + bytes(8))
        assert watching.drain() == {"": [PolicyLost()]}
