"""What comes in from other managers: who may speak for whom, and who is told that it was removed or is of another epoch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from common import errors, model
from common.rpc import Caller
from manager.raft.core.messages import Message, MessageType
from manager.raft.members import Members
from manager.raft.service import NEWER, OLDER, RaftService
from manager.raft.wire import to_wire

MEMBERS = Members(
    {i: model.RaftMember(i, f"node{i}", f"192.0.2.{i}:2377") for i in (1, 2)}, frozenset({3}), 7
)


class Runner:
    """Notes what reaches it."""

    def __init__(self, epoch: int = 7) -> None:
        self.replica = self
        self.members = replace(MEMBERS, epoch=epoch)
        self.stepped: list[Message] = []
        self.met: list[model.RaftMember] = []

    def meet(self, member: model.RaftMember) -> None:
        self.met.append(member)

    def step(self, message: Message) -> None:
        self.stepped.append(message)


def service(runner: Any) -> RaftService:
    unused: Any = None
    return RaftService(runner, unused, unused, unused)


async def exchange(
    runner: Any, caller: str, *messages: Message, epoch: int = 7, sender: model.RaftMember | None = None
) -> None:
    async def requests() -> AsyncIterator[model.RaftBatch]:
        yield model.RaftBatch(tuple(to_wire(m) for m in messages), sender, epoch)

    async for _ in service(runner).exchange(requests(), Caller(frozenset(), caller)):
        pass


async def snapshot(runner: Any, caller: str, message: Message, epoch: int) -> None:
    data = model.RaftSnapshot(1, 1).to_bytes()

    async def chunks() -> AsyncIterator[model.RaftChunk]:
        yield model.RaftChunk(to_wire(message), data, len(data), epoch)

    async for _ in service(runner).install_snapshot(chunks(), Caller(frozenset(), caller)):
        pass


BEAT = Message(MessageType.HEARTBEAT, 1, 9, 4)
STRANGER = model.RaftMember(9, "node9", "192.0.2.9:2377")


@pytest.mark.parametrize(("epoch", "words"), [(6, OLDER), (8, NEWER)])
async def test_nothing_counts_that_is_of_another_epoch(epoch: int, words: str) -> None:
    """Whatever the sender's id: nobody here may ever have heard of it."""
    runner = Runner()
    for message in (BEAT, replace(BEAT, from_=2)):
        with pytest.raises(errors.PermissionDenied) as refused:
            await exchange(runner, "node9", message, epoch=epoch, sender=STRANGER)
        assert refused.value.message == words
    with pytest.raises(errors.PermissionDenied) as refused:
        await snapshot(runner, "node9", replace(BEAT, type=MessageType.SNAP), epoch)
    assert refused.value.message == words
    assert (runner.stepped, runner.met) == ([], [])


@pytest.mark.parametrize(("own", "epoch"), [(7, 7), (0, 7), (7, 0)])
async def test_a_member_without_a_state_yet_takes_what_comes_and_is_heard(own: int, epoch: int) -> None:
    runner = Runner(own)
    await exchange(runner, "node9", BEAT, epoch=epoch, sender=STRANGER)
    await snapshot(runner, "node9", replace(BEAT, type=MessageType.SNAP), epoch)
    assert [m.type for m in runner.stepped] == [MessageType.HEARTBEAT, MessageType.SNAP]
    assert runner.met == [STRANGER]


async def test_whoever_was_removed_is_told_so() -> None:
    with pytest.raises(errors.PermissionDenied, match="was removed"):
        await exchange(Runner(), "node3", Message(MessageType.HEARTBEAT_RESP, 1, 3, 4))


async def test_whoever_passes_on_the_question_of_one_that_was_removed_is_not_told_that_it_was() -> None:
    runner = Runner()
    beat = Message(MessageType.HEARTBEAT_RESP, 1, 2, 4)
    await exchange(runner, "node2", Message(MessageType.READ_INDEX, 1, 3), beat)
    assert runner.stepped == [beat]


async def test_nobody_speaks_for_another_but_to_pass_on() -> None:
    with pytest.raises(errors.PermissionDenied, match="speaks for"):
        await exchange(Runner(), "node2", Message(MessageType.HEARTBEAT_RESP, 1, 1, 4))
    runner = Runner()
    await exchange(runner, "node2", Message(MessageType.READ_INDEX, 1, 1))
    assert len(runner.stepped) == 1
