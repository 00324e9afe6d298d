"""What waits for a member: in order, bounded, and an append without entries with the next message if there is one soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from manager.raft.core.messages import Entry, Message, MessageType
from manager.raft.outbox import BATCH, LATE, Outbox
from tests.simulation import virtual

COMMIT = Message(MessageType.APP, 2, 1, 4, commit=7)
APPEND = Message(MessageType.APP, 2, 1, 4, entries=(Entry(8, 4, data=b"x"),), commit=7)
BEAT = Message(MessageType.HEARTBEAT, 2, 1, 4)


def timed(story: Callable[[Outbox], Awaitable[None]]) -> float:
    """Virtual seconds that a story took."""

    async def whole() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await story(Outbox())
        return loop.time() - began

    return virtual.run(whole())


@pytest.mark.parametrize("message", [APPEND, BEAT])
def test_goes_at_once(message: Message) -> None:
    async def story(outbox: Outbox) -> None:
        outbox.put(message, BATCH)
        await outbox.wait()
        assert len(outbox.batch()) == 1
        assert outbox.batch() == ()

    assert timed(story) == 0


def test_an_append_without_entries_goes_with_the_next_message() -> None:
    async def story(outbox: Outbox) -> None:
        outbox.put(COMMIT, BATCH)
        outbox.put(APPEND, BATCH)
        await outbox.wait()
        assert [len(m.entries) for m in outbox.batch()] == [0, 1]

    assert timed(story) == 0


def test_an_append_without_entries_goes_alone_a_little_later() -> None:
    async def story(outbox: Outbox) -> None:
        outbox.put(COMMIT, BATCH)
        outbox.put(COMMIT, BATCH)
        await outbox.wait()
        assert len(outbox.batch()) == 2

    assert timed(story) == pytest.approx(LATE)


def test_the_oldest_goes_when_there_are_too_many() -> None:
    async def story(outbox: Outbox) -> None:
        assert outbox.put(APPEND, 2)
        assert outbox.put(BEAT, 2)
        assert not outbox.put(BEAT, 2)
        assert [m.type for m in outbox.batch()] == [MessageType.HEARTBEAT, MessageType.HEARTBEAT]

    timed(story)


def test_batches_are_bounded_and_whole() -> None:
    async def story(outbox: Outbox) -> None:
        for _ in range(BATCH + 1):
            outbox.put(BEAT, 1000)
        await outbox.wait()
        assert len(outbox.batch()) == BATCH
        await outbox.wait()
        assert len(outbox.batch()) == 1

    timed(story)


def test_snapshots_have_a_queue_of_their_own() -> None:
    async def story(outbox: Outbox) -> None:
        snapshot = Message(MessageType.SNAP, 2, 1, 4)
        outbox.put(snapshot, BATCH)
        await outbox.wait()
        assert outbox.batch() == ()
        assert outbox.snapshot() == snapshot
        assert outbox.snapshot() is None
        outbox.put(snapshot, BATCH)
        outbox.put(COMMIT, BATCH)
        assert outbox.clear() == 1
        assert outbox.batch() == ()

    timed(story)
