"""Virtual time: what is to happen, in order. Any simulation can use it; one unit is a tick of the members here."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Calls things when their time has come; time passes only between the calls."""

    __slots__ = ("_count", "_heap", "events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._count = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        """Calls after `delay`; what is due at one moment happens in the order in which it was asked for."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, call, args))

    def run(self, until: float) -> None:
        """Lets everything happen that is due by then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call, args = heapq.heappop(heap)
            self.events += 1
            call(*args)
        self.now = max(self.now, until)
