"""What a member of the agreement must not forget, as one durable thing: hard state, entries, the newest snapshot.

`FileDisk` keeps them in a folder: snapshot files, and `log/` with the segments. The log decides: a snapshot counts from
the moment that a mark in the log names it, so that state, entries and snapshot change together with one sync. A crash
before that leaves a file that nobody names; it is removed at the next start.

member.py makes one and group.py calls it in a thread of its own; the simulator has another Disk. `save_snapshot`,
`snapshot` and `rotate` may run in another thread beside `save`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from common import model
from manager.raft import snapshot as files
from manager.raft.core.messages import Entry, HardState
from manager.raft.files import sync_directory
from manager.raft.log import REPAIR, SEGMENT_BYTES, Log, Recovered, open_log
from manager.raft.records import Content, Mark
from manager.raft.seal import Damaged, Sealer

log = logging.getLogger("raft.disk")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was there at the start: the newest snapshot, and the entries that follow on it."""

    snapshot: model.RaftSnapshot | None
    entries: tuple[Entry, ...]
    state: HardState


class Disk(Protocol):
    """One member's durable state. Every call blocks and returns when the disk has synced it."""

    @property
    def place(self) -> str:
        """Where the log is, for whoever has to be told that it is damaged."""

    def load(self) -> Loaded:
        """Reads everything; comes first. Raises Damaged or OSError."""

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> None:
        """One group, one sync. Entries replace those with the same or a higher index. Raises OSError: nothing counts."""

    def save_snapshot(self, snapshot: model.RaftSnapshot) -> None:
        """Makes `snapshot` the newest; entries that follow on it stay. Raises OSError: the one before it counts."""

    def install(self, snapshot: model.RaftSnapshot, state: HardState) -> None:
        """Replaces snapshot, state and all entries at once. Raises OSError: nothing counts."""

    def compact(self, index: int) -> int:
        """Entries up to `index` may go, as far as a snapshot covers them; returns how many segments went."""

    def snapshot(self) -> model.RaftSnapshot | None:
        """Reads the newest snapshot; raises Damaged or OSError."""

    @property
    def broken(self) -> bool:
        """Whether a write failed in a way that leaves unknown what is on the disk: the member must stop."""

    def close(self) -> None:
        """Lets go of the files."""


class FileDisk:
    """A Disk in a folder."""

    def __init__(self, directory: Path, sealer: Sealer, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._sealer = sealer
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()  # around the log, and what it names
        self._writing = threading.Lock()  # around a snapshot file and its mark
        self._log: Log | None = None
        self._mark: Mark | None = None
        self._state = HardState()
        self._number = 0  # of the snapshot file that was begun last
        self._last = 0

    @property
    def place(self) -> str:
        return str(self._directory / "log")

    @property
    def broken(self) -> bool:
        return self._log is not None and self._log.broken

    @property
    def _open(self) -> Log:
        if self._log is None:
            raise OSError(f"{self._directory} is not loaded")
        return self._log

    # ---- reading

    def load(self) -> Loaded:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_log()
        self._log, found = open_log(self._directory / "log", self._sealer, self._segment_bytes)
        self._log.begin()
        sync_directory(self._directory)
        self._mark, self._state = found.mark, found.state
        self._number = found.mark.number if found.mark else 0
        snapshot = self._load_snapshot()
        self._remove_others()
        entries = self._following(found)
        base = found.mark.index if found.mark else 0
        self._last = entries[-1].index if entries else base
        if found.state.commit > self._last:
            raise Damaged(
                f"{self._directory}: the log ends at entry {self._last}, but it once was committed up to "
                f"{found.state.commit}: a segment is missing; {REPAIR}"
            )
        # A snapshot is made of what is committed, also when nobody has written that down yet.
        return Loaded(snapshot, entries, replace(found.state, commit=max(found.state.commit, base)))

    def _require_log(self) -> None:
        if any(self._directory.glob("*.snap")) and not any((self._directory / "log").glob("*.log")):
            raise Damaged(f"{self._directory}/log is empty but there are snapshots: it is missing; {REPAIR}")

    def _load_snapshot(self) -> model.RaftSnapshot | None:
        mark = self._mark
        if mark is None or not mark.number:
            return None
        path = files.path_of(self._directory, mark.number)
        found = files.load(path, self._sealer, mark.number)
        if (found.index, found.term) != (mark.index, mark.term):
            raise Damaged(f"{path} is of entry {found.index}, the log names {mark.index}; {REPAIR}")
        return found

    def _following(self, found: Recovered) -> tuple[Entry, ...]:
        base = found.mark.index if found.mark else 0
        if found.entries and found.entries[0].index > base + 1:
            raise Damaged(
                f"{self._directory}: the log goes on at entry {found.entries[0].index}, but the state ends at "
                f"{base}: a segment or snapshot is missing; {REPAIR}"
            )
        skip = base + 1 - found.entries[0].index if found.entries else 0
        return tuple(found.entries[skip:])

    def snapshot(self) -> model.RaftSnapshot | None:
        with self._lock:
            mark, sealer = self._mark, self._sealer
            if mark is None or not mark.number:
                return None
            path = files.path_of(self._directory, mark.number)
            source = path.open("rb")  # it stays readable when a newer one replaces it
        with source:
            return files.decode(source.read(), path, sealer, mark.number)

    # ---- writing

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> None:
        group: list[Content] = [*entries]
        if state is not None:
            group.append(state)
        if not group:
            return
        with self._lock:
            if entries and not 0 < entries[0].index <= self._last + 1:
                raise ValueError(f"entry {entries[0].index} cannot follow on entry {self._last}")
            self._open.append(group)
            self._state = state or self._state
            self._last = entries[-1].index if entries else self._last

    def save_snapshot(self, snapshot: model.RaftSnapshot) -> None:
        with self._writing:
            mark = self._write_snapshot(snapshot, self._sealer, replaces=False)
            with self._lock:
                if self._mark is None or snapshot.index > self._mark.index:
                    self._put([mark], mark)
                    self._last = max(self._last, mark.index)
            self._tidy(self._remove_others)

    def install(self, snapshot: model.RaftSnapshot, state: HardState) -> None:
        with self._writing:
            mark = self._write_snapshot(snapshot, self._sealer, replaces=True)
            with self._lock:
                self._put([mark, state], mark)
                self._state, self._last = state, mark.index
                self._tidy(lambda: self._open.compact(0))
            self._tidy(self._remove_others)

    def _write_snapshot(self, snapshot: model.RaftSnapshot, sealer: Sealer, replaces: bool) -> Mark:
        self._number += 1
        files.save(self._directory, sealer, self._number, snapshot)
        return Mark(self._number, snapshot.index, snapshot.term, replaces)

    def _put(self, group: Sequence[Content], mark: Mark, sealer: Sealer | None = None) -> None:
        self._open.append(group, sealer)
        self._mark = mark

    def _tidy(self, remove: Callable[[], object]) -> None:
        """What cannot be removed does no harm: the call that made it superfluous counts, and a later one tries again."""
        try:
            remove()
        except OSError as exc:
            log.warning("%s: superfluous files could not be removed: %s", self._directory, exc)

    def _remove_others(self) -> None:
        """Snapshot files that the log does not name; a mark whose write failed may still be named after a restart."""
        if self.broken:
            return
        named = self._mark.number if self._mark else 0
        old = [p for p in self._directory.glob("*.snap*") if p != files.path_of(self._directory, named)]
        for path in old:
            path.unlink()
        if old:
            sync_directory(self._directory)

    def compact(self, index: int) -> int:
        with self._lock:
            return self._open.compact(min(index, self._mark.index if self._mark else 0))

    def rotate(self, sealer: Sealer) -> None:
        """Writes snapshot, entries and state again with the newest key of `sealer`, which opens the older ones too.
        Nothing sealed by an older key is left then. Raises OSError or Damaged: older keys may still be needed."""
        with self._writing, self._lock:
            reader = Log(self._directory / "log", sealer, self._segment_bytes)
            try:
                found = reader.recover()
            finally:
                reader.close()
            mark = Mark(0, 0, 0, replaces=True)
            if (snapshot := self._load_snapshot()) is not None:
                mark = self._write_snapshot(snapshot, sealer, replaces=True)
            self._put([mark, *self._following(found), found.state], mark, sealer)
            self._sealer = sealer
            self._open.compact(0)
            self._remove_others()

    def close(self) -> None:
        with self._lock:
            if self._log is not None:
                self._log.close()
