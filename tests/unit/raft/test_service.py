"""What comes in from other managers: who may speak for whom, and who is told that it was removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from common import errors, model
from common.rpc import Caller
from manager.raft.core.messages import Message, MessageType
from manager.raft.members import Members
from manager.raft.service import RaftService
from manager.raft.wire import to_wire

MEMBERS = Members({i: model.RaftMember(i, f"node{i}", f"192.0.2.{i}:2377") for i in (1, 2)}, frozenset({3}))


class Runner:
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.replica = self
        self.members = MEMBERS
        self.stepped: list[Message] = []

    def step(self, message: Message) -> None:
        self.stepped.append(message)


async def exchange(runner: Any, caller: str, *messages: Message) -> None:
    async def requests() -> AsyncIterator[model.RaftBatch]:
        yield model.RaftBatch(tuple(to_wire(m) for m in messages))

    unused: Any = None
    service = RaftService(runner, unused, unused, unused)
    async for _ in service.exchange(requests(), Caller(frozenset(), caller)):
        pass


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
