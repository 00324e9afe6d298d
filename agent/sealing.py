"""Encryption of what the agent keeps on disk: AES-256-GCM with a key that lies beside it, readable by root alone.

It keeps assignments, addresses and network keys out of backups and images of the disk that leave the key behind, and it
finds any damage. Used by agent/database.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12
_KEY: Final = 32


class Damaged(Exception):
    """Sealed data that does not open: altered, torn, or sealed by another key."""


class Seal:
    """Seals values; `purpose` names where a value belongs, so that none can be put in another's place."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, purpose: str, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, purpose.encode())

    def open(self, purpose: str, data: bytes) -> bytes:
        """The value again; raises Damaged."""
        try:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], purpose.encode())
        except (InvalidTag, ValueError) as exc:
            raise Damaged(f"{purpose} does not open") from exc


def write_private(path: Path, data: bytes) -> None:
    """Replaces `path` in one step, readable by its owner alone; it survives a power cut whole."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def node_key(folder: Path) -> bytes:
    """The node's key, made on the first call."""
    path = folder / "key"
    if path.exists() and len(key := path.read_bytes()) == _KEY:
        return key
    key = os.urandom(_KEY)
    write_private(path, key)
    return key
