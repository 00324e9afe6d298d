"""Identifiers: swarm ids as Docker makes them, and container ids. Pure: random bytes are parameters.

An id is 25 characters of base 36 from 17 random bytes (SwarmKit identity/randomid.go): 128 bits and a first
character that is never '0'.
"""

from __future__ import annotations

import secrets
from typing import Final, NewType

NodeId = NewType("NodeId", str)
ServiceId = NewType("ServiceId", str)
TaskId = NewType("TaskId", str)
NetworkId = NewType("NetworkId", str)

ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 25
ENTROPY: Final = 17


def base36(number: int, width: int = 0) -> str:
    """`number` in base 36, padded with zeros to `width`."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def encode_id(entropy: bytes) -> str:
    """An id from 17 bytes; raises ValueError for another length."""
    if len(entropy) != ENTROPY:
        raise ValueError(f"an id is made from {ENTROPY} bytes, got {len(entropy)}")
    number = int.from_bytes(entropy, "big") | 1 << (8 * ENTROPY - 1)
    return base36(number)[1 : ID_LENGTH + 1]


def new_id() -> str:
    """A fresh id. For shells; pure code gets ids handed in."""
    return encode_id(secrets.token_bytes(ENTROPY))


def new_container_id() -> str:
    """64 hexadecimal digits, as Docker's container ids."""
    return secrets.token_hex(32)
