"""A Replica at work, on the loop that Raft has for itself: time, disk and messages around the pure part.

group.py makes one and talks to it from the store's loop; everything here runs in Raft's loop. What happens is told to a
`Host`, whose calls hop to the store's loop. The disk is called through `on_disk`, a thread in the daemon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from common import model
from manager.raft import members as table
from manager.raft.consensus import MemberStatus
from manager.raft.core.errors import Inconsistent
from manager.raft.core.messages import AnyConfChange, ConfChangeType, HardState, Message
from manager.raft.disk import Disk
from manager.raft.log import REPAIR
from manager.raft.members import Members
from manager.raft.replica import Committed, NotLeading, Refused, Replica, Work
from manager.raft.seal import Damaged

log = logging.getLogger("raft")
T = TypeVar("T")
OnDisk = Callable[[Callable[[], T]], Awaitable[T]]

TICK: Final = 0.1
_READ_TICKS: Final = 5
"""A read that was not answered is asked again after so many ticks: its message may be lost."""
_CAUGHT_UP: Final = 64
_DISK_RETRY: Final = 1.0
SNAPSHOT_RETRY: Final = 10.0
"""Seconds after a snapshot that could not be saved, which is tried again with the next entry then."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a member stands."""

    term: int = 0
    leads: bool = False
    leader_id: str = ""
    removed: bool = False
    members: tuple[MemberStatus, ...] = ()


class Host(Protocol):
    """Where the entries go: group.py. Each call returns at once."""

    def deliver(self, committed: Sequence[Committed]) -> None:
        """Entries to be applied, in order."""

    def restore(self, snapshot: model.RaftSnapshot) -> None:
        """The state is to be replaced."""

    def readable(self, index: int, tokens: Sequence[Any]) -> None:
        """Reads that may go on once `index` is applied."""

    def lost(self, tokens: Sequence[Any], why: str) -> None:
        """Proposals that did not, or may not, come to be."""

    def not_leading(self, token: Any) -> None:
        """A proposal that was not begun: it is for the leader."""

    def status(self, status: Status) -> None:
        """How the member stands now."""

    def capture(self) -> None:
        """A snapshot is due; answered by Runner.save_snapshot."""


class Transport(Protocol):
    """The way to the other members."""

    def send(self, messages: Sequence[Message]) -> None:
        """Takes messages along. Never waits; what cannot be delivered is dropped and reported to the runner."""

    def update(self, members: Members) -> None:
        """The members are these now."""

    def meet(self, member: model.RaftMember) -> None:
        """Somebody who is no member as far as is known here sends messages: whoever lags behind must answer, to be
        told that it is one."""

    async def run(self) -> None:
        """Until it is cancelled."""


class Runner:
    """See the module's text."""

    def __init__(
        self, replica: Replica, disk: Disk, on_disk: OnDisk[Any], host: Host, transport: Transport,
        tick: float = TICK, first_question: int = 0,
    ) -> None:  # fmt: skip
        self.replica: Final = replica
        self._disk = disk
        self._on_disk = on_disk
        self._host = host
        self._transport = transport
        self._tick = tick
        self._wake = asyncio.Event()
        self._company = asyncio.Event()
        self._shown = Status()
        self._heard: dict[int, int] = {}  # tick at which a member was last heard of
        self._ticks = 0
        self._reads: list[Any] = []
        self._asked: list[Any] = []
        self._asked_at = 0
        # Of the last question for reads. Each life of a member begins with another number, or the leader would take its
        # first ones for those of the life before that wait with it, and answer with what was committed then.
        self._context = first_question
        self._asked_from = 0
        self._trouble = ""  # why the disk takes nothing at present
        self._capturing = False
        self._no_snapshot_before = 0.0
        self._members: Members | None = None
        self._removed = False
        self._fatal: Damaged | None = None

    # ---- what others call, in this loop

    def step(self, message: Message) -> None:
        """A message came in. A member whose log has forgotten what it once promised hears and says nothing any more."""
        if self._fatal is not None:
            return
        self._heard[message.from_] = self._ticks
        try:
            self.replica.step(message)
        except Inconsistent as exc:
            self._fatal = Damaged(
                f"{self._disk.place} contradicts what the managers agreed on ({exc}); {REPAIR}"
            )
        self._wake.set()

    def meet(self, member: model.RaftMember) -> None:
        """Who has just begun to send messages; it may be a member of whom this one has not heard yet."""
        self._transport.meet(member)

    def propose(self, data: bytes, term: int, token: Any) -> None:
        """An entry, for a member that thinks it leads in `term`."""
        self._try(token, term, lambda: self.replica.propose(data, token))

    def change(self, change: AnyConfChange, term: int, token: Any) -> None:
        """A change of membership."""
        self._try(token, term, lambda: self.replica.change(change, token))

    def _try(self, token: Any, term: int, call: Callable[[], None]) -> None:
        try:
            if self._trouble:
                raise Refused(self._trouble)
            if term and term != self.replica.term:
                raise NotLeading("this manager does not lead any more")
            call()
        except NotLeading:
            self._host.not_leading(token)
        except Refused as exc:
            self._host.lost((token,), str(exc))
        self._wake.set()

    def read(self, token: Any) -> None:
        """Somebody wants to read: `readable` tells when."""
        self._reads.append(token)
        self._wake.set()

    def forget(self, token: Any) -> None:
        """Nobody waits for this read any more."""
        for tokens in (self._reads, self._asked):
            if token in tokens:
                tokens.remove(token)

    def transfer(self, raft_id: int) -> None:
        """Hands leadership to a member; 0: to the one that is furthest."""
        target = raft_id or self._furthest()
        if target:
            self.replica.transfer(target)
        self._wake.set()

    def unreachable(self, raft_id: int) -> None:
        """The transport lost messages to that member."""
        self.replica.unreachable(raft_id)
        self._wake.set()

    def told_removed(self) -> None:
        """Another member knows that this one's id was removed, which nothing undoes: this one has only not heard of it,
        or went on without the others, who were forced to go on without it."""
        self._removed = True
        self._wake.set()

    def snapshot_sent(self, raft_id: int, ok: bool) -> None:
        """The transport brought a snapshot there, or failed to."""
        self.replica.snapshot_sent(raft_id, ok)
        self._wake.set()

    # ---- life

    async def run(self) -> None:
        """Until cancelled; raises OSError when the disk can't be trusted any more."""
        if self.replica.alone:
            self.replica.campaign()
        self._wake.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._transport.run(), name="transport")
            tasks.create_task(self._ticking(), name="ticks")
            tasks.create_task(self._working(), name="work")

    async def _ticking(self) -> None:
        """Ticks that were missed are dropped: a process that was stopped must not rush through its timeouts."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._tick
        while True:
            if self.replica.alone and self.replica.is_leader and not self._reads and not self._asked:
                self._company.clear()
                await self._company.wait()
                due = loop.time()
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + self._tick, loop.time())
            self._ticks += 1
            self.replica.tick()
            self._promote()
            self._ask_again()
            self._publish()
            if self.replica.busy:
                self._wake.set()

    async def _working(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._ask()
            while self._fatal is None and self.replica.busy:
                await self._work(self.replica.work())
                self._ask()
            if self._fatal is not None:
                raise self._fatal
            if not self.replica.alone:
                self._company.set()

    async def _work(self, work: Work) -> None:
        self._transport.send(work.early)
        if work.saves and (work.must_sync or work.snapshot is not None):
            await self._save(work)
        self._transport.send(work.messages)
        if work.committed:
            self._host.deliver(work.committed)
        for state in work.reads:
            if self._asked and self._asked_from <= int.from_bytes(state.context[8:], "big") <= self._context:
                self._host.readable(state.index, tuple(self._asked))
                self._asked.clear()
        if work.lost:
            self._host.lost(work.lost, "node lost leader status")
        self.replica.done(work)
        if self._members is not self.replica.members:
            self._members = self.replica.members
            self._transport.update(self._members)
        self._publish()
        if self.replica.snapshot_due and not self._capturing and self._may_save_snapshot():
            self._capturing = True
            self._host.capture()

    def _may_save_snapshot(self) -> bool:
        return asyncio.get_running_loop().time() >= self._no_snapshot_before

    # ---- the disk

    async def _save(self, work: Work) -> None:
        if work.snapshot is not None:
            snapshot = model.RaftSnapshot.from_bytes(work.snapshot.data)
            state = work.state or self.replica.hard_state
            if state.commit > snapshot.index:  # by entries of the same batch: they come next, or a crash does
                state = replace(state, commit=snapshot.index)
            await self._persist(lambda: self._disk.install(snapshot, state))
            self.replica.restored(table.from_snapshot(snapshot))
            self._host.restore(snapshot)
        if work.entries or (work.state is not None and work.snapshot is None):
            state_or_none: HardState | None = work.state
            await self._persist(lambda: self._disk.save(state_or_none, work.entries))

    async def _persist(self, call: Callable[[], None]) -> None:
        """Tries for as long as the disk says that nothing happened: a full disk is no reason to give up."""
        while True:
            try:
                await self._on_disk(call)
            except OSError as exc:
                trouble = f"this manager cannot write its log: {exc}"
                if trouble != self._trouble:
                    log.error("%s; tried again every %.0f s", trouble, _DISK_RETRY)
                self._trouble = trouble
                self._host.lost(self.replica.abandon(), trouble)
                if self._disk.broken:
                    raise
                await asyncio.sleep(_DISK_RETRY)
            else:
                if self._trouble:
                    log.warning("this manager can write its log again")
                self._trouble = ""
                return

    async def save_snapshot(self, index: int, encode: Callable[[], bytes]) -> None:
        """Saves the state at `index` and drops the log before it; a failure leaves both as they were."""
        try:
            data = await asyncio.to_thread(encode)
            if index <= self.replica.snapshot_index:
                return  # the leader's came meanwhile, and is newer
            term, state, members = self.replica.at(index)
            snapshot = model.RaftSnapshot(
                index, term, table.wire_conf_state(state), tuple(members.by_id.values()),
                tuple(sorted(members.removed)), data, members.epoch,
            )  # fmt: skip
            await self._on_disk(lambda: self._disk.save_snapshot(snapshot))
            upto = self.replica.snapshot_saved(index)
            await self._on_disk(lambda: self._disk.compact(upto))
            log.info("snapshot of %d bytes at entry %d", len(data), index)
        except OSError as exc:
            log.error("no snapshot could be saved at entry %d, the log is kept: %s", index, exc)
            self._no_snapshot_before = asyncio.get_running_loop().time() + SNAPSHOT_RETRY
        finally:
            self._capturing = False

    # ---- reads

    def _ask(self) -> None:
        """One question at a time, for all reads that came before it."""
        if self._reads and not self._asked:
            self._asked, self._reads = self._reads, []
            self._asked_from = self._context + 1
            self._question()

    def _question(self) -> None:
        self._context += 1
        self._asked_at = self._ticks
        self.replica.read(self.replica.raft_id.to_bytes(8, "big") + self._context.to_bytes(8, "big"))

    def _ask_again(self) -> None:
        if self._asked and self._ticks - self._asked_at >= _READ_TICKS:
            self._question()

    # ---- members

    def _promote(self) -> None:
        """A learner that has caught up becomes a voter."""
        if not self.replica.is_leader or not self.replica.conf_state.learners or not self.replica.settled:
            return
        for raft_id in self.replica.conf_state.learners:
            member = self.replica.members.by_id.get(raft_id)
            match = self.replica.match(raft_id)
            close = match > 0 and self.replica.last_index - match <= _CAUGHT_UP
            if member is not None and close and self._answers(raft_id):
                try:
                    self.replica.change(table.change(ConfChangeType.ADD_NODE, member), None)
                except Refused:
                    return
                log.info("manager %s has caught up and becomes a voter", member.node_id)
                return

    def _answers(self, raft_id: int) -> bool:
        limit = self.replica.limits.election_ticks - 1
        return self._ticks - self._heard.get(raft_id, -limit - 1) <= limit

    def _furthest(self) -> int:
        others = [i for i in self.replica.conf_state.voters if i != self.replica.raft_id]
        return max(others, key=lambda i: (self._answers(i), self.replica.match(i)), default=0)

    def _publish(self) -> None:
        """Tells the host how things stand, if that changed."""
        replica = self.replica
        if replica.is_leader and not self._shown.leads:
            # A new leader has not asked anybody yet: nobody counts as silent before there was time to answer.
            self._heard |= dict.fromkeys(replica.members.by_id, self._ticks)
        lead = replica.members.by_id.get(replica.lead)
        state = replica.conf_state
        voters = {*state.voters, *state.voters_outgoing}
        members = tuple(
            MemberStatus(m, i in voters, i == replica.lead, self._reachable(i))
            for i, m in replica.members.by_id.items()
        )
        out = replica.raft_id in replica.members.removed
        # A leader that is out leads no more, but goes on until another member says that it knows, or it steps down.
        removed = self._removed or (out and not replica.is_leader)
        leads = replica.is_leader and not removed and not out
        now = Status(replica.term, leads, lead.node_id if lead else "", removed, members)
        if now != self._shown:
            self._shown = now
            self._host.status(now)

    def _reachable(self, raft_id: int) -> bool:
        if raft_id == self.replica.raft_id:
            return True
        return self._answers(raft_id)
