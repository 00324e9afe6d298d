"""One member of a simulated group: the core, a disk, a small state machine, and the order of things between them.

Save, then send, then apply, then advance, as docs/consensus.md says; while the disk syncs, time goes on and messages
come in. Everything else (clients, faults) calls a member from outside; cluster.py owns them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Protocol

from manager.raft.core.config import Config
from manager.raft.core.errors import ProposalDropped, StepPeerNotFound
from manager.raft.core.messages import (
    AnyConfChange,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
    Snapshot,
    decode_entry,
)
from manager.raft.core.node import RawNode, Ready
from manager.raft.core.storage import MemoryStorage
from tests.simulation.raft.clock import Clock
from tests.simulation.raft.disk import Disk
from tests.simulation.raft.invariants import Invariants, everybody, normal

_AHEAD = frozenset({MessageType.APP, MessageType.HEARTBEAT})
"""What a leader may send while its own disk still syncs."""

_INBOX = 300
"""Messages that wait for a paused member; more are lost."""


class World(Protocol):
    """What surrounds a member: a seeded run, or a stage."""

    rng: random.Random
    clock: Clock
    check: Invariants
    options: dict[str, Any]
    sync_time: float
    """Mean, in ticks."""
    snapshot_every: int
    entries_kept: int
    trace: Callable[[str], None] | None

    def carry(self, sender: Member, message: Message, /) -> None:
        """Takes a message to its receiver."""

    def snapshot_arrived(self, message: Message, /) -> None:
        """The receiver has got it."""

    def snapshot_lost(self, message: Message, /) -> None:
        """The receiver is down."""

    def say(self, text: str, /) -> None:
        """For whoever looks on."""


Answer = Callable[[bool, str | None], None]
"""Called with whether it was done, and what was read."""


class Member:
    """Up while `node` is there; `life` tells one start from the next."""

    def __init__(self, cluster: World, id_: int, disk: Disk) -> None:
        self.cluster = cluster
        self.id = id_
        self.disk = disk
        self.node: RawNode | None = None
        self.life = 0
        self.rate = 1.0
        self.paused = False
        self.saving = False
        self.storage = MemoryStorage()
        self.hard_state = HardState()
        self.role = Role.FOLLOWER
        self.led_term = 0
        self.applied = 0
        self.values: dict[str, str] = {}
        self.confs: list[ConfState] = [ConfState()]
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._writes: dict[bytes, Answer] = {}
        self._reads: dict[bytes, tuple[str, int, Answer]] = {}
        self._waiting: list[tuple[int, str, Answer]] = []
        self._contexts = 0

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins a life with what the disk holds."""
        cluster = self.cluster
        self.life += 1
        self.paused = self.saving = False
        self.storage = self.disk.recover()
        self.hard_state = self.disk.hard_state
        self.role = Role.FOLLOWER
        self.led_term = 0
        self._writes, self._reads, self._waiting, self._inbox = {}, {}, [], []
        self._restore(self.storage.snapshot())
        cluster.check.restarted(self)
        rng = cluster.rng
        self.node = RawNode(
            Config(self.id, random=lambda n: int(rng.random() * n), **cluster.options), self.storage
        )
        cluster.clock.at(self.rate * rng.random(), self._tick, self.life)

    def crash(self) -> None:
        """Dies, and forgets what wasn't synced."""
        self.node = None
        self.disk.crash(self.cluster.rng)

    def pause(self) -> None:
        """Stands still, as a stopped process does: ticks are lost, what comes in waits."""
        self.paused = True

    def resume(self) -> None:
        """Goes on, with all that waited at once."""
        self.paused = False
        waiting, self._inbox = self._inbox, []
        for call, args in waiting:
            call(*args)

    def _later(self, call: Callable[..., None], *args: Any) -> None:
        if len(self._inbox) < _INBOX:
            self._inbox.append((call, args))

    def _tick(self, life: int) -> None:
        if life != self.life or self.node is None:
            return
        if not self.paused:
            self.node.tick()
            self._work()
        cluster = self.cluster
        cluster.clock.at(self.rate * (0.9 + 0.2 * cluster.rng.random()), self._tick, life)

    # -- looking ----------------------------------------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        """Whether it thinks that it is the leader."""
        return self.node is not None and self.node.raft.state == Role.LEADER

    @property
    def lead(self) -> int:
        """Whom it follows."""
        return 0 if self.node is None else self.node.raft.lead

    @property
    def conf(self) -> ConfState:
        """The membership that it has applied."""
        return self.confs[-1]

    # -- what comes in ----------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """A message arrives."""
        node = self.node
        if node is None:
            if message.type == MessageType.SNAP:
                self.cluster.snapshot_lost(message)
            return
        if self.paused:
            self._later(self.receive, message)
            return
        try:
            node.step(message)
        except (StepPeerNotFound, ProposalDropped):
            return
        if message.type == MessageType.SNAP:
            self.cluster.snapshot_arrived(message)
        self._work()

    def report(self, life: int, to: int, snapshot: bool, ok: bool) -> None:
        """The transport tells what became of a message."""
        if self.node is None or life != self.life:
            return
        if self.paused:
            self._later(self.report, life, to, snapshot, ok)
            return
        if snapshot:
            self.node.report_snapshot(to, ok)
        else:
            self.node.report_unreachable(to)
        self._work()

    def do(self, call: Callable[[RawNode], None]) -> bool:
        """Lets somebody ask the core for something; False if it refuses, or isn't up."""
        if self.node is None or self.paused:
            return False
        try:
            call(self.node)
        except ProposalDropped:
            return False
        self._work()
        return True

    def change(self, change: AnyConfChange) -> bool:
        """Proposes a change of membership."""
        return self.do(lambda node: node.propose_conf_change(change))

    def write(self, data: bytes, answer: Answer) -> None:
        """A client's write; only a leader takes it."""
        if self.node is None:
            return
        if self.paused:
            self._later(self.write, data, answer)
            return
        if self.leads:
            self._writes[data] = answer
            if self.do(lambda node: node.propose(data)):
                return
            del self._writes[data]
        answer(False, None)

    def read(self, key: str, answer: Answer) -> None:
        """A client's read, at any member."""
        if self.node is None:
            return
        if self.paused:
            self._later(self.read, key, answer)
            return
        self._contexts += 1
        context = b"%d.%d.%d" % (self.id, self.life, self._contexts)
        self._reads[context] = (key, self.cluster.check.acknowledged, answer)
        self.do(lambda node: node.read_index(context))

    # -- the order of things ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        node = self.node
        if self.saving or node is None:
            return
        cluster = self.cluster
        while node.has_ready():
            ready = node.ready()
            cluster.check.ready(self, ready)
            if ready.hard_state is not None:
                self.hard_state = ready.hard_state
            if ready.soft_state is not None:
                self.role = ready.soft_state.state
            if cluster.trace is not None:
                cluster.say(f"{self.id}: {ready}")
            self.confs = self.confs[-1:]
            self.disk.write(ready.snapshot, ready.entries, ready.hard_state)
            if ready.must_sync or ready.snapshot is not None:
                self.saving = True
                if self.role == Role.LEADER:
                    self._send(ready, ahead=True)
                delay = 0.02 + cluster.rng.expovariate(1.0) * cluster.sync_time
                cluster.clock.at(delay, self._saved, self.life, ready)
                return
            self._finish(node, ready, False)

    def _saved(self, life: int, ready: Ready) -> None:
        node = self.node
        if life != self.life or node is None:
            return
        if self.paused:
            self._later(self._saved, life, ready)
            return
        self.disk.sync()
        self.saving = False
        self._finish(node, ready, self.role == Role.LEADER)
        self._work()

    def _send(self, ready: Ready, *, ahead: bool) -> None:
        """All messages, or only those that needn't wait for the disk."""
        for message in ready.messages:
            if not ahead or message.type in _AHEAD:
                self.cluster.check.leaves(self, message)
                self.cluster.carry(self, message)

    def _finish(self, node: RawNode, ready: Ready, ahead: bool) -> None:
        """Sends, applies and advances; what was sent ahead isn't sent again."""
        storage = self.storage
        if ready.snapshot is not None:
            storage.apply_snapshot(ready.snapshot)
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        for message in ready.messages:
            if not ahead or message.type not in _AHEAD:
                self.cluster.check.leaves(self, message)
                self.cluster.carry(self, message)
        if ready.snapshot is not None:
            self._restore(ready.snapshot)
        for entry in ready.committed_entries:
            self._apply(node, entry)
        for state in ready.read_states:
            asked = self._reads.pop(state.context, None)
            if asked is not None:  # an answer may come twice
                key, floor, answer = asked
                self.cluster.check.read(self, floor, state.index)
                self._waiting.append((state.index, key, answer))
        if self._waiting:
            self._release()
        node.advance()
        self.compact()

    def _apply(self, node: RawNode, entry: Entry) -> None:
        check = self.cluster.check
        check.applied(self, entry)
        self.applied = entry.index
        if entry.type != EntryType.NORMAL:
            conf = normal(node.apply_conf_change(decode_entry(entry)))
            self.confs.append(conf)
            check.membership(self, entry.index, conf)
        elif entry.data:
            key, _, value = entry.data.decode().partition("=")
            self.values[key] = value
            answer = self._writes.pop(entry.data, None)
            if answer is not None:
                check.acknowledged = max(check.acknowledged, entry.index)
                answer(True, None)

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
        self.confs.append(normal(snapshot.metadata.conf_state))
        self.values = json.loads(snapshot.data) if snapshot.data else {}

    def compact(self) -> None:
        """Makes a snapshot if it is time, and forgets the log in it."""
        cluster, storage = self.cluster, self.storage
        last = storage.snapshot().metadata
        # A snapshot from before a member was there can't be given to that member.
        fits = everybody(self.conf) <= everybody(last.conf_state)
        if fits and self.applied - last.index < cluster.snapshot_every:
            return
        if self.applied == last.index:
            return
        data = json.dumps(self.values, sort_keys=True).encode()
        cluster.check.own_snapshot(self, self.applied, data)
        self.disk.keep_snapshot(storage.create_snapshot(self.applied, self.conf, data))
        keep = self.applied - cluster.entries_kept
        if keep >= storage.first_index():
            storage.compact(keep)
