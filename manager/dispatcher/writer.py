"""Writes what agents report, many reports at a time; used by service.py.

Reports that arrive within GATHER, and while a write is under way, go into the next write together. A session is told
once its own are committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from common import model
from manager.dispatcher.registration import with_status
from manager.store.store import Store, Transaction

GATHER: Final = 0.02
_CHANGES: Final = 200
Report = tuple[str, model.TaskStatusUpdate]


class StatusWriter:
    """Task statuses on their way into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reports: list[Report] = []
        self._committed: list[Callable[[], None]] = []
        self._news = asyncio.Event()

    def put(self, node_id: str, statuses: model.TaskStatuses, committed: Callable[[], None]) -> None:
        """Takes one message; `committed` is called when all of it is in the store, or was no news."""
        self._reports.extend((node_id, update) for update in statuses.updates)
        self._committed.append(committed)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER)
            self._news.clear()
            reports, self._reports = self._reports, []
            committed, self._committed = self._committed, []
            for start in range(0, len(reports), _CHANGES):
                await self._write(reports[start : start + _CHANGES])
            for tell in committed:
                tell()

    async def _write(self, reports: list[Report]) -> None:
        def change(tx: Transaction) -> None:
            for node_id, update in reports:
                task = with_status(tx.view.tasks.get(update.task_id), node_id, update.status)
                if task is not None:
                    tx.put(task)

        await self._store.update(change)
