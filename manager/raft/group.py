"""Consensus of several managers: the store's end of a Runner, which works on a loop of its own.

Everything public here is called in the store's loop. Calls hop to Raft's loop and what it tells hops back, in order; in
the simulator both are the same loop. Made by member.py, which calls start, run (in its TaskGroup) and stop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from common import errors, model
from manager.raft import members as table
from manager.raft.consensus import NOT_PROCESSED, MemberStatus, NotLeader, StateMachine
from manager.raft.core.messages import AnyConfChange, ConfChangeType, EntryType
from manager.raft.disk import Disk, Loaded
from manager.raft.loop import Loop
from manager.raft.members import Members
from manager.raft.replica import DEFAULT_LIMITS, Committed, Limits, Replica, Start
from manager.raft.runner import TICK, Runner, Status, Transport

log = logging.getLogger("raft")
T = TypeVar("T")

LOST: Final = "raft: failed to process the request: node lost leader status"
NO_LEADER: Final = (
    "The swarm does not have a leader. It's possible that too few managers are online. "
    "Make sure more than half of the managers are online."
)
NO_QUORUM: Final = "can't remove member from the raft: this would result in a loss of quorum"
DEADLINE: Final = 1.9
"""Seconds that a read waits for a leader."""
_CHANGE_DEADLINE: Final = 10.0
MakeTransport = Callable[["Group"], Transport]


class Group:
    """A consensus.Replicated."""

    def __init__(
        self,
        raft_id: int,
        disk: Disk,
        machine: StateMachine,
        transport: MakeTransport,
        loop: Loop,
        peers: Sequence[model.RaftMember] = (),
        limits: Limits = DEFAULT_LIMITS,
        tick: float = TICK,
        rng: random.Random | None = None,
        on_disk: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None,
    ) -> None:
        self.raft_id: Final = raft_id
        self.loop: Final = loop
        self._disk = disk
        self._machine = machine
        self._make_transport = transport
        self._peers = tuple(peers)
        self._limits = limits
        self._tick = tick
        self._rng = rng or random.Random()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk") if on_disk is None else None
        self._on_disk = on_disk or self._in_thread
        self._runner: Runner | None = None
        self._status = Status()
        self._applied = 0
        self._leading = False
        self._changed = asyncio.Event()
        self._reading: list[tuple[int, int, asyncio.Future[int]]] = []
        self._numbers = itertools.count()
        self._failure: asyncio.Future[None] | None = None

    # ---- what it is

    @property
    def runner(self) -> Runner:
        """What works in Raft's loop; only to be called there."""
        assert self._runner is not None, "start was not called"
        return self._runner

    @property
    def term(self) -> int:
        return self._status.term

    @property
    def leader(self) -> bool:
        return self._leading

    @property
    def leader_id(self) -> str:
        return self._status.leader_id

    @property
    def applied(self) -> int:
        return self._applied

    @property
    def removed(self) -> bool:
        """Whether this member was removed from the agreement."""
        return self._status.removed

    def members(self) -> tuple[MemberStatus, ...]:
        return self._status.members

    def changed(self) -> Coroutine[Any, Any, None]:
        """Awaits the next change, from the call on, of `leader`, `leader_id`, `members` or `removed`."""
        return _set(self._changed)

    async def leading(self, leads: bool) -> None:
        while self._leading != leads:
            await self._changed.wait()

    def _tell(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    # ---- life

    async def start(self) -> None:
        """Loads state from disk into the state machine; raises Damaged or OSError."""
        loaded: Loaded = await self._on_disk(self._disk.load)
        found = loaded.snapshot
        start = Start(self.raft_id, loaded.state, loaded.entries, members=self._first_members())
        if found is not None:
            self._machine.restore(found.data)
            self._applied = found.index
            start = Start(
                self.raft_id, loaded.state, loaded.entries, found.index, found.term,
                table.conf_state(found.conf_state), table.from_snapshot(found),
            )  # fmt: skip
        replica = Replica(start, self._rng.randrange, self._limits, log.info)
        self._failure = asyncio.get_running_loop().create_future()
        self._runner = Runner(
            replica, self._disk, self._on_disk, _Hops(self, asyncio.get_running_loop()), self._make_transport(self),
            self._tick, self._rng.getrandbits(63),
        )  # fmt: skip
        log.info("state loaded up to entry %d, log up to %d", self._applied, replica.last_index)

    def _first_members(self) -> Members:
        return Members({m.raft_id: m for m in self._peers})

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def run(self) -> None:
        """Serves until it is cancelled; raises OSError when the log cannot be trusted any more."""
        assert self._failure is not None
        working = asyncio.ensure_future(self.loop.run(self.runner.run()))
        try:
            await asyncio.wait((working, self._failure), return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._failure, working):
                if ended.done():
                    ended.result()
        finally:
            working.cancel()
            await asyncio.wait((working,))
            self._take_status(Status(self.term))
            self._give_up()

    def _give_up(self) -> None:
        for _, _, future in self._reading:
            if not future.done():
                future.set_exception(errors.Unavailable(NO_LEADER))
        self._reading.clear()

    async def stop(self) -> None:
        """Lets go of the storage, after run has ended."""
        await self._on_disk(self._disk.close)
        if self._thread is not None:
            self._thread.shutdown()

    # ---- writes and reads

    async def propose(self, data: bytes) -> int:
        if not self._leading:
            raise NotLeader(LOST if self._status.leader_id else NO_LEADER)
        return await self._ask(lambda token: self.runner.propose(data, self.term, token))

    async def _ask(self, call: Callable[[asyncio.Future[int]], None]) -> int:
        token: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.loop.call(call, token)
        return await token

    async def read_index(self) -> int:
        token: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.loop.call(self.runner.read, token)
        try:
            async with asyncio.timeout(DEADLINE):
                return await token
        except BaseException as exc:
            self.loop.call(self.runner.forget, token)
            if isinstance(exc, TimeoutError):
                raise errors.ShoalError(NO_LEADER) from exc
            raise

    # ---- members

    async def add(self, member: model.RaftMember) -> None:
        await self._change(table.change(ConfChangeType.ADD_LEARNER_NODE, member))

    async def remove(self, node_id: str) -> None:
        found = next((s for s in self.members() if s.member.node_id == node_id), None)
        if found is None:
            return
        rest = [s for s in self.members() if s.voter and s is not found]
        if found.voter and sum(s.reachable for s in rest) < len(rest) // 2 + 1:
            raise errors.FailedPrecondition(NO_QUORUM)
        await self._change(table.change(ConfChangeType.REMOVE_NODE, found.member))

    async def _change(self, change: AnyConfChange) -> None:
        if not self._leading:
            raise NotLeader(LOST if self._status.leader_id else NO_LEADER)
        try:
            async with asyncio.timeout(_CHANGE_DEADLINE):
                await self._ask(lambda token: self.runner.change(change, self.term, token))
        except TimeoutError as exc:
            raise errors.DeadlineExceeded("the managers did not agree on the change in time") from exc

    async def transfer(self, node_id: str = "") -> None:
        target = next((s.member.raft_id for s in self.members() if s.member.node_id == node_id), 0)
        if node_id and not target:
            raise errors.NotFound(f"node {node_id} is no manager")
        self.loop.call(self.runner.transfer, target)
        try:
            async with asyncio.timeout(2 * self._tick * self._limits.election_ticks):
                await self.leading(False)
        except TimeoutError as exc:
            raise errors.Unavailable("no other manager took over leadership in time") from exc

    # ---- what Raft's loop tells, in this loop

    def deliver(self, committed: Sequence[Committed]) -> None:
        """Entries to be applied."""
        try:
            for each in committed:
                self._apply(each)
        except Exception as exc:  # noqa: BLE001 - a state that an entry can't be applied to must not go on
            self._fail(exc)
        while self._reading and self._reading[0][0] <= self._applied:
            _, _, future = heapq.heappop(self._reading)
            if not future.done():
                future.set_result(self._applied)

    def _apply(self, each: Committed) -> None:
        entry = each.entry
        data = entry.data if entry.type is EntryType.NORMAL else b""
        self._machine.apply(entry.index, entry.term, data)
        self._applied = entry.index
        if each.token is not None and not each.token.done():
            each.token.set_result(entry.index)
        if self._status.leads and not self._leading and entry.term == self._status.term:
            self._leading = True
            self._tell()

    def _fail(self, exc: Exception) -> None:
        assert self._failure is not None
        log.error("an entry or snapshot cannot be applied: %s", exc)
        if not self._failure.done():
            self._failure.set_exception(exc)

    def restore(self, snapshot: model.RaftSnapshot) -> None:
        """The state is replaced."""
        try:
            self._machine.restore(snapshot.data)
            self._applied = snapshot.index
            self.deliver(())
        except Exception as exc:  # noqa: BLE001 - see deliver
            self._fail(exc)

    def readable(self, index: int, tokens: Sequence[asyncio.Future[int]]) -> None:
        """Reads that may go on once `index` is applied."""
        for token in tokens:
            if token.done():
                continue
            if index <= self._applied:
                token.set_result(self._applied)
            else:
                heapq.heappush(self._reading, (index, next(self._numbers), token))

    def lost(self, tokens: Sequence[Any], why: str) -> None:
        """Proposals that did not, or may not, come to be."""
        for token in tokens:
            if token is not None and not token.done():
                token.set_exception(errors.ShoalError(f"{NOT_PROCESSED}: {why}"))

    def not_leading(self, token: Any) -> None:
        """A proposal that was not begun: it is for the leader."""
        if not token.done():
            token.set_exception(NotLeader(LOST))

    def take_status(self, status: Status) -> None:
        """How the member stands now."""
        self._take_status(status)

    def _take_status(self, status: Status) -> None:
        before, self._status = self._status, status
        if not status.leads or (self._leading and status.term != before.term):
            self._leading = False
        self._tell()

    def capture(self) -> None:
        """A snapshot is due."""
        captured = self._machine.capture()
        self.loop.spawn(self.runner.save_snapshot(captured.index, captured.encode))


async def _set(event: asyncio.Event) -> None:
    await event.wait()


class _Hops:
    """The Host of a Runner: each call becomes one of Group in the store's loop."""

    def __init__(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        self._group = group
        self._loop = loop

    def _hop(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def deliver(self, committed: Sequence[Committed]) -> None:
        self._hop(self._group.deliver, committed)

    def restore(self, snapshot: model.RaftSnapshot) -> None:
        self._hop(self._group.restore, snapshot)

    def readable(self, index: int, tokens: Sequence[Any]) -> None:
        self._hop(self._group.readable, index, tokens)

    def lost(self, tokens: Sequence[Any], why: str) -> None:
        self._hop(self._group.lost, tokens, why)

    def not_leading(self, token: Any) -> None:
        self._hop(self._group.not_leading, token)

    def status(self, status: Status) -> None:
        self._hop(self._group.take_status, status)

    def capture(self) -> None:
        self._hop(self._group.capture)
