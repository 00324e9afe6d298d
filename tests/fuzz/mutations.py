"""Bytes that were valid, and are not quite so any more. Used by gossip.py, dns.py and http.py beside this."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

EXTREMES = (0x00, 0x01, 0x7F, 0x80, 0xC0, 0xDB, 0xDF, 0xFF)
LENGTHS = (0, 1, 0x7FFF, 0x8000, 0xFFFF)


def flipped(rng: random.Random, data: bytearray) -> None:
    """Some bits."""
    for _ in range(rng.randrange(1, 9)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwritten(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.choice((*EXTREMES, rng.randrange(256)))


def truncated(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def lengthened(rng: random.Random, data: bytearray) -> None:
    """What may be a length says something else."""
    form, wide = rng.choice(((">H", 2), (">I", 4)))
    if len(data) >= wide:
        value = rng.choice((*LENGTHS, rng.randrange(1 << 16))) * (
            1 if wide == 2 else rng.choice((1, 0x10001))
        )
        struct.pack_into(form, data, rng.randrange(len(data) - wide + 1), value & (1 << 8 * wide) - 1)


def repeated(rng: random.Random, data: bytearray) -> None:
    """A piece of it, up to fifty times more."""
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randrange(1, 40)]
    data[start:start] = piece * rng.randrange(1, 50)


def cut(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 20)]


def noisy(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.randrange(1, 40))


WAYS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flipped, overwritten, truncated, lengthened, repeated, cut, noisy,
)  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    """One or two of these ways."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 3)):
        if changed:
            rng.choice(WAYS)(rng, changed)
    return bytes(changed)
