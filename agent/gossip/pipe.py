"""Events from the gossip thread to the main loop: bounded, in order, one wake-up for many. node.py owns one.

While the main loop stands still events gather here; past the bound new ones are dropped and an Overflow stands for them: the
receiver then reads `members()`, which is always current.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from agent.gossip.api import Event, Overflow

BOUND: Final = 4096


class EventPipe:
    """`put` in the gossip thread; `receive` is called in `loop`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, receive: Callable[[Event], None], bound: int = BOUND
    ) -> None:
        self._loop = loop
        self._receive = receive
        self._bound = bound
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._woken = False
        self._closed = False

    def put(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            if len(self._events) < self._bound:
                self._events.append(event)
            elif not isinstance(self._events[-1], Overflow):
                self._events.append(Overflow())
            if self._woken:
                return
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)

    def close(self) -> None:
        """Nothing is delivered from here on; the main loop may end."""
        with self._lock:
            self._closed = True
            self._events.clear()

    def _drain(self) -> None:
        with self._lock:
            events, self._events = self._events, deque()
            self._woken = False
        for event in events:
            self._receive(event)
