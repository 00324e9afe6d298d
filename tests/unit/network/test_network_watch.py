"""What the filters of agent/network/watch.py let through, by a small machine that runs them as the kernel does."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from agent.network.watch import ROUTE_FILTER, TABLE_FILTER, assembled

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
