"""The endpoints loop: which tasks' endpoints a change or an acknowledgement concerns. Pure apart from its agenda.

The one transition it owns: Task.endpoint. Used by loop.py.
"""

from __future__ import annotations

from collections import Counter

from common import model
from common.model import EndpointState
from manager import lifecycle
from manager.agenda import Agenda
from manager.endpoints.plan import Acknowledged, counts, moved, next_step
from manager.membership import Membership
from manager.plan import Change, Plan
from manager.store.view import ReadView


class Endpoints:
    """Moves endpoints through their life."""

    name = "endpoints"

    def __init__(self, acks: Acknowledged) -> None:
        self._acks = acks
        self._agenda = Agenda()
        self._members = Membership()
        self._withdrawn: dict[str, None] = {}

    def reset(self, view: ReadView) -> None:
        self._members.reset(view)
        self._withdrawn.clear()
        self._agenda.clear()
        for task in view.tasks.all():
            self._follow(task)

    def observe(self, change: Change, view: ReadView) -> None:
        subject = change.subject
        if isinstance(subject, model.Task):
            self._members.apply(change)
            if change.new is None:
                self._withdrawn.pop(subject.id, None)
            else:
                self._follow(subject)
        elif isinstance(subject, model.Node):
            self._members.apply(change)
            old = change.old
            if (
                change.new is None
                or not isinstance(old, model.Node)
                or old.status.state != subject.status.state
            ):
                self._agenda.mark_all(t.id for t in view.tasks.by_node(subject.id))
                self._agenda.mark_all(self._withdrawn)

    def acknowledged(self, node_id: str) -> None:
        """A node has acknowledged something: whoever waits may go on."""
        self._agenda.mark_all(self._withdrawn)

    def _follow(self, task: model.Task) -> None:
        if task.endpoint == EndpointState.ENDPOINT_WITHDRAWN:
            self._withdrawn[task.id] = None
        else:
            self._withdrawn.pop(task.id, None)
        if task.endpoint != EndpointState.ENDPOINT_DRAINED and task.node_id:
            self._agenda.mark(task.id)

    def pending(self, now: int) -> bool:
        return self._agenda.pending(now)

    def deadline(self) -> int | None:
        return self._agenda.next()

    def reconcile(self, view: ReadView, now: int) -> Plan:
        plan = Plan()
        moves: Counter[EndpointState] = Counter()
        overdue: set[str] = set()
        for task_id in self._agenda.take(now):
            if plan.full:
                self._agenda.mark(task_id)
                continue
            task = view.tasks.get(task_id)
            if task is None:
                continue
            step = next_step(task, view, now, self._members.peers(task), self._acks)
            if step.wake is not None:
                self._agenda.at(task_id, step.wake)
            if step.state != task.endpoint:
                plan.put(moved(task, step.state, now))
                moves[step.state] += 1
                overdue.update(step.overdue)
        if moves:
            plan.say(f"endpoints moved on: {counts(moves)}")
        if overdue:
            names = ", ".join(sorted(lifecycle.hostname(view.nodes.get(n), n) for n in overdue))
            plan.say(f"did not wait longer than 3 s for the acknowledgement of {names}")
        return plan
