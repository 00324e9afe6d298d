"""What has happened on this node: the newest are kept, and everybody who listens is told. telling.py writes, events.py reads."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from agent.engine.happenings import Happening

KEPT: Final = 256  # as many as Docker keeps
_BEHIND: Final = 10_000  # a listener that far behind is left


class Journal:
    """See the module's text."""

    def __init__(self) -> None:
        self._kept: deque[Happening] = deque(maxlen=KEPT)
        self.networks: dict[str, dict[str, str]] = {}  # that running containers are in: names by id
        self._queues: set[asyncio.Queue[Happening | None]] = set()

    def tell(self, happening: Happening) -> None:
        self._kept.append(happening)
        for queue in tuple(self._queues):
            if queue.qsize() >= _BEHIND:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(happening)

    def listen(self) -> Listener:
        """From now on; what is kept of before stands in it, too."""
        return Listener(tuple(self._kept), self._queues)


class Listener:
    """One who reads; `close` when done."""

    def __init__(self, before: tuple[Happening, ...], queues: set[asyncio.Queue[Happening | None]]) -> None:
        self.before = before
        self._queues = queues
        self._queue: asyncio.Queue[Happening | None] = asyncio.Queue()
        queues.add(self._queue)

    async def next(self) -> Happening | None:
        """What comes next; None for one who is too far behind."""
        return await self._queue.get()

    def close(self) -> None:
        self._queues.discard(self._queue)
