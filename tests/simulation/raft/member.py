"""One member of a simulated group: an engine, a disk, a small state machine, and the order of things between them.

What is early is sent, the rest is saved with one sync, then sent, then handed on to be applied, as docs/consensus.md
says; while the disk syncs, time goes on and messages come in. Everything else (clients, faults) calls a member from
outside; cluster.py or a stage is the world around it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from manager.raft.core.messages import (
    AnyConfChange,
    ConfState,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from manager.raft.members import Members
from manager.raft.replica import Committed, Refused, Start, Work
from tests.simulation.raft.clock import Clock
from tests.simulation.raft.disk import Disk
from tests.simulation.raft.engine import Engine
from tests.simulation.raft.invariants import Invariants, Violation, normal

_INBOX = 300
"""Messages that wait for a paused member; more are lost."""

Answer = Callable[[bool | None, str | None], None]
"""Called with whether it was done (None: nobody knows), and what was read."""


class World(Protocol):
    """What surrounds a member: a seeded run, or a stage."""

    rng: random.Random
    clock: Clock
    check: Invariants
    sync_time: float
    """Mean, in ticks."""
    apply_time: float
    """What an entry waits until it is applied, in ticks."""
    lazy: bool
    """Whether a commit that needn't be safe isn't written at all, as managers do; else it waits for the next sync."""
    trace: Callable[[str], None] | None

    def engine(self, start: Start) -> Engine:
        """What thinks inside of a member."""

    def carry(self, sender: Member, message: Message, /) -> None:
        """Takes a message to its receiver."""

    def snapshot_arrived(self, message: Message, /) -> None:
        """The receiver has got it."""

    def snapshot_lost(self, message: Message, /) -> None:
        """The receiver is down."""

    def say(self, text: str, /) -> None:
        """For whoever looks on."""


class Member:
    """Up while `engine` is there; `life` tells one start from the next."""

    def __init__(self, world: World, id_: int, disk: Disk) -> None:
        self.world = world
        self.id = id_
        self.disk = disk
        self.engine: Engine | None = None
        self.life = 0
        self.rate = 1.0
        self.paused = False
        self.saving = False
        self.hard_state = HardState()
        self.led_term = 0
        self.handed = 0
        self.applied = 0
        self.values: dict[str, str] = {}
        self.confs: list[ConfState] = [ConfState()]
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._reads: dict[bytes, tuple[str, int, Answer]] = {}
        self._waiting: list[tuple[int, str, Answer]] = []
        self._contexts = 0
        self._capturing = False

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins a life with what the disk holds."""
        world = self.world
        self.life += 1
        self.paused = self.saving = self._capturing = False
        self.led_term = 0
        self._reads, self._waiting, self._inbox = {}, [], []
        found = self.disk.snapshot
        self._restore(found)
        self.hard_state = self.disk.recover()
        self.handed = found.metadata.index
        self.confs = [normal(found.metadata.conf_state)]
        world.check.restarted(self)
        self.engine = world.engine(
            Start(
                self.id,
                self.hard_state,
                tuple(self.disk.entries),
                found.metadata.index,
                found.metadata.term,
                found.metadata.conf_state,
                self._table(found),
            )
        )
        world.clock.at(self.rate * world.rng.random(), self._tick, self.life)

    def crash(self, *, gently: bool = False) -> None:
        """Dies, and forgets what wasn't synced: all of it if `gently`, or some."""
        self.engine = None
        self.disk.crash(None if gently else self.world.rng)

    def pause(self) -> None:
        """Stands still, as a stopped process does: ticks are lost, what comes in waits."""
        self.paused = True

    def resume(self) -> None:
        """Goes on, with all that waited at once."""
        self.paused = False
        waiting, self._inbox = self._inbox, []
        for call, args in waiting:
            call(*args)

    def _later(self, call: Callable[..., None], *args: Any, always: bool = False) -> None:
        if always or len(self._inbox) < _INBOX:
            self._inbox.append((call, args))

    def _tick(self, life: int) -> None:
        if life != self.life or self.engine is None:
            return
        if not self.paused:
            self.engine.tick()
            self._work()
        world = self.world
        world.clock.at(self.rate * (0.9 + 0.2 * world.rng.random()), self._tick, life)

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.engine is not None

    @property
    def leads(self) -> bool:
        """Whether it thinks that it is the leader."""
        return self.engine is not None and self.engine.is_leader

    @property
    def lead(self) -> int:
        """Whom it follows."""
        return 0 if self.engine is None else self.engine.lead

    @property
    def conf(self) -> ConfState:
        """Its membership."""
        return self.confs[-1]

    # -- what comes in ----------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """A message arrives."""
        if self.engine is None:
            if message.type == MessageType.SNAP:
                self.world.snapshot_lost(message)
            return
        if self.paused:
            self._later(self.receive, message)
            return
        self.engine.step(message)
        if message.type == MessageType.SNAP:
            self.world.snapshot_arrived(message)
        self._work()

    def report(self, life: int, to: int, snapshot: bool, ok: bool) -> None:
        """The transport tells what became of a message."""
        if self.engine is None or life != self.life:
            return
        if self.paused:
            self._later(self.report, life, to, snapshot, ok)
        elif snapshot:
            self.do(lambda engine: engine.snapshot_sent(to, ok))
        else:
            self.do(lambda engine: engine.unreachable(to))

    def do(self, call: Callable[[Engine], None]) -> bool:
        """Lets somebody ask the engine for something; False if it refuses, or isn't up."""
        if self.engine is None or self.paused:
            return False
        try:
            call(self.engine)
        except Refused:
            return False
        self._work()
        return True

    def change(self, change: AnyConfChange) -> bool:
        """Proposes a change of membership."""
        return self.do(lambda engine: engine.change(change, None))

    def write(self, data: bytes, answer: Answer) -> None:
        """A client's write; only a leader takes it."""
        if self.paused:
            self._later(self.write, data, answer)
        elif self.engine is not None and not self.do(lambda engine: engine.propose(data, (data, answer))):
            answer(False, None)

    def read(self, key: str, answer: Answer) -> None:
        """A client's read, at any member."""
        if self.paused:
            self._later(self.read, key, answer)
            return
        self._contexts += 1
        context = b"%d.%d.%d" % (self.id, self.life, self._contexts)
        self._reads[context] = (key, self.world.check.acknowledged, answer)
        self.do(lambda engine: engine.read(context))

    # -- the order of things ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        engine = self.engine
        if self.saving or engine is None:
            return
        world = self.world
        while engine.busy:
            work = engine.work()
            if world.trace is not None:
                world.say(f"{self.id}: {work}")
            world.check.work(self, work)
            self.hard_state = work.state or self.hard_state
            self.confs = [self.confs[-1]]
            self._send(work.early)
            if work.must_sync or work.snapshot is not None:
                self.saving = True
                self.disk.write(work.snapshot, work.entries, work.state)
                delay = 0.02 + world.rng.expovariate(1.0) * world.sync_time
                world.clock.at(delay, self._saved, self.life, work)
                return
            if not world.lazy:
                self.disk.write(None, (), work.state)
            self._finish(engine, work)

    def _saved(self, life: int, work: Work) -> None:
        engine = self.engine
        if life != self.life or engine is None:
            return
        if self.paused:
            self._later(self._saved, life, work, always=True)
            return
        self.disk.sync()
        self.saving = False
        self._finish(engine, work)
        self._work()

    def _send(self, messages: Sequence[Message]) -> None:
        check, carry = self.world.check, self.world.carry
        for message in messages:
            check.leaves(self, message)
            if message.type == MessageType.SNAP:  # the newest one of the disk goes
                message = replace(message, snapshot=self.disk.snapshot)
            carry(self, message)

    def _finish(self, engine: Engine, work: Work) -> None:
        """What is saved is sent and handed on."""
        check = self.world.check
        if work.snapshot is not None:
            self.handed = work.snapshot.metadata.index
            self.confs.append(normal(work.snapshot.metadata.conf_state))
            engine.restored(self._table(work.snapshot))
            self._hand(self._restore, work.snapshot)
        self._send(work.messages)
        for committed in work.committed:
            entry = committed.entry
            check.handed(self, entry)
            self.handed = entry.index
            if committed.change:
                conf = normal(engine.at(entry.index)[1])
                self.confs.append(conf)
                check.membership(self, entry.index, conf)
        if work.committed:
            self._hand(self._apply, work.committed)
        for state in work.reads:
            asked = self._reads.pop(state.context, None)
            if asked is not None:  # an answer may come twice
                key, floor, answer = asked
                check.read(self, floor, state.index)
                self._hand(self._readable, state.index, key, answer)
        for token in work.lost:
            if token is not None:
                token[1](None, None)
        engine.done(work)
        if engine.snapshot_due and not self._capturing:
            self._capturing = True
            self._hand(self._capture)

    # -- the state machine, which works on its own time --------------------------------------------------------------

    def _hand(self, call: Callable[..., None], *args: Any) -> None:
        delay = self.world.apply_time
        if delay:
            self.world.clock.at(delay, self._handed, self.life, call, args)
        else:
            call(*args)

    def _handed(self, life: int, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if life != self.life or self.engine is None:
            return
        if self.paused:
            self._later(self._handed, life, call, args, always=True)
        else:
            call(*args)

    def _apply(self, batch: Sequence[Committed]) -> None:
        check = self.world.check
        for committed in batch:
            entry = committed.entry
            if entry.index != self.applied + 1:
                raise Violation(f"{self.id} applies {entry.index} after {self.applied}")
            self.applied = entry.index
            if committed.change or not entry.data:
                continue
            key, _, value = entry.data.decode().partition("=")
            self.values[key] = value
            if committed.token is not None:
                data, answer = committed.token
                if data != entry.data:
                    raise Violation(f"{self.id} answers {data!r} when it applies {entry.data!r}")
                check.acknowledged = max(check.acknowledged, entry.index)
                answer(True, None)
        if self._waiting:
            self._release()

    def _readable(self, index: int, key: str, answer: Answer) -> None:
        self._waiting.append((index, key, answer))
        self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for index, key, answer in waiting:
            if index <= self.applied:
                answer(True, self.values.get(key))
            else:
                self._waiting.append((index, key, answer))

    # -- snapshots --------------------------------------------------------------------------------------------------

    def _restore(self, snapshot: Snapshot) -> None:
        self.applied = snapshot.metadata.index
        self.values = json.loads(snapshot.data)["values"] if snapshot.data else {}
        if self._waiting:
            self._release()

    @staticmethod
    def _table(snapshot: Snapshot) -> Members:
        removed = json.loads(snapshot.data)["removed"] if snapshot.data else ()
        return Members({}, frozenset(removed))

    def _capture(self) -> None:
        """The state as it is now becomes a snapshot, once it is written."""
        values = dict(self.values)
        self._hand(self._save_snapshot, self.applied, values)

    def save_snapshot(self) -> None:
        """Makes one now."""
        self._save_snapshot(self.applied, self.values)

    def _save_snapshot(self, index: int, values: dict[str, str]) -> None:
        self._capturing = False
        engine = self.engine
        if engine is None or index <= self.disk.newest:
            return
        term, conf, members = engine.at(index)
        content = {"values": values, "removed": sorted(members.removed)}
        data = json.dumps(content, sort_keys=True).encode()
        self.world.check.own_snapshot(self, index, data)
        self.disk.keep_snapshot(Snapshot(SnapshotMetadata(conf, index, term), data))
        engine.snapshot_saved(index)
