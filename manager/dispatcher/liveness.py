"""When a silent node counts as Down: after three missed beats. Pure; the deadlines run on the boot-time clock.

A broken session alone says nothing: agents restart. A new leader gives every node a fresh grace, and so does a leader
that was itself asleep (its deadlines passed while nobody could be heard).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MISSED: Final = 3
FRESH: Final = 2  # times the usual grace, for nodes that must find a new leader first
LATE: Final = 1.0  # seconds: a timer that fires so much too late means that this process slept


class Liveness:
    """Deadlines by node id."""

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}

    def start(self, node_ids: Iterable[str], now: float, period: float) -> None:
        """A leader's term begins: these nodes were up as far as the store knows."""
        for node_id in node_ids:
            self._deadlines[node_id] = now + FRESH * MISSED * period

    def beat(self, node_id: str, now: float, period: float) -> None:
        """The node was heard."""
        self._deadlines[node_id] = now + MISSED * period

    def heard(self, node_id: str) -> bool:
        """Whether the node was heard since it expired, if it ever did."""
        return node_id in self._deadlines

    def forget(self, node_id: str) -> None:
        """The node is gone."""
        self._deadlines.pop(node_id, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        return min(self._deadlines.values(), default=None)

    def expired(self, now: float, planned: float, period: float) -> list[str]:
        """Nodes whose deadline has passed; they are forgotten. `planned` is when this call was to happen."""
        if now - planned > LATE:
            self.start(list(self._deadlines), now, period)
            return []
        gone = [node_id for node_id, deadline in self._deadlines.items() if deadline <= now]
        for node_id in gone:
            del self._deadlines[node_id]
        return gone
