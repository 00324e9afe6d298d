"""The way to the other managers ends when it is told to, whatever happens on it in that moment."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from common import model
from manager.raft.core.messages import Message, MessageType
from manager.raft.members import Members
from manager.raft.seal import Damaged
from manager.raft.transport import Peers


class Call:
    """A stream that fails in the moment in which it is cancelled, as gRPC's does when nobody listens there."""

    def __init__(self, begun: asyncio.Event) -> None:
        self._begun = begun

    async def __aiter__(self) -> AsyncIterator[Any]:
        self._begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "refused") from None
        yield

    async def write(self, batch: Any) -> None:
        await asyncio.Event().wait()

    def cancel(self) -> None: ...


class Reports:
    def unreachable(self, raft_id: int) -> None: ...

    def snapshot_sent(self, raft_id: int, ok: bool) -> None: ...

    def told_removed(self) -> None: ...


async def test_a_failure_in_place_of_the_end_does_not_keep_it_going() -> None:
    begun = asyncio.Event()

    class Channel:
        def stream_stream(self, *_: Any, **__: Any) -> Any:
            return lambda: Call(begun)

        unary_unary = stream_stream

    @asynccontextmanager
    async def dial(addr: str) -> AsyncIterator[Any]:
        yield Channel()

    peers = Peers(1, dial, lambda member: (member.addr,), Reports, lambda: None)
    peers.update(Members({i: model.RaftMember(i, f"m{i}", f"127.0.0.1:{i}") for i in (1, 2)}))
    running = asyncio.create_task(peers.run())
    async with asyncio.timeout(30):
        await begun.wait()
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=30)
    assert done, "it goes on"
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("why", [OSError(errno.EMFILE, "Too many open files"), Damaged("it is damaged")])
async def test_a_snapshot_that_cannot_be_read_ends_nothing(why: Exception) -> None:
    """The member that needs it has to wait; the one that has it goes on."""
    begun, reported = asyncio.Event(), asyncio.Event()
    told: list[tuple[int, bool]] = []

    class Told(Reports):
        def snapshot_sent(self, raft_id: int, ok: bool) -> None:
            told.append((raft_id, ok))
            reported.set()

    class Channel:
        def stream_stream(self, *_: Any, **__: Any) -> Any:
            return lambda *_: Call(begun)

        unary_unary = stream_stream

    @asynccontextmanager
    async def dial(addr: str) -> AsyncIterator[Any]:
        yield Channel()

    def unreadable() -> model.RaftSnapshot | None:
        raise why

    peers = Peers(1, dial, lambda member: (member.addr,), Told, unreadable)
    peers.update(Members({i: model.RaftMember(i, f"m{i}", f"127.0.0.1:{i}") for i in (1, 2)}))
    running = asyncio.create_task(peers.run())
    async with asyncio.timeout(30):
        await begun.wait()
        peers.send([Message(MessageType.SNAP, 2, 1)])
        await asyncio.wait(
            (asyncio.ensure_future(reported.wait()), running), return_when=asyncio.FIRST_COMPLETED
        )
    assert told == [(2, False)]
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
