"""Snapshot files: the whole state at one index, sealed, written atomically. Only the newest is kept.

Used by consensus (single.py) in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag

from manager.raft.files import sync_directory, write_atomically
from manager.raft.seal import Damaged, Sealer

_MAGIC: Final = b"SHOALSNAP1\n"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state machine's state after the entry at `index`."""

    index: int
    term: int
    data: bytes = field(repr=False)


def _context(index: int, term: int) -> bytes:
    return b"snapshot %d %d" % (index, term)


def save(directory: Path, sealer: Sealer, snapshot: Snapshot) -> Path:
    """Writes `snapshot` and then removes older ones; raises OSError, and the older ones are still there."""
    path = directory / f"{snapshot.index:016x}-{snapshot.term:016x}.snap"
    sealed = sealer.seal(snapshot.data, _context(snapshot.index, snapshot.term))
    write_atomically(path, _MAGIC + sealed)
    old = [p for p in directory.glob("*.snap") if p.name < path.name]
    for other in old:
        other.unlink()
    if old:
        sync_directory(directory)
    return path


def load(directory: Path, sealer: Sealer) -> Snapshot | None:
    """The newest snapshot, None without any; raises Damaged."""
    for leftover in directory.glob("*.snap.tmp"):
        leftover.unlink()
    paths = sorted(directory.glob("*.snap"))
    if not paths:
        return None
    path = paths[-1]
    try:
        index, term = (int(part, 16) for part in path.stem.split("-"))
        data = path.read_bytes()
        if not data.startswith(_MAGIC):
            raise ValueError("no snapshot")
        return Snapshot(index, term, sealer.open(data[len(_MAGIC) :], _context(index, term)))
    except (ValueError, InvalidTag) as exc:
        raise Damaged(
            f"{path} is damaged or sealed by another key: "
            "remove this manager from the swarm and join it again, or restore a backup"
        ) from exc
