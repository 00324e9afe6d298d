"""State at rest is always encrypted: AES-256-GCM by a key of this manager, in a file that only root reads.

The key file says how the key is kept (`plain`; a lock by a key that is not on the disk can follow as another word).
Used by log.py and snapshot.py; the daemon makes the key at init.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manager.raft.files import read_private, write_atomically

KEY_BYTES: Final = 32
_NONCE: Final = 12
_HEADER: Final = "SHOAL-KEY-1"
OVERHEAD: Final = _NONCE + 16


class Damaged(Exception):
    """State on disk that cannot be read; the message names the file, the place and what to do."""


class Sealer:
    """Encrypts records with one key; `context` binds a record to its use."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, data: bytes, context: bytes) -> bytes:
        """`data` encrypted and authenticated."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The opposite of seal; raises InvalidTag for bytes that were changed or have another key."""
        if len(sealed) < OVERHEAD:
            raise InvalidTag
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context)


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
