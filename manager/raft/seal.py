"""State at rest is always encrypted: AES-256-GCM by a key of this manager, in a file that only root reads.

The key file says how the key is kept (`plain`; a lock by a key that is not on the disk can follow as another word).
Used by log.py and snapshot.py; the daemon makes the key at init.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manager.raft.files import read_private, write_atomically

KEY_BYTES: Final = 32
_NONCE: Final = 12
_HEADER: Final = "SHOAL-KEY-1"
_NUMBER: Final = struct.Struct("<I")  # of the key


class Damaged(Exception):
    """State on disk that cannot be read; the message names the file, the place and what to do."""


class Sealer:
    """Encrypts with the newest of its keys and opens with any; `context` binds a record to its use."""

    OVERHEAD: Final = _NUMBER.size + _NONCE + 16

    def __init__(self, key: bytes, number: int = 1, older: Mapping[int, AESGCM] | None = None) -> None:
        self._ciphers = dict(older or {}) | {number: AESGCM(key)}
        self._number = number

    @property
    def number(self) -> int:
        """Of the key that seals."""
        return self._number

    def replaced_by(self, key: bytes) -> Sealer:
        """One that seals with `key` from now on, and still opens what this one opens."""
        return Sealer(key, self._number + 1, self._ciphers)

    def seal(self, data: bytes, context: bytes) -> bytes:
        """`data` encrypted and authenticated."""
        nonce, number = os.urandom(_NONCE), _NUMBER.pack(self._number)
        return number + nonce + self._ciphers[self._number].encrypt(nonce, data, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The opposite of seal; raises InvalidTag for bytes that were changed or have another key."""
        if len(sealed) < self.OVERHEAD:
            raise InvalidTag
        cipher = self._ciphers.get(_NUMBER.unpack_from(sealed)[0])
        if cipher is None:
            raise InvalidTag
        start = _NUMBER.size + _NONCE
        return cipher.decrypt(sealed[_NUMBER.size : start], sealed[start:], context)


def create_key(path: Path) -> Sealer:
    """Makes a new key in a new file."""
    key = os.urandom(KEY_BYTES)
    write_atomically(path, f"{_HEADER}\nplain {base64.b64encode(key).decode()}\n".encode(), 0o600)
    return Sealer(key)


def load_key(path: Path) -> Sealer:
    """The key in `path`; raises Damaged."""
    lines = read_private(path).decode("ascii", "replace").split("\n")
    kind, _, value = lines[1].partition(" ") if len(lines) > 1 else ("", "", "")
    if lines[0] != _HEADER or kind != "plain":
        raise Damaged(f"{path} is no key file of this version: bring the file back from a backup")
    try:
        key = base64.b64decode(value, validate=True)
    except ValueError as exc:
        raise Damaged(f"{path} holds no readable key: bring the file back from a backup") from exc
    if len(key) != KEY_BYTES:
        raise Damaged(f"{path} holds a key of {len(key)} bytes: bring the file back from a backup")
    return Sealer(key)
