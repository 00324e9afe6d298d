"""`network check`: has the nodes of the swarm probe each other through their sessions, one check after the other. Used by service.py.

Whoever asks does so through its own node's session, so that any node can, wherever the leader is. A check ends within some
ten seconds, whatever becomes of the nodes: those that don't answer in time are left out and told of.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from common import errors, model
from common.clock import Clock
from common.model import CheckPhase
from manager.dispatcher.check_plan import Planned
from manager.dispatcher.check_verdict import MOST_TROUBLES, Answers, judge
from manager.dispatcher.session import Session

log = logging.getLogger("dispatcher")

WAITING: Final = 4
"""Checks that wait for their turn; more are refused."""
OF_ONE: Final = 2
"""Of those so many from one node: others have their turn, too."""
SECONDS: Final[Mapping[CheckPhase, float]] = {
    CheckPhase.CHECK_LISTEN: 3.0,
    CheckPhase.CHECK_SEND: 4.5,
    CheckPhase.CHECK_TELL: 2.0,
}

Plan = Callable[[model.CheckAsk, str], Planned]
Now = Callable[[str], tuple[model.CheckService, ...]]


@dataclass(slots=True)
class _Running:
    """The check whose turn it is."""

    id: str
    phase: CheckPhase
    nodes: int
    answers: dict[str, Answers]
    missing: set[str] = field(default_factory=set)
    asked: dict[str, tuple[float, int]] = field(default_factory=dict)  # boot and wall time, by node
    all_there: asyncio.Event = field(default_factory=asyncio.Event)


class Checks:
    """One per leader's term. `plan` raises what a check is refused with; `now` says what services are there at its end."""

    def __init__(
        self, sessions: Callable[[], Mapping[str, Session]], plan: Plan, now: Now, clock: Clock, leader: str
    ) -> None:
        self._sessions = sessions
        self._plan = plan
        self._now = now
        self._clock = clock
        self._leader = leader
        self._queue: asyncio.Queue[tuple[Session, model.CheckAsk]] = asyncio.Queue(WAITING)
        self._of: Counter[str] = Counter()  # those in the queue, by node
        self._running: _Running | None = None

    def asked(self, session: Session, ask: model.CheckAsk) -> None:
        """A node wants to know; it is answered through its session, unless it asks faster than it takes answers."""
        if session.crowded:
            return
        if self._queue.full() or self._of[session.node_id] >= OF_ONE:
            _refuse(session, ask, errors.Unavailable("too many network checks at once: try again"))
            return
        self._of[session.node_id] += 1
        self._queue.put_nowait((session, ask))

    def reported(self, node_id: str, report: model.CheckReport) -> None:
        """A node has done its part of a phase."""
        running = self._running
        if running is None or (report.id, report.phase) != (running.id, running.phase):
            return
        if node_id not in running.missing:
            return
        report = _bounded(report, running.nodes)
        said = running.answers[node_id]
        if running.phase is CheckPhase.CHECK_LISTEN:
            said.listening = report
            began, wall = running.asked[node_id]
            took = int((self._clock.monotonic() - began) * 1e9)
            said.offset, said.uncertain = report.clock - (wall + took // 2), took // 2
        elif running.phase is CheckPhase.CHECK_SEND:
            said.sent = report
        else:
            said.told = report
        running.missing.discard(node_id)
        if not running.missing:
            running.all_there.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            session, ask = await self._queue.get()
            self._of[session.node_id] -= 1
            self._of += Counter()  # none that are zero
            if session.over:
                continue
            try:
                session.tell(model.ManagerMessage(checked=await self._check(session, ask)))
            except errors.ShoalError as exc:
                _refuse(session, ask, exc)
            except Exception:  # what one node says must not end the others' sessions
                log.exception("a network check failed")
                _refuse(session, ask, errors.Internal("the check failed: the manager's log says why"))
            finally:
                self._running = None

    async def _check(self, session: Session, ask: model.CheckAsk) -> model.NetworkCheck:
        made = self._plan(ask, session.node_id)
        taking_part = [node.id for node in made.plan.nodes if node.listens]
        answers = {node_id: Answers() for node_id in taking_part}
        running = _Running(ask.id, CheckPhase.CHECK_UNSET, len(made.plan.nodes), answers)
        self._running = running
        for phase in SECONDS:
            taking_part = await self._phase(running, phase, taking_part, made.plan)
        result = judge(ask.id, made, running.answers, self._now(made.plan.network_id), self._leader)
        log.info(
            "network check of %s: %d nodes, %d faults",
            made.plan.network_id,
            len(result.nodes),
            len(result.faults),
        )
        return result

    async def _phase(
        self, running: _Running, phase: CheckPhase, nodes: Iterable[str], plan: model.CheckPlan
    ) -> list[str]:
        """Those who were there in time."""
        nodes, sessions = list(nodes), self._sessions()
        running.phase, running.missing = phase, {node_id for node_id in nodes if node_id in sessions}
        running.all_there.clear()
        inside = {node.id for node in plan.nodes if node.leg}
        elsewhere = replace(plan, services=(), nodes=tuple(replace(node, leg="") for node in plan.nodes))
        for node_id in sorted(running.missing):
            told = plan if node_id in inside else elsewhere  # what is in a network is known to those on it
            order = model.CheckOrder(running.id, phase, told if phase is CheckPhase.CHECK_LISTEN else None)
            running.asked[node_id] = self._clock.monotonic(), self._clock.now_ns()
            sessions[node_id].tell(model.ManagerMessage(check=order))
        if running.missing:
            with suppress(TimeoutError):
                async with asyncio.timeout(SECONDS[phase]):
                    await running.all_there.wait()
        return [node_id for node_id in nodes if node_id in sessions and node_id not in running.missing]


def _bounded(report: model.CheckReport, nodes: int) -> model.CheckReport:
    """No more than an honest node would say."""
    return replace(
        report,
        clock=max(0, report.clock),
        heard=report.heard[:nodes],
        tried=report.tried[:nodes],
        unseen=report.unseen[:nodes],
        troubles=report.troubles[:MOST_TROUBLES],
    )


def _refuse(session: Session, ask: model.CheckAsk, exc: errors.ShoalError) -> None:
    session.tell(
        model.ManagerMessage(checked=model.NetworkCheck(id=ask.id, code=exc.code, error=exc.message))
    )
