"""The keys that seal gossip: AES-GCM, up to three at a time. Pure; frames.py seals and opens with it, node.py changes it.

Managers rotate keys in three steps, so that no packet is lost on the way: every node *adds* the new key (it can now
open what is sealed with it), then every node *uses* it (seals with it), then the oldest is *removed*. What is sealed:
version byte, 12 byte nonce, ciphertext, 16 byte tag. Version 1 is written; version 0, which pads with PKCS#7, is also read.
A nonce must never come twice under one key: the caller draws it from the system's randomness.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.gossip.packing import Malformed

LIMIT: Final = 3
SIZES: Final = (16, 24, 32)
NONCE: Final = 12
OVERHEAD: Final = 1 + NONCE + 16
PADDED, PLAIN = 0, 1
BLOCK: Final = 16


class KeyProblem(ValueError):
    """A change of keys that can't be made."""


class Keyring:
    """The first key seals; all of them open."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys: list[bytes] = []
        self._ciphers: dict[bytes, AESGCM] = {}
        for key in keys:
            self.add(key)
        if not self._keys:
            raise KeyProblem("a key ring needs a key")

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(self._keys)

    def add(self, key: bytes) -> None:
        """Opens with `key` too from now on. Adding a known key changes nothing."""
        if key in self._ciphers:
            return
        if len(key) not in SIZES:
            raise KeyProblem(f"a key of {len(key)} bytes; it must have 16, 24 or 32")
        if len(self._keys) >= LIMIT:
            raise KeyProblem(f"the ring holds {LIMIT} keys already")
        self._keys.append(key)
        self._ciphers[key] = AESGCM(key)

    def use(self, key: bytes) -> None:
        """Seals with `key` from now on."""
        if key not in self._ciphers:
            raise KeyProblem("the key isn't in the ring")
        self._keys.remove(key)
        self._keys.insert(0, key)

    def remove(self, key: bytes) -> None:
        """No longer opens with `key`; the one in use stays."""
        if key not in self._ciphers:
            return
        if self._keys[0] == key:
            raise KeyProblem("the key is in use")
        self._keys.remove(key)
        del self._ciphers[key]

    def seal(self, data: bytes, nonce: bytes, bound: bytes = b"") -> bytes:
        """`bound` is authenticated with it: a stream's header."""
        return bytes([PLAIN]) + nonce + self._ciphers[self._keys[0]].encrypt(nonce, data, bound)

    def open(self, sealed: bytes, bound: bytes = b"") -> bytes:
        """What was sealed with any of the keys; Malformed otherwise."""
        if len(sealed) < OVERHEAD or sealed[0] not in (PADDED, PLAIN):
            raise Malformed("not sealed")
        nonce, text = sealed[1 : 1 + NONCE], sealed[1 + NONCE :]
        for key in self._keys:
            try:
                data = self._ciphers[key].decrypt(nonce, text, bound)
            except InvalidTag:
                continue
            return _unpadded(data) if sealed[0] == PADDED else data
        raise Malformed("sealed with none of our keys")


def _unpadded(data: bytes) -> bytes:
    if not data or not 1 <= data[-1] <= BLOCK or data[-1] > len(data):
        raise Malformed("wrong padding")
    return data[: -data[-1]]
