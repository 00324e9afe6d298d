"""A member's log in memory, as its disk holds it: what manager/raft/replica.py gives to the core to read. Pure."""

from __future__ import annotations

from dataclasses import replace

from manager.raft.core.errors import SnapshotTemporarilyUnavailable
from manager.raft.core.messages import ConfState, Entry, HardState, Snapshot, SnapshotMetadata
from manager.raft.core.storage import MemoryStorage


class StableLog(MemoryStorage):
    """A snapshot from before the last change of membership is not for sending: whoever it does not name would refuse it.
    `wanted` says that such a one was asked for, `changed_at` where the last change was applied."""

    __slots__ = ("changed_at", "wanted")

    def __init__(
        self, conf_state: ConfState, index: int, term: int, entries: tuple[Entry, ...], state: HardState
    ) -> None:
        """With a snapshot at `index` and `term`, 0 without one, and the entries that follow it."""
        super().__init__()
        self.changed_at = 0
        self.wanted = False
        if index:
            self.apply_snapshot(Snapshot(SnapshotMetadata(conf_state, index, term)))
        self.append(entries)
        self.set_hard_state(replace(state, term=max(state.term, term), commit=max(state.commit, index)))

    def snapshot(self) -> Snapshot:
        found = super().snapshot()
        if found.metadata.index < self.changed_at:
            self.wanted = True
            raise SnapshotTemporarilyUnavailable("a newer snapshot is being made")
        return found

    @property
    def snapshot_index(self) -> int:
        """Where the newest snapshot stands."""
        return super().snapshot().metadata.index
