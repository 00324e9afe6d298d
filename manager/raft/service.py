"""The Raft service on 2377: what other managers send comes in here. Raft's loop, but for membership.

A manager's certificate is enough to send messages (role PEER): a member that lags behind can't know yet who has become a
manager since. Whoever was removed is told so, and so is whoever belongs to an agreement that a restore or
`--force-new-cluster` has ended: its epoch is lower, and all of its members are out whatever their ids. Served by member.py.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager.raft.core.messages import Message, MessageType
from manager.raft.runner import Runner
from manager.raft.wire import from_wire

log = logging.getLogger("raft.transport")

REMOVED: Final = "this manager was removed from the swarm"
OLDER: Final = f"{REMOVED}, which was restored from a backup or forced to go on without it"
NEWER: Final = (
    "this manager does not know that the swarm was restored from a backup or forced to go on without it"
)
_LARGEST: Final = 1 << 30
_PASSED_ON: Final = frozenset({MessageType.READ_INDEX, MessageType.TRANSFER_LEADER, MessageType.PROP})
"""Messages that a follower hands on to the leader as they are: their sender need not be the caller."""


class RaftService:
    """Exchange and InstallSnapshot here; Join, Leave and Forward are given."""

    def __init__(
        self,
        runner: Runner,
        join: Callable[[model.RaftJoinRequest, Caller], Awaitable[model.RaftJoinReply]],
        leave: Callable[[model.RaftLeaveRequest, Caller], Awaitable[model.RaftTaken]],
        forward: Callable[
            [AsyncIterator[model.ForwardedCalls], Caller], AsyncIterator[model.ForwardedReplies]
        ],
    ) -> None:
        self._runner = runner
        self.join = join
        self.leave = leave
        self.forward = forward

    async def exchange(
        self, requests: AsyncIterator[model.RaftBatch], caller: Caller
    ) -> AsyncIterator[model.RaftTaken]:
        """Messages of one manager, until it hangs up."""
        count = 0
        async for batch in requests:
            count += 1
            self._judge(batch.epoch)
            if batch.sender is not None:
                self._meet(batch.sender, caller)
            for wire in batch.messages:
                self._step(wire, b"", caller)
        yield model.RaftTaken(count)

    async def install_snapshot(
        self, requests: AsyncIterator[model.RaftChunk], caller: Caller
    ) -> AsyncIterator[model.RaftTaken]:
        """A snapshot, in chunks; answered when it was handed to the core."""
        data, first, size = bytearray(), None, 0
        async for chunk in requests:
            if first is None:
                first, size = chunk.message, chunk.size
                self._judge(chunk.epoch)
            data += chunk.data
            if len(data) > min(size, _LARGEST):
                raise errors.InvalidArgument("a snapshot larger than announced")
        if first is None or len(data) != size:
            raise errors.InvalidArgument(f"{len(data)} bytes of a snapshot of {size}")
        self._step(first, bytes(data), caller)
        yield model.RaftTaken(1)

    def _judge(self, epoch: int) -> None:
        """Messages count in their own epoch only. A member without a state yet (0) takes what comes, and is heard."""
        own = self._runner.replica.members.epoch
        if epoch and own and epoch != own:
            raise errors.PermissionDenied(OLDER if epoch < own else NEWER)

    def _meet(self, sender: model.RaftMember, caller: Caller) -> None:
        if sender.node_id != caller.node_id:
            raise errors.PermissionDenied(f"node {caller.node_id} speaks for node {sender.node_id}")
        if sender.raft_id not in self._runner.replica.members.removed:
            self._runner.meet(sender)

    def _step(self, wire: model.RaftMessage, snapshot: bytes, caller: Caller) -> None:
        members, passed_on = self._runner.replica.members, wire.type in _PASSED_ON
        if wire.sender in members.removed:
            if passed_on:
                return  # whoever calls may be another one, and is not the one that was removed
            raise errors.PermissionDenied(REMOVED)
        known = members.by_id.get(wire.sender)
        if known is not None and known.node_id != caller.node_id and not passed_on:
            raise errors.PermissionDenied(f"node {caller.node_id} speaks for node {known.node_id}")
        try:
            message: Message = from_wire(wire, snapshot)
        except ValueError as exc:
            raise errors.InvalidArgument(f"not a message of raft: {exc}") from exc
        self._runner.step(message)
