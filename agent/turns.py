"""Turns at a thing with a name: whoever wants it waits for those who came before. For single containers (single/containers.py), where
users' requests and what happens by itself meet, and for writers of blobs and snapshots (runtime/content.py)."""

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
    """A lock for each name, for as long as somebody has it or waits for it."""

    def __init__(self) -> None:
        self._known: dict[str, _Turn] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Nobody else has the turn within."""
        turn = self._known.setdefault(name, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._known[name]
