"""Join tokens: SWMTKN-1-<digest of the root certificate>-<secret>, both in base 36, as Docker writes them. Pure.

The digest proves the swarm to the joiner. The secret is never sent: both sides derive a key from it (common/pki.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from common import errors
from common.ids import ALPHABET, base36

SECRET_BYTES: Final = 16
_PREFIX: Final = "SWMTKN"
_DIGEST_WIDTH: Final = 50
_SECRET_WIDTH: Final = 25


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A parsed token."""

    digest: str  # hexadecimal SHA-256 of the root certificate's PEM
    secret: bytes = field(repr=False)

    def __str__(self) -> str:
        digest = base36(int(self.digest, 16), _DIGEST_WIDTH)
        return f"{_PREFIX}-1-{digest}-{base36(int.from_bytes(self.secret, 'big'), _SECRET_WIDTH)}"


def root_digest(root_pem: bytes) -> str:
    """The digest of a root certificate, as tokens carry it: over the PEM text."""
    return hashlib.sha256(root_pem).hexdigest()


def generate(digest: str, entropy: bytes) -> JoinToken:
    """A token for the swarm with this root; raises ValueError unless there are 16 bytes of entropy."""
    if len(entropy) != SECRET_BYTES:
        raise ValueError(f"a join token's secret has {SECRET_BYTES} bytes, got {len(entropy)}")
    return JoinToken(digest, entropy)


def parse(text: str) -> JoinToken:
    """The token in `text`; raises errors.ShoalError with Docker's text."""
    parts = text.split("-")
    if len(parts) != 4 or parts[:2] != [_PREFIX, "1"]:
        raise errors.ShoalError("invalid join token")
    digest, secret = _number(parts[2], _DIGEST_WIDTH, 32), _number(parts[3], _SECRET_WIDTH, SECRET_BYTES)
    return JoinToken(digest.hex(), secret)


def _number(text: str, width: int, size: int) -> bytes:
    if len(text) != width or any(c not in ALPHABET for c in text):
        raise errors.ShoalError("invalid join token")
    value = int(text, 36)
    if value >> (8 * size):
        raise errors.ShoalError("invalid join token")
    return value.to_bytes(size, "big")
