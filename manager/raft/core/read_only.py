"""Reads that wait until a quorum has confirmed that this leader is still one; used by leader.py.

A request is known by its context, which goes out with heartbeats and comes back with their answers. An answer to one
confirms all before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from manager.raft.core.errors import Inconsistent
from manager.raft.core.messages import Message


@dataclass(slots=True)
class PendingRead:
    """A request, and the index that was committed when it came."""

    request: Message
    index: int
    acks: dict[int, bool] = field(default_factory=dict)


class ReadOnly:
    """The requests under way, in order."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[bytes, PendingRead] = {}  # ordered: oldest first

    def add(self, index: int, request: Message) -> None:
        """Takes a request in; one with a context that is under way already adds nothing."""
        self._pending.setdefault(request.entries[0].data, PendingRead(request, index))

    def acknowledge(self, from_: int, context: bytes) -> dict[int, bool]:
        """A member has answered; gives everyone who has."""
        pending = self._pending.get(context)
        if pending is None:
            return {}
        pending.acks[from_] = True
        return pending.acks

    def advance(self, context: bytes) -> list[PendingRead]:
        """Takes out the request and all before it: they are confirmed."""
        if context not in self._pending:
            return []
        done: list[PendingRead] = []
        for known in list(self._pending):
            done.append(self._pending.pop(known))
            if known == context:
                return done
        raise Inconsistent("a read was lost")

    def last_context(self) -> bytes:
        """The context of the newest request: heartbeats carry it, so that a lost one is made up for."""
        return next(reversed(self._pending), b"")
