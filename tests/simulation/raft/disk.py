"""A disk whose crash loses what wasn't synced, but for a beginning of it: the writes happened in their order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from manager.raft.core.messages import Entry, HardState, Snapshot

Record = Entry | HardState | tuple[Snapshot, bool]


class Disk:
    """What one member has written; `entries` begin after the snapshot."""

    __slots__ = ("_pending", "entries", "hard_state", "snapshot")

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.snapshot = Snapshot()
        self.entries: list[Entry] = []
        self._pending: list[Record] = []

    def write(
        self, snapshot: Snapshot | None, entries: Sequence[Entry], hard_state: HardState | None
    ) -> None:
        """Takes what one Ready brings; it is safe after `sync`."""
        if snapshot is not None:
            self._pending.append((snapshot, True))
        self._pending += entries
        if hard_state is not None:
            self._pending.append(hard_state)

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """The application's own snapshot takes the place of the entries in it, safely."""
        self._pending.append((snapshot, False))
        self.sync()

    def sync(self) -> None:
        """All that was written is safe."""
        for record in self._pending:
            self._take(record)
        self._pending = []

    def crash(self, rng: random.Random | None = None) -> None:
        """Loses unsynced writes from some place on, all of them without dice."""
        for record in self._pending[: rng.randrange(len(self._pending) + 1) if rng else 0]:
            self._take(record)
        self._pending = []

    def _take(self, record: Record) -> None:
        if isinstance(record, Entry):
            del self.entries[record.index - self.snapshot.metadata.index - 1 :]
            self.entries.append(record)
        elif isinstance(record, HardState):
            self.hard_state = record
        else:
            snapshot, foreign = record
            kept = snapshot.metadata.index - self.snapshot.metadata.index
            self.entries = [] if foreign else self.entries[kept:]
            self.snapshot = snapshot

    def recover(self) -> HardState:
        """What a member finds when it starts. A snapshot is of committed entries, even if the state says less."""
        state, at = self.hard_state, self.snapshot.metadata
        if state.commit < at.index:
            self.hard_state = HardState(state.term, state.vote, at.index)
        return self.hard_state

    def term(self, index: int) -> int:
        """Term of an entry that is safe, 0 if it is compacted or missing."""
        place = index - self.snapshot.metadata.index - 1
        if place < 0:
            return self.snapshot.metadata.term if place == -1 else 0
        return self.entries[place].term if place < len(self.entries) else 0

    def holds(self, index: int, term: int) -> bool:
        """Whether that entry is safe here."""
        place = index - self.snapshot.metadata.index - 1
        if place < 0:
            return True
        return place < len(self.entries) and self.entries[place].term == term

    @property
    def newest(self) -> int:
        """Index of the newest snapshot, even if that isn't safe yet."""
        pending = [record[0].metadata.index for record in self._pending if isinstance(record, tuple)]
        return max(self.snapshot.metadata.index, *pending, 0)

    @property
    def last_index(self) -> int:
        """Index of the last entry that is safe."""
        return self.snapshot.metadata.index + len(self.entries)
