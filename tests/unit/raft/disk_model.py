"""What a Disk must give back, in memory; and random histories for one. Used by the crash, kill and property tests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from common import model
from manager.raft.core.messages import Entry, EntryType, HardState
from manager.raft.disk import Disk, Loaded


@dataclass(frozen=True)
class Save:
    """One call of save."""

    state: HardState | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Snapshot:
    """One call of save_snapshot."""

    snapshot: model.RaftSnapshot


@dataclass(frozen=True)
class Install:
    """One call of install."""

    snapshot: model.RaftSnapshot
    state: HardState


@dataclass(frozen=True)
class Compact:
    """One call of compact."""

    index: int


@dataclass(frozen=True)
class Rotate:
    """One change of the key."""


Call: TypeAlias = Save | Snapshot | Install | Compact | Rotate


@dataclass(frozen=True)
class Model:
    """The durable state after some calls."""

    snapshot: model.RaftSnapshot | None = None
    entries: tuple[Entry, ...] = ()
    state: HardState = field(default_factory=HardState)

    @property
    def base(self) -> int:
        """Index of the newest snapshot."""
        return self.snapshot.index if self.snapshot else 0

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.entries[-1].index if self.entries else self.base

    def after(self, call: Call) -> Model:
        """The state once `call` has returned."""
        if isinstance(call, Save):
            entries = self.entries
            if call.entries:
                entries = entries[: max(0, call.entries[0].index - self.base - 1)] + call.entries
            return replace(self, entries=entries, state=call.state or self.state)
        if isinstance(call, Snapshot):
            if call.snapshot.index <= self.base:
                return self
            at = call.snapshot.index - self.base - 1
            same = at < len(self.entries) and self.entries[at].term == call.snapshot.term
            return replace(self, snapshot=call.snapshot, entries=self.entries[at + 1 :] if same else ())
        if isinstance(call, Install):
            return Model(call.snapshot, (), call.state)
        return self

    def loaded(self) -> Loaded:
        """What load must give."""
        state = replace(self.state, commit=max(self.state.commit, self.base))
        return Loaded(self.snapshot, self.entries, state)


def entry(rng: random.Random, index: int, term: int) -> Entry:
    """One of any size and type."""
    size = rng.choice((0, 1, 7, 8, 9, 40, 200))
    return Entry(index, term, EntryType(rng.choice((0, 0, 0, 1, 2))), rng.randbytes(size))


def snapshot(rng: random.Random, index: int, term: int) -> model.RaftSnapshot:
    """One with some state."""
    return model.RaftSnapshot(
        index, term, model.RaftConfState((1, 2, 3)), data=rng.randbytes(rng.choice((0, 50, 500)))
    )


def next_call(rng: random.Random, now: Model) -> Call:
    """Something that a member could do."""
    term, commit = max(now.state.term, 1), max(now.state.commit, now.base)
    kind = rng.random()
    if kind < 0.75:
        term += rng.random() < 0.1
        # After another leader's election, what wasn't committed may be replaced.
        first = rng.randint(commit + 1, now.last + 1) if rng.random() < 0.2 else now.last + 1
        entries = tuple(entry(rng, first + n, term) for n in range(rng.choice((0, 1, 1, 1, 2, 5))))
        last = entries[-1].index if entries else now.last
        state = HardState(term, rng.randint(0, 3), rng.randint(commit, last)) if rng.random() < 0.7 else None
        return Save(state, entries)
    if kind < 0.83 and commit > now.base:
        index = rng.randint(now.base + 1, commit)
        return Snapshot(snapshot(rng, index, now.entries[index - now.base - 1].term))
    if kind < 0.84:
        index = rng.randint(max(commit, 1), commit + 30)
        return Install(snapshot(rng, index, term), HardState(term, 0, index))
    if kind < 0.86:
        return Rotate()
    return Compact(rng.randint(0, now.last + 5))


def history(rng: random.Random, count: int) -> Iterator[Call]:
    """`count` calls, one after the other."""
    now = Model()
    for _ in range(count):
        call = next_call(rng, now)
        now = now.after(call)
        yield call


def make(disk: Disk, call: Call) -> None:
    """Makes `call`, but for Rotate, which is the caller's."""
    if isinstance(call, Save):
        disk.save(call.state, call.entries)
    elif isinstance(call, Snapshot):
        disk.save_snapshot(call.snapshot)
    elif isinstance(call, Install):
        disk.install(call.snapshot, call.state)
    elif isinstance(call, Compact):
        disk.compact(call.index)
