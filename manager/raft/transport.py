"""The way to the other managers: one stream of batches to each, and snapshots on a stream of their own. Raft's loop.

Each member has an owner task that dials it at every address known, writes what waits in batches, and begins again after a
failure. Nothing here waits for a slow member: what does not fit into its queue is dropped and reported, as Raft expects of
a network. Made by member.py; `Peers.send` is called by the runner.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from common import model
from common.cancellation import still_wanted
from common.model.stubs import RaftStub
from manager.raft.core.messages import Message
from manager.raft.members import Members
from manager.raft.outbox import BATCH, QUEUE, Outbox
from manager.raft.seal import Damaged
from manager.raft.service import OLDER, REMOVED
from manager.raft.wire import CHUNK, to_wire

log = logging.getLogger("raft.transport")

BACK_OFF: Final = (0.05, 1.0)
_STRANGERS: Final = 16
_WHAT_NOW: Final = "This node goes on as a worker if the managers there know it; if not: shoal swarm leave --force, and join again"
Dial = Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]]
Addresses = Callable[[model.RaftMember], Sequence[str]]


class Reports(Protocol):
    """What the transport tells the runner."""

    def unreachable(self, raft_id: int) -> None:
        """Messages to that member were lost."""

    def snapshot_sent(self, raft_id: int, ok: bool) -> None:
        """A snapshot reached that member, or did not."""

    def told_removed(self) -> None:
        """Another member says that this one was removed."""


class Peers:
    """runner.Transport over gRPC. `snapshot` reads the newest snapshot; `addresses` knows where a member may be."""

    def __init__(
        self,
        raft_id: int,
        dial: Dial,
        addresses: Addresses,
        reports: Callable[[], Reports],
        snapshot: Callable[[], model.RaftSnapshot | None],
    ) -> None:
        self._raft_id = raft_id
        self._dial = dial
        self._addresses = addresses
        self._reports = reports
        self._snapshot = snapshot
        self._members = Members()
        self._strangers: dict[int, model.RaftMember] = {}
        self._peers: dict[int, _Peer] = {}
        self._changed = asyncio.Event()

    def send(self, messages: Sequence[Message]) -> None:
        """See runner.Transport."""
        for message in messages:
            if (peer := self._peers.get(message.to)) is not None:
                peer.take(message)

    def update(self, members: Members) -> None:
        """See runner.Transport."""
        self._members = members
        for raft_id in [i for i in self._strangers if i in members.by_id or i in members.removed]:
            del self._strangers[raft_id]
        for raft_id, member in members.by_id.items():
            if raft_id != self._raft_id and raft_id not in self._peers:
                self._peers[raft_id] = _Peer(self, member)
        self._changed.set()

    def meet(self, member: model.RaftMember) -> None:
        """See runner.Transport."""
        if (peer := self._peers.get(member.raft_id)) is not None:
            peer.hurry()
        known = member.raft_id in self._members.by_id or member.raft_id in self._members.removed
        if known or member.raft_id == self._raft_id or len(self._strangers) >= _STRANGERS:
            return
        self._strangers[member.raft_id] = member
        if member.raft_id not in self._peers:
            self._peers[member.raft_id] = _Peer(self, member)
        self._changed.set()

    @property
    def own(self) -> model.RaftMember | None:
        """This member, for whoever does not know it."""
        return self._members.by_id.get(self._raft_id)

    @property
    def epoch(self) -> int:
        """The epoch that this member's messages are of."""
        return self._members.epoch

    async def run(self) -> None:
        """Until cancelled: a task for each member, which ends with its membership."""
        running: dict[int, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for raft_id, peer in self._peers.items():
                    peer.member = self._members.by_id.get(raft_id) or self._strangers.get(
                        raft_id, peer.member
                    )
                    if raft_id not in running:
                        running[raft_id] = group.create_task(peer.run(), name=f"peer {peer.member.node_id}")
                wanted = self._members.by_id.keys() | self._strangers.keys()
                for raft_id in [i for i in running if i not in wanted]:
                    running.pop(raft_id).cancel()
                    del self._peers[raft_id]
                await self._changed.wait()

    # ---- for a peer

    def dial(self, addr: str) -> AbstractAsyncContextManager[grpc.aio.Channel]:
        return self._dial(addr)

    def addresses(self, member: model.RaftMember) -> Sequence[str]:
        return self._addresses(member) or (member.addr,)

    def unreachable(self, raft_id: int) -> None:
        self._reports().unreachable(raft_id)

    def snapshot_sent(self, raft_id: int, ok: bool) -> None:
        self._reports().snapshot_sent(raft_id, ok)

    def removed(self) -> None:
        self._reports().told_removed()

    async def snapshot(self) -> model.RaftSnapshot | None:
        return await asyncio.to_thread(self._snapshot)


class _Peer:
    """One other member."""

    def __init__(self, peers: Peers, member: model.RaftMember) -> None:
        self.member = member
        self._peers = peers
        self._outbox = Outbox()
        self._up = False
        self._complaint = ""
        self._unread = ""  # why the snapshot could not be read
        self._alive = asyncio.Event()

    def hurry(self) -> None:
        """The member has just called here: it can be reached again."""
        self._alive.set()

    def take(self, message: Message) -> None:
        """Queues a message; while there is no connection only the newest matter."""
        if not self._outbox.put(message, QUEUE if self._up else BATCH):
            self._peers.unreachable(self.member.raft_id)

    async def run(self) -> None:
        """Until cancelled."""
        delay = BACK_OFF[0]
        for turn in itertools.count():
            addresses = self._peers.addresses(self.member)
            began = asyncio.get_running_loop().time()
            await self._connected(addresses[turn % len(addresses)])
            still_wanted()
            self._lost()
            if asyncio.get_running_loop().time() - began > BACK_OFF[1]:
                delay = BACK_OFF[0]
            if await self._paused(delay):
                delay = BACK_OFF[0]
            delay = min(2 * delay, BACK_OFF[1])

    async def _paused(self, seconds: float) -> bool:
        """Waits before the next try, but not longer than until the member shows up; says whether it has."""
        self._alive.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._alive.wait()
        return self._alive.is_set()

    def _lost(self) -> None:
        self._up = False
        for _ in range(self._outbox.clear()):
            self._peers.snapshot_sent(self.member.raft_id, False)
        self._peers.unreachable(self.member.raft_id)

    async def _connected(self, addr: str) -> None:
        """One connection, from its beginning to its end."""
        async with asyncio.TaskGroup() as group:
            under_way: list[asyncio.Task[None]] = []

            def send(stub: RaftStub, message: Message) -> None:
                under_way.append(group.create_task(self._send_snapshot(stub, message)))

            await self._exchange(addr, send)
            for task in under_way:
                task.cancel()

    async def _exchange(self, addr: str, send: Callable[[RaftStub, Message], None]) -> None:
        try:
            async with self._peers.dial(addr) as channel:
                stub = RaftStub(channel)
                call = stub.Exchange()
                writer = asyncio.create_task(self._write(call, stub, send), name=f"to {addr}")
                try:
                    async for _ in call:
                        pass  # it only ends
                finally:
                    call.cancel()
                    writer.cancel()
                    await asyncio.wait([writer])
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.PERMISSION_DENIED and exc.details() in (REMOVED, OLDER):
                log.warning("manager %s at %s: %s. %s", self.member.node_id, addr, exc.details(), _WHAT_NOW)
                self._peers.removed()
            self._complain(addr, exc.details() or str(exc.code()))
        except (asyncio.InvalidStateError, grpc.aio.UsageError, OSError) as exc:
            self._complain(addr, str(exc))

    def _complain(self, addr: str, text: str) -> None:
        if text != self._complaint:
            log.info("manager %s at %s: %s", self.member.node_id, addr, text)
        self._complaint = text

    async def _write(self, call: Any, stub: RaftStub, send: Callable[[RaftStub, Message], None]) -> None:
        """What goes out on the stream, as soon as there is room for it; that the stream is over, its reader says."""
        sender = self._peers.own
        while True:
            await self._outbox.wait()
            while (snapshot := self._outbox.snapshot()) is not None:
                send(stub, snapshot)
            if batch := self._outbox.batch():
                try:
                    await call.write(model.RaftBatch(batch, sender, self._peers.epoch))
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return
                self._up, sender = True, None

    async def _send_snapshot(self, stub: RaftStub, message: Message) -> None:
        ok = False
        try:
            found = await self._peers.snapshot()
            if found is not None:
                log.info("snapshot at entry %d goes to manager %s", found.index, self.member.node_id)
                call = stub.InstallSnapshot(_chunks(message, found.to_bytes(), found.epoch))
                async for _ in call:
                    ok = True
        except grpc.aio.AioRpcError as exc:
            log.info("the snapshot for manager %s did not arrive: %s", self.member.node_id, exc.details())
        except (OSError, Damaged) as exc:  # this member has it all in memory, and writes another one in time
            if str(exc) != self._unread:
                log.error("no snapshot for manager %s: %s", self.member.node_id, exc)
            self._unread = str(exc)
        finally:
            self._peers.snapshot_sent(self.member.raft_id, ok)


async def _chunks(message: Message, data: bytes, epoch: int) -> AsyncIterator[model.RaftChunk]:
    first: model.RaftMessage | None = to_wire(message)
    for start in range(0, len(data), CHUNK):
        yield model.RaftChunk(first, data[start : start + CHUNK], len(data) if first else 0, epoch)
        first = None
