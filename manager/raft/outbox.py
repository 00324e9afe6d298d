"""What waits to be sent to one member: messages in order, and snapshots, which go on a stream of their own.

An append without entries only says how far the others have committed. It waits a moment for company: under load the next
entries carry it along, which halves the messages of a single writer; without load it goes by itself after LATE.
Used by transport.py, in Raft's loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from common import model
from manager.raft.core.messages import Message, MessageType
from manager.raft.wire import to_wire

LATE: Final = 0.001
"""Seconds that an append without entries waits: about as long as a writer takes to come back."""
QUEUE: Final = 4096
"""Messages that wait for a member that takes them."""
BATCH: Final = 64
"""Messages in one batch; also those that are kept while there is no connection."""
_BATCH_BYTES: Final = 1 << 20


class Outbox:
    """See the module's text."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._snapshots: deque[Message] = deque()
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, message: Message, limit: int) -> bool:
        """Adds a message; whether it fitted: at `limit` the oldest one goes."""
        if message.type is MessageType.SNAP:
            self._snapshots.append(message)
            self._due.set()
            return True
        fits = len(self._messages) < limit
        if not fits:
            self._messages.popleft()
        self._messages.append(message)
        if message.type is not MessageType.APP or message.entries:
            self._due.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATE, self._late)
        return fits

    def _late(self) -> None:
        self._timer = None
        self._due.set()

    async def wait(self) -> None:
        """Until something is due."""
        await self._due.wait()
        self._due.clear()

    def snapshot(self) -> Message | None:
        """Takes out the next snapshot message."""
        return self._snapshots.popleft() if self._snapshots else None

    def batch(self) -> tuple[model.RaftMessage, ...]:
        """Takes out what goes next, as the wire has it; empty when nothing waits. What is left is due at once."""
        taken: list[model.RaftMessage] = []
        size = 0
        while self._messages and len(taken) < BATCH and size < _BATCH_BYTES:
            message = self._messages.popleft()
            size += sum(len(e.data) for e in message.entries)
            taken.append(to_wire(message))
        if self._messages:
            self._due.set()
        return tuple(taken)

    def clear(self) -> int:
        """Drops everything; the number of snapshots among it."""
        self._messages.clear()
        lost = len(self._snapshots)
        self._snapshots.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return lost
