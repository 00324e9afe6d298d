"""A group moved by hand, for scenarios that chance doesn't reach: who hears what, who ticks, who dies, step by step.

The same members, disks and invariants as in a seeded run; only the clock stands still (a disk syncs at once unless it
is told not to) and messages lie in `net` until they are delivered.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

from manager.raft.core.messages import (
    AnyConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from manager.raft.replica import Limits, Replica, Start
from tests.simulation.raft.clock import Clock
from tests.simulation.raft.disk import Disk
from tests.simulation.raft.engine import Core, Engine
from tests.simulation.raft.invariants import Invariants
from tests.simulation.raft.member import Member

_NEVER = 1e12
_ROUNDS = 60

Filter = Callable[[Message], bool]


class Failed(AssertionError):
    """A scenario went another way than Raft says."""


def expect(holds: bool, text: str) -> None:
    """Like assert, but never left out, and with a sentence."""
    if not holds:
        raise Failed(text)


class Stage:
    """Members 1..n, or those of `conf`; `options` as in Config, or `as_managers` with a Replica's own."""

    def __init__(
        self, voters: int = 3, conf: ConfState | None = None, *, as_managers: bool = False, **options: Any
    ) -> None:
        self.as_managers = as_managers
        self.rng = random.Random(0)
        self.clock = Clock()
        self.trace: Callable[[str], None] | None = None
        self.sync_time = 0.1
        self.apply_time = 0.0
        self.lazy = False
        self.options: dict[str, Any] = {
            "election_tick": 10,
            "heartbeat_tick": 2,
            "check_quorum": True,
            "pre_vote": True,
            "step_down_on_removal": True,
        } | options
        self.members: dict[int, Member] = {}
        self.net: list[Message] = []
        self.syncs = True
        conf = conf or ConfState(tuple(range(1, voters + 1)))
        self.first = Snapshot(SnapshotMetadata(conf, 1, 1), b'{"removed": [], "values": {}}')
        self.check = Invariants(self.members, self.first)
        for id_ in (*conf.voters, *conf.learners):
            disk = Disk()
            disk.write(self.first, (), HardState(1, 0, 1))
            disk.sync()
            self._add(id_, disk)

    def _add(self, id_: int, disk: Disk) -> None:
        member = self.members[id_] = Member(self, id_, disk)
        member.rate = _NEVER
        member.start()

    def engine(self, start: Start) -> Engine:
        """The bare core; it makes snapshots only when it is told to, and for new members."""

        def dice(sides: int) -> int:
            return int(self.rng.random() * sides)

        if self.as_managers:
            return Replica(start, dice, Limits(10, 2, snapshot_interval=1 << 30, keep_entries=0))
        return Core(start, dice, self.options, 1 << 30, 0)

    def core(self, id_: int) -> Core:
        """A member's core."""
        engine = self.members[id_].engine
        expect(isinstance(engine, Core), f"{id_} is down")
        assert isinstance(engine, Core)
        return engine

    # -- what a member wants of its surroundings --------------------------------------------------------------------

    def carry(self, sender: Member, message: Message) -> None:
        """A message waits to be delivered."""
        self.net.append(message)

    def snapshot_arrived(self, message: Message) -> None:
        """The sender is told at once."""
        sender = self.members[message.from_]
        sender.report(sender.life, message.to, True, True)

    def snapshot_lost(self, message: Message) -> None:
        """The sender isn't told."""

    def say(self, text: str) -> None:
        """Nobody listens."""

    # -- moving -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The disks sync, unless `syncs` is off."""
        if self.syncs:
            self.clock.run(self.clock.now + 1000.0)

    def deliver(self, among: Collection[int] = (), only: Filter | None = None) -> None:
        """Lets these members (or all) talk until they have nothing to say. What isn't for them is lost."""
        for _ in range(_ROUNDS):
            self.settle()
            waiting, self.net = self.net, []
            if not waiting:
                return
            for message in waiting:
                inside = not among or (message.from_ in among and message.to in among)
                if inside and (only is None or only(message)):
                    self.hand(message)
        raise Failed("they never stop talking")

    def hand(self, message: Message) -> None:
        """Delivers one message."""
        if message.to in self.members:
            self.members[message.to].receive(message)
            self.settle()

    def take(self, which: Filter) -> list[Message]:
        """Takes messages out of the net, to hand them over later."""
        self.settle()
        taken = [message for message in self.net if which(message)]
        self.net = [message for message in self.net if not which(message)]
        return taken

    def tick(self, ids: Iterable[int], ticks: int, among: Collection[int] | None = None) -> None:
        """Time passes for some, and after each tick `among` may talk; by default nobody does."""
        ids = list(ids)
        for _ in range(ticks):
            for id_ in ids:
                self.members[id_].do(lambda engine: engine.tick())
            self.settle()
            if among is None:
                self.net = []
            else:
                self.deliver(among)

    def elect(self, id_: int, among: Collection[int] = ()) -> None:
        """Makes a member leader, with these voters hearing it; only votes are delivered."""
        types = (
            MessageType.PRE_VOTE,
            MessageType.PRE_VOTE_RESP,
            MessageType.VOTE,
            MessageType.VOTE_RESP,
        )
        for other in among or self.members:  # nobody hears a leader any more
            member = self.members[other]
            if other != id_ and member.up and not member.leads:
                member.do(lambda engine: engine.forget() if isinstance(engine, Core) else None)
        self.net = []
        waiting: list[Message] = []
        for _ in range(3):  # some may have voted in this term already
            self.campaign(id_)
            for _ in range(_ROUNDS):
                self.settle()
                waiting += self.take(lambda m: m.type not in types)
                votes, self.net = self.net, []
                if not votes:
                    break
                for message in votes:
                    if not among or (message.from_ in among and message.to in among):
                        self.hand(message)
            if self.leads(id_):
                break
        expect(self.leads(id_), f"{id_} isn't elected")
        self.net = waiting

    def lead(self, id_: int, among: Collection[int] = ()) -> None:
        """Makes a member leader and lets everybody learn of it."""
        self.elect(id_, among)
        self.deliver(among)

    def campaign(self, id_: int) -> None:
        """A member stands for election."""
        self.members[id_].do(lambda engine: engine.campaign())
        self.settle()

    def write(self, id_: int, text: str) -> list[bool]:
        """Proposes `key=value` at a member; the list gets its answer."""
        answers: list[bool] = []
        self.members[id_].write(text.encode(), lambda done, _: answers.append(bool(done)))
        self.settle()
        return answers

    def read(self, id_: int, key: str) -> list[str | None]:
        """Asks a member to read; the list gets what it says."""
        answers: list[str | None] = []
        self.members[id_].read(key, lambda _, value: answers.append(value))
        self.settle()
        return answers

    def change(self, id_: int, change: AnyConfChange) -> None:
        """Proposes a change of membership."""
        expect(self.members[id_].change(change), f"{id_} refuses {change}")
        self.settle()

    def join(self, id_: int) -> None:
        """A new member starts, with nothing."""
        self._add(id_, Disk())

    def crash(self, id_: int) -> None:
        """A member dies, and loses all that wasn't synced."""
        self.members[id_].crash(gently=True)

    def restart(self, id_: int) -> None:
        """A member dies and starts again."""
        self.crash(id_)
        self.members[id_].start()
        self.settle()

    def snapshot(self, id_: int) -> None:
        """A member makes a snapshot of what it has applied, and forgets the log in it."""
        self.members[id_].save_snapshot()

    # -- looking ----------------------------------------------------------------------------------------------------

    def leads(self, id_: int) -> bool:
        """Whether it believes to lead."""
        return self.members[id_].leads

    def leader(self) -> int:
        """The leader of the highest term, 0 without one."""
        found = [(m.hard_state.term, m.id) for m in self.members.values() if m.leads]
        return max(found)[1] if found else 0

    def term(self, id_: int) -> int:
        """A member's term."""
        return self.members[id_].hard_state.term

    def commit(self, id_: int) -> int:
        """How far a member knows the log to be committed."""
        return self.members[id_].hard_state.commit

    def terms(self, id_: int) -> list[int]:
        """The terms in a member's log, as its disk holds it."""
        return [entry.term for entry in self.members[id_].disk.entries]

    def log(self, id_: int) -> list[Entry]:
        """A member's log, as its disk holds it."""
        return self.members[id_].disk.entries

    def value(self, id_: int, key: str) -> str | None:
        """What a member has applied."""
        return self.members[id_].values.get(key)
