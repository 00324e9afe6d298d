"""The file of `shoal swarm backup`: a swarm's state as bytes, checksummed, sealed where there is something to seal it by.

    SHOAL-BACKUP-1
    {"cluster": ..., "created": ..., "sealed": "passphrase", ...}     one line, so that people and the CLI can look
    the content, compressed; sealed by AES-256-GCM, the lines above bound to it
    SHA-256 of all before it

The checksum is looked at first and stays in its place in every format to come: a damaged file is told from one of a
newer version, and that from a wrong passphrase. Without a seal the file holds everything that a manager knows in the
clear: the root's key, the join tokens, all secrets. Pure; backups.py and restoration.py use it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import errors

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
_NAME: Final = b"SHOAL-BACKUP-"
_MAGIC: Final = _NAME + b"1\n"
_DIGEST: Final = hashlib.sha256().digest_size
_LEVEL: Final = 3
_COST: Final = {"n": 1 << 15, "r": 8, "p": 3}
_MOST_MEMORY: Final = 256 << 20

NOT_A_BACKUP: Final = "the file is not a backup of a swarm"
DAMAGED: Final = "the backup is damaged: its checksum is not that of its content; use another copy of it"
NEWER: Final = "the backup was made by a newer version of Shoal, with format {}; this version reads format 1"
NO_PASSPHRASE: Final = "the backup is sealed by a passphrase: give it with --passphrase-file"
NO_UNLOCK_KEY: Final = (
    "the backup is sealed by the unlock key that the swarm had then: give it with --passphrase-file"
)
WRONG_PASSPHRASE: Final = "that is not the passphrase of the backup"
WRONG_UNLOCK_KEY: Final = "that is not the unlock key that the swarm had when the backup was made"


class SealedBy(StrEnum):
    """What the content is sealed by."""

    NOTHING = "nothing"
    PASSPHRASE = "passphrase"
    UNLOCK_KEY = "unlock-key"


@dataclass(frozen=True, slots=True)
class About:
    """What the file says in the clear."""

    cluster: str = ""
    node: str = ""  # the manager that made it
    created: int = 0  # ns
    index: int = 0  # of the state
    sealed: SealedBy = SealedBy.NOTHING
    salt: str = ""
    nonce: str = ""
    n: int = 0
    r: int = 0
    p: int = 0


def write(
    content: bytes, cluster: str, node: str, created: int, index: int, sealed: SealedBy, key: str,
    salt: bytes, nonce: bytes,
) -> bytes:  # fmt: skip
    """The whole file. `key` is the passphrase or the unlock key as people see it; salt and nonce are random."""
    about = About(cluster, node, created, index, sealed)
    body = zlib.compress(content, _LEVEL)
    if sealed is SealedBy.NOTHING:
        head = _head(about)
    else:
        about = About(
            cluster, node, created, index, sealed,
            base64.b64encode(salt).decode(), base64.b64encode(nonce).decode(), **_COST,
        )  # fmt: skip
        head = _head(about)
        body = AESGCM(_derived(about, key)).encrypt(nonce, body, head)
    whole = head + body
    return whole + hashlib.sha256(whole).digest()


def about(data: bytes) -> About:
    """What a whole file says of itself; raises errors.InvalidArgument for one that is damaged or of another format."""
    return _parted(data)[0]


def read(data: bytes, key: str = "") -> tuple[About, bytes]:
    """What `write` was given; raises errors.InvalidArgument."""
    about, head, body = _parted(data)
    if about.sealed is not SealedBy.NOTHING:
        passphrase = about.sealed is SealedBy.PASSPHRASE
        if not key:
            raise errors.InvalidArgument(NO_PASSPHRASE if passphrase else NO_UNLOCK_KEY)
        try:
            body = AESGCM(_derived(about, key)).decrypt(base64.b64decode(about.nonce), body, head)
        except InvalidTag as exc:
            raise errors.InvalidArgument(WRONG_PASSPHRASE if passphrase else WRONG_UNLOCK_KEY) from exc
    try:
        return about, zlib.decompress(body)
    except zlib.error as exc:
        raise errors.InvalidArgument(DAMAGED) from exc


def _head(about: About) -> bytes:
    said = {name: value for name, value in asdict(about).items() if value}
    return _MAGIC + json.dumps(said).encode() + b"\n"


def _parted(data: bytes) -> tuple[About, bytes, bytes]:
    """What it says of itself, those bytes, and the content's."""
    if not data.startswith(_NAME):
        raise errors.InvalidArgument(NOT_A_BACKUP)
    whole, digest = data[:-_DIGEST], data[-_DIGEST:]
    if hashlib.sha256(whole).digest() != digest:
        raise errors.InvalidArgument(DAMAGED)
    if not whole.startswith(_MAGIC):
        number = whole[len(_NAME) :].partition(b"\n")[0][:20]
        raise errors.InvalidArgument(NEWER.format(number.decode("ascii", "replace")))
    end = whole.find(b"\n", len(_MAGIC)) + 1
    try:
        values: dict[str, Any] = json.loads(whole[len(_MAGIC) : end])
        found = About(**{**values, "sealed": SealedBy(values["sealed"])})
    except (ValueError, TypeError, KeyError) as exc:
        raise errors.InvalidArgument(DAMAGED) from exc
    return found, whole[:end], whole[end:]


def _derived(about: About, key: str) -> bytes:
    """The key that seals. The checksum stops nobody who means it: what scrypt is asked for stays within bounds."""
    if not 0 < 128 * about.n * about.r <= _MOST_MEMORY or not 0 < about.p <= 16:
        raise errors.InvalidArgument(DAMAGED)
    try:
        return hashlib.scrypt(
            key.encode(), salt=base64.b64decode(about.salt), n=about.n, r=about.r, p=about.p,
            maxmem=2 * _MOST_MEMORY, dklen=32,
        )  # fmt: skip
    except ValueError as exc:
        raise errors.InvalidArgument(DAMAGED) from exc
