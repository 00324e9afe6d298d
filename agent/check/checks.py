"""The agent's side of `network check`: asks for one, and takes part in those that the managers order. agent/daemon.py runs it.

Orders and answers come by the session (agent/session.py), which this part outlives: what fails here ends no session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from agent.check.probing import Probing
from agent.network.insight import Insight
from common import errors, ids, model

log = logging.getLogger("check")

MOST: Final = 4
"""Checks that a node takes part in at a time."""
LONGEST: Final = 50.0  # s; those of others that come before may take ten each
_LOST: Final = "the session with the managers ended before the check was done: try again"
_NONE: Final = "this node has no session with a manager"

Tell = Callable[[model.AgentMessage], bool]


class Checks:
    """`node_id` and `unseen` (nodes that gossip holds dead) are asked for when they are needed."""

    def __init__(
        self,
        insight: Callable[[], Insight],
        node_id: Callable[[], str],
        unseen: Callable[[], Iterable[str]],
        now_ns: Callable[[], int],
        new_id: Callable[[], str] = ids.new_id,
    ) -> None:
        self.tell: Tell = lambda message: False  # through the session; whether there is one
        self._insight = insight
        self._node_id = node_id
        self._unseen = unseen
        self._now_ns = now_ns
        self._new_id = new_id
        self._asked: dict[str, asyncio.Future[model.NetworkCheck]] = {}
        self._orders: asyncio.Queue[model.CheckOrder] = asyncio.Queue()
        self._probing: dict[str, Probing] = {}

    # ---- asking

    async def ask(self, network_id: str) -> model.NetworkCheck:
        """Has the managers check a network; raises errors.ShoalError when that can't be done."""
        ask = model.CheckAsk(self._new_id(), network_id)
        answer: asyncio.Future[model.NetworkCheck] = asyncio.get_running_loop().create_future()
        self._asked[ask.id] = answer
        try:
            if not self.tell(model.AgentMessage(ask=ask)):
                raise errors.Unavailable(_NONE)
            async with asyncio.timeout(LONGEST):
                found = await answer
        except TimeoutError as exc:
            raise errors.DeadlineExceeded(
                "the managers did not answer: they may be older than this node"
            ) from exc
        finally:
            del self._asked[ask.id]
        if found.code:
            raise errors.BY_CODE.get(found.code, errors.ShoalError)(found.error)
        return found

    def answered(self, found: model.NetworkCheck) -> None:
        """Of the session: what a check has come to."""
        answer = self._asked.get(found.id)
        if answer is not None and not answer.done():
            answer.set_result(found)

    def disconnected(self) -> None:
        """Of the session: who waits for an answer waits in vain."""
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(errors.Unavailable(_LOST))

    # ---- taking part

    def ordered(self, order: model.CheckOrder) -> None:
        """Of the session: what the managers want of this node."""
        self._orders.put_nowait(order)

    async def run(self) -> None:
        """Until cancelled."""
        self._probing.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                order = await self._orders.get()
                probing = self._probing.get(order.id)
                if probing is None:
                    if len(self._probing) >= MOST or order.phase is not model.CheckPhase.CHECK_LISTEN:
                        continue
                    probing = Probing(
                        self._node_id(), self._insight(), self._unseen, self._now_ns, self._report
                    )
                    self._probing[order.id] = probing
                    group.create_task(self._one(order.id, probing), name="network check")
                probing.orders.put_nowait(order)

    async def _one(self, check_id: str, probing: Probing) -> None:
        try:
            await probing.run()
        except* (OSError, errors.ShoalError) as group:
            log.warning("this node's part in a network check failed: %s", group.exceptions[0])
        finally:
            del self._probing[check_id]

    def _report(self, report: model.CheckReport) -> None:
        self.tell(model.AgentMessage(report=report))
