"""Autolock: managers that restart need a key that is on no disk of theirs. Pure; keeper.py has this manager's files.

The unlock key is in the cluster object, with a generation that counts its changes, so that every manager has it by way of
the agreement. Used by control/clusters.py, bootstrap.py and local.py.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from common import errors, model

KEY_BYTES: Final = 32
LEAVE_LOCKED: Final = (
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message."
)
NOT_LOCKED: Final = "swarm is not locked"
WRONG_KEY: Final = "swarm could not be unlocked: invalid key provided"
_PREFIX: Final = "SWMKEY-1-"


def text(unlock_key: bytes) -> str:
    """The unlock key as people see it; empty without one."""
    return _PREFIX + base64.b64encode(unlock_key).decode().rstrip("=") if unlock_key else ""


def parse(said: str) -> bytes:
    """The unlock key in `said`; raises errors.InvalidArgument."""
    encoded = said.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise errors.InvalidArgument("invalid key string") from exc
    if encoded == said or len(key) != KEY_BYTES:
        raise errors.InvalidArgument("invalid key string")
    return key


def relocked(cluster: model.Cluster, locked: bool, rotate: bool, new_key: bytes) -> tuple[bytes, int]:
    """Unlock key and generation of a cluster that is `locked` or not from now on."""
    key, generation = cluster.unlock_key, cluster.unlock_generation
    if not locked:
        return b"", generation + bool(key)
    return (new_key, generation + 1) if rotate or not key else (key, generation)
