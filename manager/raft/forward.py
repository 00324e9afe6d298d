"""Calls that only the leader can answer, taken by any manager and passed on: a client's manager need not lead.

Every write of Control, the CA's certificates, and membership. `AtLeader` stands in front of a service: reads run here,
the rest runs here if this manager leads, and else goes to the leader with the first caller's identity, in batches over
one stream (`Forwarder`); there forwarded.py answers it. member.py makes one of each; all of them, and the services
behind them, are used in the store's loop.

When it goes wrong:
- certainly not begun (`NotLeader`; no stream to the leader; not yet written to the stream): tried again, at the next
  leader too, until LIMIT;
- written to a stream that then broke: it may have happened. Calls that do no harm twice are tried again, the others
  fail with Docker's text for that;
- no leader for PATIENCE: fails with Docker's text for that.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from common import errors, model, rpc
from common.model.stubs import RaftStub
from common.rpc import Caller
from manager.auth import first_caller
from manager.raft.consensus import NotLeader
from manager.store.store import NO_LEADER, ChangeSet, Store

log = logging.getLogger("forward")

PATIENCE: Final = 1.9
"""Seconds without a leader after which a call fails."""
LIMIT: Final = 20.0
"""Seconds that a call is tried for; as long as Docker's daemon waits."""
UNKNOWN: Final = "raft: failed to process the request: node lost leader status"
"""Docker's text for a write that may have come to be, or may yet."""
_BATCH: Final = 256
_BATCH_BYTES: Final = 4 << 20
_BACK_OFF: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
NOT_LEADER: Final = "NotLeader"
"""ForwardedReply.error of a call that was not begun."""
# Done twice they do what they do once.
_REPEATABLE: Final = frozenset({"/shoal.CA/Renew", "/shoal.Raft/Join", "/shoal.Raft/Leave"})


class Leadership(Protocol):
    """What is needed of a consensus.Replicated."""

    @property
    def leader(self) -> bool: ...

    @property
    def leader_id(self) -> str: ...

    @property
    def applied(self) -> int: ...

    async def changed(self) -> None: ...


def path_of(method: MethodDescriptor) -> str:
    """gRPC's name of a method: /shoal.Control/CreateService."""
    return f"/{method.containing_service.full_name}/{method.name}"


def only_at_leader(method: MethodDescriptor) -> bool:
    """Whether other managers pass calls of this method on to the leader."""
    service, name = method.containing_service.name, method.name
    if service == "Control":
        return not name.startswith(("List", "Get"))
    return service == "CA" or (service == "Raft" and name in ("Join", "Leave"))


# ---- at the manager that took the call


class AtLeader:
    """Has the methods of `service` that `local`, the service of this manager, has; see the module's text."""

    def __init__(self, service: ServiceDescriptor, local: object, forwarder: Forwarder) -> None:
        for method in service.methods:
            name = rpc.snake_case(method.name)
            function = getattr(local, name, None)
            if function is None:
                continue
            if only_at_leader(method):
                function = partial(forwarder.call, method, function)
            setattr(self, name, function)


@dataclass(slots=True)
class _Waiting:
    call: model.ForwardedCall
    size: int
    done: asyncio.Future[model.ForwardedReply]
    sent: bool = False


class _Link:
    """A stream to one leader, once it has said that it is there."""

    def __init__(self, node_id: str) -> None:
        self.node_id: Final = node_id
        self._numbers = itertools.count(1)
        self._queue: deque[_Waiting] = deque()
        self._waiting: dict[int, _Waiting] = {}
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self.over = False

    async def call(self, method: str, request: bytes, caller: model.ForwardedCaller) -> model.ForwardedReply:
        """The leader's reply; raises NotLeader, or UNKNOWN when the call was sent and the stream ends."""
        if self.over:
            raise NotLeader(NO_LEADER)
        call = model.ForwardedCall(next(self._numbers), method, request, caller)
        size = len(request) + len(caller.certificate)
        waiting = _Waiting(call, size, asyncio.get_running_loop().create_future())
        self._waiting[call.number] = waiting
        self._queue.append(waiting)
        self._more.set()
        try:
            return await waiting.done
        finally:
            self._waiting.pop(call.number, None)
            if not self._waiting:
                self._idle.set()

    async def drain(self) -> None:
        """Takes no more calls; returns when those that were sent are answered, or after PATIENCE."""
        self.over = True
        self._queue.clear()
        for waiting in self._waiting.values():
            if not waiting.sent and not waiting.done.done():
                waiting.done.set_exception(NotLeader(NO_LEADER))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._waiting:
                    self._idle.clear()
                    await self._idle.wait()

    async def run(self, channel: grpc.aio.Channel, up: Callable[[], None]) -> None:
        """Serves calls until the stream ends; raises errors.ShoalError then. `up` is called when calls may come."""
        stream = RaftStub(channel).Forward()
        writer: asyncio.Task[None] | None = None
        try:
            async for replies in stream:
                if writer is None:
                    writer = asyncio.create_task(self._write(stream), name="forward writer")
                    up()
                for reply in replies.replies:
                    self._answered(reply)
            raise errors.Unavailable("the leader has ended the stream")
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
        finally:
            stream.cancel()
            if writer is not None:
                writer.cancel()
                await asyncio.wait([writer])
            self._end()

    async def _write(self, stream: Any) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while batch := self._batch():
                try:
                    await stream.write(model.ForwardedCalls(batch))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the reader hears of it too

    def _batch(self) -> tuple[model.ForwardedCall, ...]:
        """The next calls, as many as fit. A call that nobody waits for any more is not sent."""
        batch: list[model.ForwardedCall] = []
        size = 0
        while self._queue and len(batch) < _BATCH and size < _BATCH_BYTES:
            waiting = self._queue.popleft()
            if not waiting.done.done():
                waiting.sent = True
                size += waiting.size
                batch.append(waiting.call)
        return tuple(batch)

    def _answered(self, reply: model.ForwardedReply) -> None:
        waiting = self._waiting.get(reply.number)
        if waiting is not None and not waiting.done.done():
            waiting.done.set_result(reply)

    def _end(self) -> None:
        self.over = True
        for waiting in self._waiting.values():
            if not waiting.done.done():
                waiting.done.set_exception(
                    errors.ShoalError(UNKNOWN) if waiting.sent else NotLeader(NO_LEADER)
                )
        self._queue.clear()


class Forwarder:
    """The way to the leader. `run` keeps a stream to whichever manager leads; `call` uses it."""

    def __init__(
        self,
        consensus: Leadership,
        node_id: str,
        dial: Callable[[str], grpc.aio.Channel],
        store: Store,
    ) -> None:
        self._consensus = consensus
        self._node_id = node_id
        self._dial = dial
        self._applied = _Applied(store)
        self._link: _Link | None = None
        self._linked = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled; one of the member's tasks."""
        failures = 0
        async with asyncio.TaskGroup() as links:
            while True:
                leader = self._consensus.leader_id
                if not leader or leader == self._node_id:
                    failures = 0
                    await self._consensus.changed()
                    continue
                link = _Link(leader)
                serving = links.create_task(self._serve(link), name=f"forwarding to {leader}")
                await self._while_leader(leader, serving)
                failures = 0 if self._link is link else failures + 1
                self._link = None
                if serving.done():
                    await self._changed_within(_BACK_OFF[min(failures, len(_BACK_OFF) - 1)])
                else:
                    links.create_task(_retire(link, serving), name=f"last answers of {leader}")

    async def _serve(self, link: _Link) -> None:
        def up() -> None:
            self._link = link
            self._linked.set()
            self._linked = asyncio.Event()

        try:
            await link.run(self._dial(link.node_id), up)
        except errors.ShoalError as exc:
            log.info("no stream to the leader %s: %s", link.node_id, exc.message)

    async def _while_leader(self, leader: str, serving: asyncio.Task[None]) -> None:
        """Until `serving` ends, or another manager (or none) leads."""
        moved = asyncio.create_task(self._until(lambda: self._consensus.leader_id != leader))
        try:
            await asyncio.wait((moved, serving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._consensus.changed()

    async def _changed_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._consensus.changed()

    # ---- a call

    async def call(
        self,
        method: MethodDescriptor,
        local: Callable[[Any, Caller], Awaitable[Any]],
        request: Any,
        caller: Caller,
    ) -> Any:
        """Runs `method` where the leader is: here as `local`, or there."""
        if caller.forwarded and not self._consensus.leader:
            raise NotLeader(NO_LEADER)
        try:
            async with asyncio.timeout(LIMIT):
                return await self._tried(method, local, request, caller)
        except TimeoutError as exc:
            raise errors.DeadlineExceeded("context deadline exceeded") from exc

    async def _tried(
        self,
        method: MethodDescriptor,
        local: Callable[[Any, Caller], Awaitable[Any]],
        request: Any,
        caller: Caller,
    ) -> Any:
        tries = itertools.count()
        while True:
            link = await self._leader()
            try:
                if link is None:
                    return await local(request, caller)
                return await self._at(link, method, request, caller)
            except NotLeader:
                pass
            except errors.ShoalError as exc:
                if exc.message != UNKNOWN or path_of(method) not in _REPEATABLE:
                    raise
            await self._changed_within(_BACK_OFF[min(next(tries), len(_BACK_OFF) - 1)])

    async def _leader(self) -> _Link | None:
        """The stream to the leader, None if it is this manager; raises Docker's error when there is no leader."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while not self._consensus.leader:
            leader, link = self._consensus.leader_id, self._link
            if link is not None and link.node_id == leader and not link.over:
                return link
            if leader:
                deadline = clock() + PATIENCE
            if not await self._any_change(leader, None if leader else deadline - clock()):
                raise errors.ShoalError(NO_LEADER)
        return None

    async def _any_change(self, leader: str, seconds: float | None) -> bool:
        """Waits for another leader, or the stream to this one; False when neither came in time."""
        moved = self._until(lambda: self._consensus.leader or self._consensus.leader_id != leader)
        waits = [asyncio.create_task(moved), asyncio.create_task(self._linked.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return bool(done)

    async def _at(self, link: _Link, method: MethodDescriptor, request: Any, caller: Caller) -> Any:
        reply = await link.call(path_of(method), request.to_bytes(), first_caller(caller))
        if reply.error == NOT_LEADER:
            raise NotLeader(reply.message)
        # What the caller reads next, here, is to show what it wrote. Late is no failure: it is written.
        await self._applied.wait(reply.index)
        if reply.error:
            raise errors.BY_CODE.get(reply.error, errors.ShoalError)(reply.message)
        return getattr(model, method.output_type.name).from_bytes(reply.reply)


async def _retire(link: _Link, serving: asyncio.Task[None]) -> None:
    """Who led until now may still answer what it has taken."""
    await link.drain()
    serving.cancel()


class _Applied:
    """Waits until this manager's store has come to an index."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def wait(self, index: int) -> None:
        """Returns then, or after PATIENCE."""
        if self._store.view().index >= index:
            return
        if not self._waiting:
            self._store.subscribe(self._moved)
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (index, next(self._numbers), reached))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await reached

    def _moved(self, changes: ChangeSet) -> None:
        while self._waiting and (self._waiting[0][0] <= changes.index or self._waiting[0][2].done()):
            _, _, reached = heapq.heappop(self._waiting)
            if not reached.done():
                reached.set_result(None)
        if not self._waiting:
            self._store.unsubscribe(self._moved)
