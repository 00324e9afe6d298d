"""State at rest is always encrypted: AES-256-GCM by data keys of this manager, in a file that only root reads.

The key file holds the data keys as they are (`plain`) or sealed by the swarm's unlock key (`locked`), which is on no
disk. A data key is replaced in steps that a crash may interrupt anywhere: the file gets the new one beside the old one;
everything is sealed anew; the file loses the old one. Used by disk.py and log.py; autolock.py makes the steps.
"""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


class Locked(Exception):
    """The data keys are locked by an unlock key that isn't on this machine's disk."""


class WrongKey(Exception):
    """That is not the unlock key."""


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


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file says: data keys by number, as they are or locked by the unlock key of a generation."""

    keys: Mapping[int, bytes] = field(repr=False)
    generation: int = 0
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """The open data keys, and the lock that their file has on the disk."""

    keys: Mapping[int, bytes] = field(repr=False)
    generation: int = 0
    unlock_key: bytes = field(default=b"", repr=False)

    @property
    def rotating(self) -> bool:
        """Whether a new data key is there and something may still be sealed by the one before it."""
        return len(self.keys) > 1

    def sealer(self) -> Sealer:
        """Seals with the newest key, opens with all."""
        newest = max(self.keys)
        return Sealer(self.keys[newest], newest, {n: AESGCM(key) for n, key in self.keys.items()})

    def locked_by(self, unlock_key: bytes, generation: int) -> Keys:
        """The same keys with another lock; none if `unlock_key` is empty."""
        return Keys(self.keys, generation, unlock_key)

    def with_new_key(self) -> Keys:
        """One more data key, which is the newest."""
        return replace(self, keys={**self.keys, max(self.keys) + 1: os.urandom(KEY_BYTES)})

    def without_old_keys(self) -> Keys:
        """Only the newest data key."""
        newest = max(self.keys)
        return replace(self, keys={newest: self.keys[newest]})

    def save(self, path: Path) -> None:
        """Replaces the key file."""
        lock = Sealer(self.unlock_key) if self.unlock_key else None
        kept = {n: lock.seal(key, _wrapped(n)) if lock else key for n, key in self.keys.items()}
        write_atomically(path, _encode(KeyFile(kept, self.generation, lock is not None)), 0o600)


def new_keys() -> Keys:
    """One new data key without a lock."""
    return Keys({1: os.urandom(KEY_BYTES)})


def read_keys(path: Path) -> KeyFile:
    """The key file as it is; raises Damaged, PermissionError or OSError."""
    return _decode(read_private(path), path)


def unlock(found: KeyFile, unlock_key: bytes = b"") -> Keys:
    """Opens the data keys; raises Locked without a key that is needed, and WrongKey."""
    if not found.locked:
        return Keys(found.keys, found.generation)
    if not unlock_key:
        raise Locked
    try:
        lock = Sealer(unlock_key)
        keys = {n: lock.open(kept, _wrapped(n)) for n, kept in found.keys.items()}
    except (InvalidTag, ValueError) as exc:
        raise WrongKey from exc
    return Keys(keys, found.generation, unlock_key)


def create_key(path: Path) -> Sealer:
    """Makes a new key in a new file."""
    made = new_keys()
    made.save(path)
    return made.sealer()


def load_key(path: Path) -> Sealer:
    """The keys in `path`; raises Damaged or Locked."""
    return unlock(read_keys(path)).sealer()


def _wrapped(number: int) -> bytes:
    return b"data key %d" % number


def _encode(file: KeyFile) -> bytes:
    lines = [_HEADER, f"{'locked' if file.locked else 'plain'} {file.generation}"]
    lines += [f"key {n} {base64.b64encode(key).decode()}" for n, key in sorted(file.keys.items())]
    text = "\n".join(lines) + "\n"
    return f"{text}end {zlib.crc32(text.encode()):08x}\n".encode()


def _decode(data: bytes, path: Path) -> KeyFile:
    text, _, end = data.decode("ascii", "replace").rpartition("end ")
    if not text.startswith(_HEADER + "\n") or end != f"{zlib.crc32(text.encode()):08x}\n":
        raise Damaged(f"{path} is damaged or no key file of this version: bring the file back from a backup")
    _, lock, *lines = text.splitlines()
    kind, _, generation = lock.partition(" ")
    keys: dict[int, bytes] = {}
    for line in lines:
        _, number, value = line.split(" ")
        keys[int(number)] = base64.b64decode(value)
    return KeyFile(keys, int(generation), kind == "locked")
