"""Turns at a container: what users ask of it and what happens to it by itself come one after the other, in the order in which they
come. For containers.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0  # who has it, and who waits


class Turns:
    """A lock for each container, for as long as somebody has it or waits for it."""

    def __init__(self) -> None:
        self._known: dict[str, _Turn] = {}

    @asynccontextmanager
    async def of(self, container_id: str) -> AsyncIterator[None]:
        """Nobody else changes the container within."""
        turn = self._known.setdefault(container_id, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._known[container_id]
