"""Restart policies of single containers: who is started again after an end, and when. For containers.py.

As in Docker: the first wait is 100 ms, each next one twice as long, a minute at most; after ten seconds of running it begins anew.
A container that somebody has stopped stays so until it is started, or, with `always`, until the agent starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from agent.single.record import SingleRecord
from common import errors

log = logging.getLogger("single")

ALWAYS: Final = "always"
UNLESS_STOPPED: Final = "unless-stopped"
ON_FAILURE: Final = "on-failure"
NO: Final = ("", "no")
POLICIES: Final = (*NO, ALWAYS, UNLESS_STOPPED, ON_FAILURE)
_FIRST: Final = 0.1
_LONGEST: Final = 60.0
_WELL: Final = 10.0  # seconds of running after which all is well again


def wanted(record: SingleRecord, exit_code: int, fresh: bool = False) -> bool:
    """Whether a container that has ended is to be started again; `fresh`: the agent has just started."""
    if record.restart == ALWAYS:
        return fresh or not record.stopped
    if record.stopped or record.restart in NO:
        return False
    if record.restart == ON_FAILURE:
        return exit_code != 0 and not spent(record)
    return True


def has_policy(record: SingleRecord | None) -> bool:
    """Whether there is one, and a policy in it."""
    return record is not None and record.restart not in NO


def spent(record: SingleRecord) -> bool:
    """Whether it has been started again as often as it may be."""
    return record.restart == ON_FAILURE and 0 < record.most_restarts <= record.restarts


def next_delay(last: float, ran: float) -> float:
    """Seconds to wait, after `last` before and `ran` seconds of running."""
    return _FIRST if not last or ran >= _WELL else min(last * 2, _LONGEST)


class Restarts:
    """Waits, one for each container at most."""

    def __init__(self, start: Callable[[str], Awaitable[None]]) -> None:
        self._start = start
        self._delays: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def waits(self, container_id: str) -> bool:
        """Whether it is about to be started again."""
        return container_id in self._waiting

    async def over(self, container_id: str) -> None:
        """Until it is not about to be started again: it runs, or somebody has called that off."""
        if (waiting := self._waiting.get(container_id)) is not None:
            await asyncio.wait({waiting})

    def after(self, container_id: str, ran: float) -> None:
        """It has ended after so many seconds, and is to be started again."""
        if self._group is None or container_id in self._waiting:
            return
        delay = next_delay(self._delays.get(container_id, 0.0), ran)
        self._waiting[container_id] = self._group.create_task(
            self._again(container_id, delay), name=f"restart {container_id[:12]}"
        )

    def cancel(self, container_id: str) -> None:
        """Somebody wants something else of it, and has its turn (turns.py): a start that is under way has come to its end."""
        self._delays.pop(container_id, None)
        if (waiting := self._waiting.pop(container_id, None)) is not None:
            waiting.cancel()

    async def _again(self, container_id: str, delay: float) -> None:
        try:
            while True:
                self._delays[container_id] = delay
                await asyncio.sleep(delay)
                try:
                    await self._start(container_id)
                    return
                except (errors.ShoalError, OSError) as exc:
                    why = exc.message if isinstance(exc, errors.ShoalError) else str(exc)
                    log.warning("container %s was not started again: %s", container_id[:12], why)
                delay = next_delay(delay, 0.0)
        finally:
            # Before anybody else has the turn: who finds it ended again is to make it wait anew.
            if self._waiting.get(container_id) is asyncio.current_task():
                del self._waiting[container_id]

    def within(self, group: asyncio.TaskGroup | None) -> None:
        """Where the waits belong to from now on; with None, who waits is looked at anew by the next agent."""
        self._group = group
        if group is None:
            self._waiting.clear()
