"""A leader's term: every loop that decides, in one TaskGroup that ends when leadership does.

member.py runs `Leader.run` while this manager leads. An exception on one object is the loops' own business; when a
loop itself fails, the term ends as a whole and begins anew from the store: at once the first time, then once a minute.
A write that the managers did not agree on is no failure of a loop: mostly another manager leads by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from common import errors, model
from common.cancellation import still_wanted
from common.clock import Clock
from common.rpc import Caller
from manager import keys_loop, roles_loop
from manager.allocator import loop as allocator
from manager.dispatcher.acks import Acks
from manager.dispatcher.service import Dispatcher
from manager.endpoints import loop as endpoints
from manager.orchestrator import loop as orchestrator
from manager.raft.consensus import NOT_PROCESSED, NotLeader, Replicated
from manager.scheduler import loop as scheduler
from manager.store.store import NO_LEADER, Store

log = logging.getLogger("leader")

RESTART_INTERVAL: Final = 60.0
HAND_OVER: Final = 1.0


def _not_agreed(exc: Exception) -> bool:
    """Whether it says no more than that this manager leads no more, or can't for the moment."""
    lost = isinstance(exc, errors.ShoalError) and exc.message.startswith(NOT_PROCESSED)
    return lost or isinstance(exc, NotLeader)


class Leader:
    """The terms of one manager; serves Dispatcher.Session while one lasts."""

    def __init__(self, store: Store, clock: Clock, consensus: Replicated, node_id: str) -> None:
        self._store = store
        self._clock = clock
        self._consensus = consensus
        self._node_id = node_id
        self._dispatcher: Dispatcher | None = None

    async def session(
        self, requests: AsyncIterator[model.AgentMessage], caller: Caller
    ) -> AsyncIterator[model.ManagerMessage]:
        """Dispatcher.Session, by the dispatcher of the present term."""
        if self._dispatcher is None:
            raise errors.Unavailable(NO_LEADER)
        async with aclosing(self._dispatcher.session(requests, caller)) as messages:
            async for message in messages:
                yield message

    async def run(self) -> None:
        """Leads until it is cancelled."""
        last_failure = -RESTART_INTERVAL
        while True:
            try:
                await self._lead()
            except ExceptionGroup as failures:
                still_wanted()
                if failures.split(_not_agreed)[1] is None:
                    await self._other_leader()
                    continue
                log.exception("a loop of the leader failed; its term ends and begins anew")
            now = self._clock.monotonic()
            pause = max(0.0, last_failure + RESTART_INTERVAL - now)
            last_failure = now + pause
            if pause:
                log.error("the loops failed twice within a minute: they begin again in %.0f s", pause)
                await asyncio.sleep(pause)

    async def _other_leader(self) -> None:
        """Gives whoever is to lead instead a moment; then this one still does, and its loops begin anew."""
        log.info("a write was not agreed on: the loops end")
        with suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER):
                await self._consensus.leading(False)

    async def _lead(self) -> None:
        acks = Acks()
        dispatcher = Dispatcher(
            self._store, acks, self._clock, lambda: self._consensus.term, node_id=self._node_id
        )
        log.info("leading in term %d", self._consensus.term)
        try:
            async with asyncio.TaskGroup() as loops:
                loops.create_task(orchestrator.run(self._store, self._clock), name="orchestrator")
                loops.create_task(allocator.run(self._store, self._clock, acks), name="allocator")
                loops.create_task(scheduler.run(self._store, self._clock), name="scheduler")
                loops.create_task(endpoints.run(self._store, self._clock, acks), name="endpoints")
                loops.create_task(dispatcher.run(), name="dispatcher")
                loops.create_task(roles_loop.run(self._store, self._consensus, self._node_id), name="roles")
                loops.create_task(keys_loop.run(self._store, self._clock), name="keys")
                self._dispatcher = dispatcher
                # Waits here and not at the end of the block: only so can a cancellation be told from a loop's failure.
                await asyncio.get_running_loop().create_future()
        finally:
            self._dispatcher = None
