"""The machine's disk under a manager: its calls take virtual time, and a crash meets them before, after or in the middle.

The files are real ones (in memory, where the machine has that); log and snapshots are written by the real modules. Each
call returns when its bytes are synced, so all that a crash can take back is the call under way: it never began, it was
complete, or the group that it wrote is torn.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORD = 8
FULL = OSError(errno.ENOSPC, "No space left on device")


class DiskTime:
    """One machine's disk, through all lives of its processes."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root
        self.rng = rng
        self.sync = 0.001  # seconds, on average
        self.full = False
        self.calls = 0
        self.torn = 0
        self._lock = asyncio.Lock()
        self._before: tuple[Path, bytes, frozenset[Path]] | None = None  # newest segment, snapshots

    async def run(self, call: Callable[[], Any]) -> Any:
        """One call of the disk's thread."""
        async with self._lock:
            self.calls += 1
            took = 0.0002 + self.rng.expovariate(1.0) * self.sync
            if self.full and getattr(call, "__name__", "") not in ("close", "load"):
                await asyncio.sleep(took)
                raise FULL
            if self.rng.random() < 0.5:
                await asyncio.sleep(took)
                return call()
            self._before = self._newest() if self.rng.random() < 0.5 else None
            try:
                return call()
            finally:
                await asyncio.sleep(took)
                self._before = None

    def crash(self) -> None:
        """The process dies; what it was writing may be torn. The next one begins with a free disk."""
        self._lock = asyncio.Lock()
        before, self._before = self._before, None
        if before is None or not before[0].exists():
            return
        path, old, snapshots = before
        new = path.read_bytes()
        if len(new) != len(old) or new == old:
            return
        if not snapshots <= self._snapshots():  # they go only after the log's record of a newer one is synced
            return
        begin = next(i for i in range(len(new)) if new[i] != old[i])
        end = next(i for i in range(len(new), 0, -1) if new[i - 1] != old[i - 1])
        path.write_bytes(self._mixed(old, new, begin // WORD * WORD, end))
        self.torn += 1

    def _mixed(self, old: bytes, new: bytes, begin: int, end: int) -> bytes:
        """A beginning of the write, or some of its words, lines or sectors; each word is written as a whole."""
        if self.rng.random() < 0.7:
            place = self.rng.randrange(begin, end, WORD)
            return new[:place] + old[place:]
        size = self.rng.choice((WORD, 64, 512))
        mixed = bytearray(new)
        for start in range(begin // size * size, end, size):
            if self.rng.random() < 0.5:
                mixed[start : start + size] = old[start : start + size]
        return bytes(mixed)

    def _newest(self) -> tuple[Path, bytes, frozenset[Path]] | None:
        found = sorted(self.root.glob("state/raft*/log/*.log"))
        return (found[-1], found[-1].read_bytes(), self._snapshots()) if found else None

    def _snapshots(self) -> frozenset[Path]:
        return frozenset(self.root.glob("state/raft*/*.snap"))
