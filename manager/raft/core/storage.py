"""The stable part of the log as the core reads it, and one in memory.

The core only reads. Whoever runs it writes what each Ready brings (entries, hard state, snapshot) before it sends
the messages of that Ready. `MemoryStorage` serves tests, and the durable storage keeps its cache of entries in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from manager.raft.core.errors import Compacted, Inconsistent, SnapshotOutOfDate, Unavailable
from manager.raft.core.messages import (
    ConfState,
    Entry,
    HardState,
    Snapshot,
    SnapshotMetadata,
    limit_size,
)


class Storage(Protocol):
    """Read-only view of what is stable; no call may change what an earlier one returned."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """What was saved last, asked once at the start."""

    def entries(self, lo: int, hi: int, max_size: int, /) -> Sequence[Entry]:
        """Entries of lo <= index < hi, as many as fit into max_size encoded bytes, but one; Compacted, Unavailable."""

    def term(self, index: int, /) -> int:
        """Term at an index from first_index - 1 to last_index; raises Compacted or Unavailable."""

    def first_index(self) -> int:
        """Index of the first entry that isn't compacted; last_index + 1 when there is none."""

    def last_index(self) -> int:
        """Index of the last entry, or of the snapshot when there is none."""

    def snapshot(self) -> Snapshot:
        """The latest snapshot; raises SnapshotTemporarilyUnavailable."""


class MemoryStorage:
    """A Storage in memory."""

    __slots__ = ("_entries", "_hard_state", "_offset", "_offset_term", "_snapshot")

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot()
        self._entries: list[Entry] = []
        # The index that is compacted last: its entry is gone, its term is still known.
        self._offset = 0
        self._offset_term = 0

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self._hard_state, self._snapshot.metadata.conf_state

    def entries(self, lo: int, hi: int, max_size: int, /) -> Sequence[Entry]:
        if lo <= self._offset:
            raise Compacted(f"entry {lo} is compacted")
        if hi > self.last_index() + 1:
            raise Inconsistent(f"entries up to {hi} asked for, the last one is {self.last_index()}")
        if not self._entries:
            raise Unavailable(f"no entry {lo}")
        return limit_size(self._entries[lo - self._offset - 1 : hi - self._offset - 1], max_size)

    def term(self, index: int, /) -> int:
        if index < self._offset:
            raise Compacted(f"entry {index} is compacted")
        if index == self._offset:
            return self._offset_term
        if index > self.last_index():
            raise Unavailable(f"no entry {index}")
        return self._entries[index - self._offset - 1].term

    def first_index(self) -> int:
        return self._offset + 1

    def last_index(self) -> int:
        return self._offset + len(self._entries)

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def set_hard_state(self, state: HardState) -> None:
        """Replaces the hard state."""
        self._hard_state = state

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds entries; those that are compacted are left out, those that are there are replaced with all after them."""
        if not entries or entries[-1].index <= self._offset:
            return
        if entries[0].index <= self._offset:
            entries = entries[self._offset + 1 - entries[0].index :]
        keep = entries[0].index - self._offset - 1
        if keep > len(self._entries):
            raise Inconsistent(f"entry {entries[0].index} comes after {self.last_index()}")
        del self._entries[keep:]
        self._entries.extend(entries)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replaces everything by a snapshot; raises SnapshotOutOfDate."""
        if snapshot.metadata.index <= self._snapshot.metadata.index:
            raise SnapshotOutOfDate(f"a snapshot at {self._snapshot.metadata.index} is there")
        self._snapshot = snapshot
        self._entries = []
        self._offset, self._offset_term = snapshot.metadata.index, snapshot.metadata.term

    def create_snapshot(self, index: int, conf_state: ConfState | None, data: bytes) -> Snapshot:
        """Keeps the application's state at `index` as the snapshot to send; without a membership the last one stays."""
        if index <= self._snapshot.metadata.index:
            raise SnapshotOutOfDate(f"a snapshot at {self._snapshot.metadata.index} is there")
        if index > self.last_index():
            raise Inconsistent(f"a snapshot at {index}, the last entry is {self.last_index()}")
        if conf_state is None:
            conf_state = self._snapshot.metadata.conf_state
        self._snapshot = Snapshot(SnapshotMetadata(conf_state, index, self.term(index)), data)
        return self._snapshot

    def compact(self, index: int) -> None:
        """Forgets the entries up to `index`, which must be applied; raises Compacted."""
        if index <= self._offset:
            raise Compacted(f"entry {index} is compacted")
        if index > self.last_index():
            raise Inconsistent(f"compaction up to {index}, the last entry is {self.last_index()}")
        term = self.term(index)
        del self._entries[: index - self._offset]
        self._offset, self._offset_term = index, term
