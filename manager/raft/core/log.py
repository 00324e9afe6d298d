"""The log of one member: what the storage holds, then what isn't stable yet, and how far it is committed and applied.

Always applied <= applying <= committed <= last_index. `applying` is what was handed out to be applied; when more than
`max_applying_size` bytes of it wait, or a batch had to be cut, the next is held back until some are applied.
Used by raft.py and its parts; node.py takes from it what goes into a Ready.
"""

from __future__ import annotations

from collections.abc import Sequence

from manager.raft.core.errors import Compacted, Inconsistent, StorageError, Unavailable
from manager.raft.core.messages import NO_LIMIT, Entry, Snapshot, entries_size, limit_size
from manager.raft.core.storage import Storage
from manager.raft.core.unstable import Unstable


class RaftLog:
    """See the module."""

    __slots__ = (
        "applied",
        "applying",
        "applying_paused",
        "applying_size",
        "committed",
        "max_applying_size",
        "storage",
        "unstable",
    )

    def __init__(self, storage: Storage, max_applying_size: int = NO_LIMIT) -> None:
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1)
        # Whatever is compacted was applied.
        self.committed = self.applying = self.applied = storage.first_index() - 1
        self.max_applying_size = max_applying_size
        self.applying_size = 0
        self.applying_paused = False

    # -- reading -------------------------------------------------------------------------------------------------

    def first_index(self) -> int:
        """Index of the first entry that isn't compacted."""
        first = self.unstable.first_index()
        return self.storage.first_index() if first is None else first

    def last_index(self) -> int:
        """Index of the last entry."""
        last = self.unstable.last_index()
        return self.storage.last_index() if last is None else last

    def last_term(self) -> int:
        """Term of the last entry."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """Term of an entry, also of the one compacted last; raises Compacted or Unavailable."""
        known = self.unstable.term(index)
        if known is not None:
            return known
        if index + 1 < self.first_index():
            raise Compacted(f"entry {index} is compacted")
        if index > self.last_index():
            raise Unavailable(f"no entry {index}")
        return self.storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """Term of an entry, 0 if it isn't there."""
        try:
            return self.term(index)
        except (Compacted, Unavailable):
            return 0

    def match_term(self, index: int, term: int) -> bool:
        """Whether the entry is there and of that term."""
        try:
            return self.term(index) == term
        except StorageError:
            return False

    def entries(self, lo: int, max_size: int = NO_LIMIT) -> Sequence[Entry]:
        """Entries from `lo` on; raises Compacted."""
        last = self.last_index()
        return () if lo > last else self.slice(lo, last + 1, max_size)

    def slice(self, lo: int, hi: int, max_size: int = NO_LIMIT) -> Sequence[Entry]:
        """Entries of lo <= index < hi, as many as fit into max_size, one at least; raises Compacted."""
        if lo < self.first_index():
            raise Compacted(f"entry {lo} is compacted")
        if lo > hi or hi > self.last_index() + 1:
            raise Inconsistent(f"entries {lo} to {hi - 1} asked for, the last one is {self.last_index()}")
        if lo == hi:
            return ()
        offset = self.unstable.offset
        if lo >= offset:
            return limit_size(self.unstable.slice(lo, hi), max_size)
        cut = min(hi, offset)
        try:
            stable = self.storage.entries(lo, cut, max_size)
        except Unavailable as exc:
            raise Inconsistent(f"the storage has lost entries {lo} to {cut - 1}: {exc}") from exc
        if hi <= offset or len(stable) < cut - lo:
            return stable
        if max_size >= NO_LIMIT:
            return [*stable, *self.unstable.slice(offset, hi)]
        room = max_size - entries_size(stable)
        if room <= 0:
            return stable
        rest = limit_size(self.unstable.slice(offset, hi), room)
        if len(rest) == 1 and entries_size(rest) > room:
            return stable
        return [*stable, *rest]

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends there is as good as this one, so that its owner may lead."""
        last = self.last_index()
        ours = self.term(last)
        return term > ours or (term == ours and index >= last)

    # -- appending and committing --------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> int:
        """Puts entries at their place, in the place of what was there and after; gives the last index."""
        if entries:
            if entries[0].index <= self.committed:
                raise Inconsistent(
                    f"entry {entries[0].index} would replace a committed one ({self.committed})"
                )
            self.unstable.truncate_and_append(entries)
        return self.last_index()

    def maybe_append(self, index: int, term: int, entries: Sequence[Entry], committed: int) -> int | None:
        """Appends a leader's entries after (index, term) and commits what it says; gives the last new index, None if
        the logs don't match there."""
        if not self.match_term(index, term):
            return None
        last_new = index + len(entries)
        conflict = self.find_conflict(entries)
        if conflict:
            if conflict <= self.committed:
                raise Inconsistent(f"entry {conflict} conflicts with a committed one ({self.committed})")
            self.append(entries[conflict - index - 1 :])
        self.commit_to(min(committed, last_new))
        return last_new

    def find_conflict(self, entries: Sequence[Entry]) -> int:
        """Index of the first entry that isn't here in the same term, 0 if all are."""
        for entry in entries:
            if not self.match_term(entry.index, entry.term):
                return entry.index
        return 0

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The last place up to `index` whose term isn't above `term`, with its term: the logs can't match behind it.
        Where terms aren't known any more it is that place, with term 0."""
        while index > 0:
            try:
                ours = self.term(index)
            except StorageError:
                return index, 0
            if ours <= term:
                return index, ours
            index -= 1
        return 0, 0

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed; never goes back."""
        if index <= self.committed:
            return
        if index > self.last_index():
            raise Inconsistent(
                f"entry {index} is committed, but the log ends at {self.last_index()}: it was damaged or lost"
            )
        self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commits up to an entry that a quorum holds, if it is of this term."""
        if index > self.committed and term != 0 and self.match_term(index, term):
            self.commit_to(index)
            return True
        return False

    # -- applying ------------------------------------------------------------------------------------------------

    def has_next_committed(self) -> bool:
        """Whether next_committed would give any."""
        return not self.applying_paused and self.unstable.snapshot is None and self.applying < self.committed

    def next_committed(self) -> Sequence[Entry]:
        """Committed entries to be applied next; none while a snapshot is to be applied first."""
        if not self.has_next_committed():
            return ()
        room = self.max_applying_size - self.applying_size
        if room <= 0:
            raise Inconsistent("too much is being applied, and it isn't paused")
        return self.slice(self.applying + 1, self.committed + 1, room)

    def accept_applying(self, index: int, size: int) -> None:
        """Entries up to `index`, of `size` bytes, were handed out."""
        if index > self.committed:
            raise Inconsistent(f"entry {index} was handed out, but only {self.committed} are committed")
        self.applying = index
        self.applying_size += size
        self.applying_paused = self.applying_size >= self.max_applying_size or index < self.committed

    def applied_to(self, index: int, size: int) -> None:
        """Entries up to `index`, of `size` bytes, are applied."""
        if not self.applied <= index <= self.committed:
            raise Inconsistent(f"applied {index} is out of range [{self.applied}, {self.committed}]")
        self.applied = index
        self.applying = max(self.applying, index)
        self.applying_size = max(self.applying_size - size, 0)
        self.applying_paused = self.applying_size >= self.max_applying_size

    # -- snapshots -----------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The snapshot that came in last, or the storage's; raises SnapshotTemporarilyUnavailable."""
        return self.unstable.snapshot or self.storage.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """A snapshot takes the place of the log."""
        self.committed = snapshot.metadata.index
        self.unstable.restore(snapshot)
