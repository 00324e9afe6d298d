"""Snapshot files: state and membership at one index, sealed, written atomically. Which one counts, the log says.

Used by disk.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError

from common import model
from manager.raft.files import write_atomically
from manager.raft.seal import Damaged, Sealer

_MAGIC: Final = b"SHOALSNAP2\n"
REPAIR: Final = "remove this manager from the swarm and join it again, or restore a backup"


def path_of(directory: Path, number: int) -> Path:
    """Where snapshot `number` is."""
    return directory / f"{number:016x}.snap"


def save(directory: Path, sealer: Sealer, number: int, snapshot: model.RaftSnapshot) -> Path:
    """Writes and syncs `snapshot`; raises OSError, and nothing is there then."""
    path = path_of(directory, number)
    write_atomically(path, _MAGIC + sealer.seal(snapshot.to_bytes(), _context(number)))
    return path


def load(path: Path, sealer: Sealer, number: int) -> model.RaftSnapshot:
    """What `save` wrote; raises Damaged."""
    try:
        return decode(path.read_bytes(), path, sealer, number)
    except FileNotFoundError as exc:
        raise Damaged(f"{path} is missing: the log goes on from it; {REPAIR}") from exc


def decode(data: bytes, path: Path, sealer: Sealer, number: int) -> model.RaftSnapshot:
    """The snapshot in `data`, which was read from `path`; raises Damaged."""
    try:
        if not data.startswith(_MAGIC):
            raise ValueError("no snapshot")
        return model.RaftSnapshot.from_bytes(sealer.open(data[len(_MAGIC) :], _context(number)))
    except (ValueError, InvalidTag, DecodeError) as exc:
        raise Damaged(f"{path} is damaged or sealed by another key; {REPAIR}") from exc


def _context(number: int) -> bytes:
    return b"snapshot %d" % number
