"""The end of the log that the storage doesn't hold yet: entries, or a snapshot that came in, or both.

`offset` is the index of the first unstable entry. What a Ready has handed out to be written is in progress: it isn't
handed out again, and stays here until the runner says that it is stable. Used by log.py only.
"""

from __future__ import annotations

from collections.abc import Sequence

from manager.raft.core.errors import Inconsistent
from manager.raft.core.messages import Entry, Snapshot


class Unstable:
    """See the module."""

    __slots__ = ("entries", "in_progress", "offset", "snapshot", "snapshot_in_progress")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.in_progress = offset  # entries before this index have been handed out
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False

    def first_index(self) -> int | None:
        """Index of the first entry after the snapshot, if there is one."""
        return None if self.snapshot is None else self.snapshot.metadata.index + 1

    def last_index(self) -> int | None:
        """Index of the last entry or of the snapshot, if there is one."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return None if self.snapshot is None else self.snapshot.metadata.index

    def term(self, index: int) -> int | None:
        """Term at `index`, if it is known here."""
        if index < self.offset:
            if self.snapshot is not None and self.snapshot.metadata.index == index:
                return self.snapshot.metadata.term
            return None
        place = index - self.offset
        return self.entries[place].term if place < len(self.entries) else None

    def next_entries(self) -> list[Entry]:
        """Those that are still to be handed out."""
        return self.entries[self.in_progress - self.offset :]

    def has_next_entries(self) -> bool:
        """Whether there are any."""
        return len(self.entries) > self.in_progress - self.offset

    def next_snapshot(self) -> Snapshot | None:
        """The snapshot, if it is still to be handed out."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept(self) -> None:
        """All has been handed out."""
        if self.entries:
            self.in_progress = self.offset + len(self.entries)
        if self.snapshot is not None:
            self.snapshot_in_progress = True

    def stable_to(self, index: int, term: int) -> None:
        """Entries up to this one are written; if it was replaced meanwhile, that doesn't count."""
        if index < self.offset or self.term(index) != term:
            return
        del self.entries[: index + 1 - self.offset]
        self.offset = index + 1
        self.in_progress = max(self.in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """The snapshot at `index` is written."""
        if self.snapshot is not None and self.snapshot.metadata.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """A snapshot takes the place of everything."""
        self.offset = self.in_progress = snapshot.metadata.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Entries take the place of what is there from the index of the first one on."""
        first = entries[0].index
        if first <= self.offset:
            self.entries = list(entries)
            self.offset = self.in_progress = first
            return
        if first > self.offset + len(self.entries):
            raise Inconsistent(f"entry {first} comes after {self.offset + len(self.entries) - 1}")
        del self.entries[first - self.offset :]
        self.entries.extend(entries)
        self.in_progress = min(self.in_progress, first)

    def slice(self, lo: int, hi: int) -> list[Entry]:
        """Entries of lo <= index < hi."""
        if not self.offset <= lo <= hi <= self.offset + len(self.entries):
            raise Inconsistent(f"no unstable entries {lo} to {hi - 1}")
        return self.entries[lo - self.offset : hi - self.offset]
