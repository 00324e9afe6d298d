"""When the kernel is brought to the plan: soon after somebody asked, again after a failure, and every minute afresh. For manager.py.

A burst of requests becomes one pass; whoever waits is answered by the first pass that begins after the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from common import errors

_log: Final = logging.getLogger(__name__)

COALESCE: Final = 0.05  # seconds that changes are collected for
RECONCILE: Final = 60.0
RETRY: Final = 2.0  # after a pass that failed somewhere
_ENDED: Final = "the network's loop has ended"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a pass: what is told to those who wait for it, and whether another has to follow soon."""

    problem: str = ""
    again: bool = False


Pass = Callable[[bool, bool], Awaitable[Outcome]]


class Loop:
    """`carry_out(afresh, asked)` makes one pass: `afresh` reads everything anew, `asked` is whether somebody waits for it."""

    def __init__(self, carry_out: Pass, reconcile_every: float = RECONCILE) -> None:
        self._carry_out = carry_out
        self._reconcile_every = reconcile_every
        self._wake = asyncio.Event()
        self._waiting: asyncio.Future[None] | None = None
        self._served: asyncio.Future[None] | None = None
        self._job: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Until close()."""
        self._job = asyncio.create_task(self._run(), name="network")
        self._job.add_done_callback(self._over)

    async def close(self) -> None:
        """Those who still wait are told so."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def served(self) -> None:
        """Returns when a pass that has yet to begin is through; raises errors.Internal with what went wrong."""
        if self._job is None or self._job.done():
            raise errors.Internal(_ENDED)
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        self._wake.set()
        await asyncio.shield(waiting)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        last, again = 0.0, False
        due = loop.time() + self._reconcile_every
        while True:
            try:
                async with asyncio.timeout(RETRY if again else max(0.0, due - loop.time())):
                    await self._wake.wait()
                woken = True
            except TimeoutError:
                woken = False
            if loop.time() - last < COALESCE:
                await asyncio.sleep(COALESCE - (loop.time() - last))
            self._wake.clear()
            self._served, self._waiting = self._waiting, None
            afresh = not woken or loop.time() >= due
            if afresh:
                due = loop.time() + self._reconcile_every
            outcome = await self._carry_out(afresh, self._served is not None)
            _answer(self._served, outcome.problem)
            last, again = loop.time(), outcome.again

    def _over(self, job: asyncio.Task[None]) -> None:
        """It ends by close() only; should it fail, whoever waits for it is told, and the next who asks too."""
        for waiting in (self._waiting, self._served):
            _answer(waiting, _ENDED)
        tell_failure(job)


def tell_failure(job: asyncio.Task[None]) -> None:
    """One of the network's loops has ended: in the log, unless it was cancelled."""
    if not job.cancelled() and (error := job.exception()) is not None:
        _log.critical("the network's loop failed: %r", error)


def _answer(waiting: asyncio.Future[None] | None, problem: str) -> None:
    """Nobody may be waiting any more."""
    if waiting is None or waiting.done():
        return
    if problem:
        waiting.set_exception(errors.Internal(problem))
        waiting.exception()  # looked at, also when whoever asked has gone
    else:
        waiting.set_result(None)
