"""A disk whose crash loses what wasn't synced, but for a beginning of it: the writes happened in their order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from manager.raft.core.messages import Entry, HardState, Snapshot
from manager.raft.core.storage import MemoryStorage

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

    def recover(self) -> MemoryStorage:
        """What a member finds when it starts. A snapshot is of committed entries, even if the state says less."""
        storage = MemoryStorage()
        state = self.hard_state
        if not self.snapshot.empty:
            storage.apply_snapshot(self.snapshot)
            commit = max(state.commit, self.snapshot.metadata.index)
            self.hard_state = state = HardState(state.term, state.vote, commit)
        storage.append(self.entries)
        storage.set_hard_state(state)
        return storage

    def holds(self, index: int, term: int) -> bool:
        """Whether that entry is safe here."""
        place = index - self.snapshot.metadata.index - 1
        if place < 0:
            return True
        return place < len(self.entries) and self.entries[place].term == term

    @property
    def last_index(self) -> int:
        """Index of the last entry that is safe."""
        return self.snapshot.metadata.index + len(self.entries)
