"""A whole simulated group: members, network, clients and faults, all from one seed; `run_seed` is the way in."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from manager.raft.core.errors import RaftError
from manager.raft.core.messages import (
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from manager.raft.replica import Limits, Replica, Start
from tests.simulation.history import History, judge
from tests.simulation.raft.clients import Client
from tests.simulation.raft.clock import Clock
from tests.simulation.raft.disk import Disk
from tests.simulation.raft.engine import Core, Engine, everybody
from tests.simulation.raft.faults import Faults
from tests.simulation.raft.invariants import Invariants, Violation
from tests.simulation.raft.member import Member
from tests.simulation.raft.network import Network

DURATION = 300.0
"""Ticks with faults."""

SETTLING = 300.0
"""Ticks after the faults by which everybody must agree."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run."""

    seed: int
    size: int
    wrong: str
    events: int
    operations: int
    commits: int
    settled: float
    verdict: str


class Cluster:
    """All that happens in a run is a function of the seed, the size and the code."""

    def __init__(self, seed: int, size: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.trace = trace
        self.clock = Clock()
        self.network = Network(self.clock, self.rng)
        self.history = History()
        self.members: dict[int, Member] = {}
        self.duration = DURATION
        self._choose()
        first = Snapshot(
            SnapshotMetadata(ConfState(tuple(range(1, size + 1))), 1, 1), b'{"removed": [], "values": {}}'
        )
        self.check = Invariants(self.members, first)
        for id_ in range(1, size + 1):
            disk = Disk()
            disk.write(first, (), HardState(1, 0, 1))
            disk.sync()
            self._add(id_, disk)
        for number in range(self.rng.randrange(2, 5)):
            Client(self, f"c{number}")
        self.faults = Faults(self)

    def _choose(self) -> None:
        """The settings of this run."""
        rng, network = self.rng, self.network
        network.drop = rng.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        network.duplicate = rng.choice((0.0, 0.0, 0.05, 0.2))
        network.delay = rng.choice((0.05, 0.25, 0.25, 1.0))
        network.ordered = rng.random() < 0.3
        self.sync_time = rng.choice((0.02, 0.05, 0.5, 3.0))
        self.apply_time = rng.choice((0.0, 0.02, 0.3))
        self.lazy = rng.random() < 0.5
        self.snapshot_every = rng.choice((8, 20, 60, 1 << 30))
        self.entries_kept = rng.choice((0, 3, 20))
        self.keys = ["a", "b", "c"][: rng.randrange(1, 4)]
        self.writes = rng.choice((0.3, 0.5, 0.8))
        self.think = rng.choice((1.0, 3.0, 6.0))
        self.drifts = rng.random() < 0.5
        self.strict = rng.random() < 0.85  # the settings of a real manager
        self.joint = False  # a joint change was proposed: managers make none
        self.as_managers = self.strict and rng.random() < 0.6  # by manager/raft/replica.py itself
        message, window, uncommitted = (
            rng.choice((1, 64, 1 << 16)),
            rng.choice((1, 2, 8, 256)),
            rng.choice((0, 0, 30)),
        )
        self.limits = Limits(10, 2, message, window, uncommitted, self.snapshot_every, self.entries_kept)
        self.options: dict[str, Any] = {
            "election_tick": 10,
            "heartbeat_tick": 2,
            "max_size_per_msg": message,
            "max_inflight_msgs": window,
            "max_uncommitted_entries_size": uncommitted,
            "max_committed_size_per_ready": rng.choice((0, 1 << 16)),
            "check_quorum": self.strict or rng.random() < 0.5,
            "pre_vote": self.strict or rng.random() < 0.5,
            "step_down_on_removal": self.strict or rng.random() < 0.5,
        }

    def engine(self, start: Start) -> Engine:
        """What thinks inside of a member: all of one kind."""
        rng = self.rng

        def dice(sides: int) -> int:
            return int(rng.random() * sides)

        if self.as_managers:
            return Replica(start, dice, self.limits)
        return Core(start, dice, self.options, self.snapshot_every, self.entries_kept)

    # -- members ----------------------------------------------------------------------------------------------------

    def _add(self, id_: int, disk: Disk) -> None:
        member = self.members[id_] = Member(self, id_, disk)
        if self.drifts:
            member.rate = self.rng.choice((0.7, 0.9, 1.0, 1.1, 1.4))
        member.start()

    def join(self, id_: int) -> None:
        """A new member starts, with nothing on its disk."""
        self._add(id_, Disk())

    def revive(self, member: Member) -> None:
        """A member starts again, if it still is down."""
        if not member.up:
            self.say(f"{member.id} starts")
            member.start()

    def wake(self, member: Member, life: int) -> None:
        """A paused member goes on, if it still is in that life."""
        if member.paused and member.life == life:
            self.say(f"{member.id} goes on")
            member.resume()

    def say(self, text: str) -> None:
        """For whoever replays a seed."""
        if self.trace is not None:
            self.trace(f"{self.clock.now:9.3f} {text}")

    # -- the transport ----------------------------------------------------------------------------------------------

    def carry(self, sender: Member, message: Message) -> None:
        """Takes a message to its receiver, or tells the sender sometimes that it couldn't."""
        target = self.members.get(message.to)
        once = message.type == MessageType.PROP
        if target is not None and self.network.send(
            sender.id, message.to, target.receive, message, once=once
        ):
            return
        if message.type == MessageType.SNAP:
            self.snapshot_lost(message)
        elif self.rng.random() < 0.1:
            self.clock.at(1.0, sender.report, sender.life, message.to, False, False)

    def snapshot_arrived(self, message: Message) -> None:
        """The stream of a snapshot ended well."""
        self._report(message, True)

    def snapshot_lost(self, message: Message) -> None:
        """The stream of a snapshot broke."""
        self._report(message, False)

    def _report(self, message: Message, ok: bool) -> None:
        sender = self.members[message.from_]
        self.clock.at(self.rng.random() * 2, sender.report, sender.life, message.to, True, ok)

    # -- a run ------------------------------------------------------------------------------------------------------

    def run(self) -> float:
        """Faults, then peace; gives how long everybody took to agree. Raises Violation.

        Only with the settings of a real manager everybody must: without them one that is removed can disturb the
        others for ever, one with a newer term is never heard, and a removed leader stays one.
        """
        self.clock.run(self.duration)
        self.say("peace")
        self.network.calm()
        for member in self.members.values():
            if not member.up:
                member.start()
            elif member.paused:
                member.resume()
        while not self._settled():
            if self.clock.now > self.duration + SETTLING:
                if not self.strict or self.joint:
                    self._judge()
                    return 0.0
                raise Violation(f"no agreement {SETTLING:.0f} ticks after the faults: {self._standing()}")
            self._leave_joint()
            self.clock.run(self.clock.now + 5.0)
        settled = self.clock.now - self.duration
        self._judge()
        return settled

    def _leave_joint(self) -> None:
        for member in self.members.values():
            if member.leads and member.conf.voters_outgoing and not member.conf.auto_leave:
                member.change(ConfChangeV2())

    def _settled(self) -> bool:
        """Whether one leader is followed by all, and all have applied everything."""
        conf = self.check.conf
        if conf.voters_outgoing:
            return False
        now = [self.members[id_] for id_ in everybody(conf)]
        leader = self.members.get(now[0].lead)
        if leader is None or leader.engine is None or leader.id not in conf.voters:
            return False
        return (
            leader.leads
            and leader.engine.last_index == self.check.last
            and all(m.lead == leader.id and m.applied == self.check.last and not m.saving for m in now)
        )

    def _standing(self) -> str:
        each = (
            f"{m.id}: term {m.hard_state.term}, follows {m.lead}, applied {m.applied}"
            for m in self.members.values()
            if m.up
        )
        return f"{self.check.conf}, {self.check.last} committed; {'; '.join(each)}"

    def _judge(self) -> None:
        applied: dict[str, list[str]] = {key: [] for key in self.keys}
        for entry in self.check.committed:
            if entry.type == EntryType.NORMAL and entry.data:
                self._applied_to(entry, applied)
        self.history.applied = applied
        verdict = judge(self.history)
        if not verdict.ok:
            raise Violation(verdict.sentence)
        self.verdict = verdict.sentence

    @staticmethod
    def _applied_to(entry: Entry, applied: dict[str, list[str]]) -> None:
        key, _, value = entry.data.decode().partition("=")
        applied[key].append(value)


def size_of(seed: int) -> int:
    """How many members a seed has unless somebody says otherwise: mostly three, then five, sometimes less."""
    return (3, 3, 5, 3, 3, 5, 3, 2, 5, 4)[seed % 10]


def run_seed(seed: int, size: int = 0, trace: Callable[[str], None] | None = None) -> Result:
    """One run; what is wrong is in the result. Anything but a Violation or an error of the core's own goes through."""
    size = size or size_of(seed)
    collects = gc.isenabled()
    gc.disable()
    try:
        cluster = Cluster(seed, size, trace)
        wrong, settled, verdict = "", 0.0, ""
        try:
            settled = cluster.run()
            verdict = cluster.verdict
        except (Violation, RaftError) as exc:
            wrong = f"{type(exc).__name__}: {exc}"
        return Result(
            seed,
            size,
            wrong,
            cluster.clock.events,
            len(cluster.history.operations),
            len(cluster.check.committed),
            settled,
            verdict,
        )
    finally:
        if collects:
            gc.enable()
