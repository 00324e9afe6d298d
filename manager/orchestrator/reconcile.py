"""The orchestrator: which services a change concerns, and a plan for them. Pure apart from its agenda.

The one transition it owns: service -> tasks NEW (and a task's desired state). Used by loop.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.agenda import Agenda
from manager.orchestrator.history import released
from manager.orchestrator.service import ERROR, reconcile_service
from manager.plan import Change, Plan
from manager.store.view import ReadView

ORPHAN_AFTER: Final = 24 * 3600 * lifecycle.SECOND
"""Tasks of a node that has been Down for so long are given up."""


class Orchestrator:
    """Keeps every replicated service at what its spec asks for."""

    name = "orchestrator"

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._services = Agenda()
        self._nodes = Agenda()
        self._loose = Agenda()  # places of single containers in networks, that have ended

    def reset(self, view: ReadView) -> None:
        self._services.clear()
        self._nodes.clear()
        self._loose.clear()
        self._loose.mark_all(t.id for t in view.tasks.all() if t.spec.attachment is not None)
        self._services.mark_all(s.id for s in view.services.all())
        self._services.mark_all(t.service_id for t in view.tasks.all() if t.service_id)
        self._nodes.mark_all(n.id for n in view.nodes.all())

    def observe(self, change: Change, view: ReadView) -> None:
        subject = change.subject
        if isinstance(subject, model.Service):
            self._services.mark(subject.id)
        elif isinstance(subject, model.Task):
            if subject.service_id and _task_matters(change.old, subject):
                self._services.mark(subject.service_id)
            elif subject.spec.attachment is not None and change.new is not None:
                self._loose.mark(subject.id)
        elif isinstance(subject, model.Node):
            if _node_matters(change.old, change.new):
                self._nodes.mark(subject.id)
                self._services.mark_all(t.service_id for t in view.tasks.by_node(subject.id) if t.service_id)
                self._loose.mark_all(t.id for t in view.tasks.by_node(subject.id) if not t.service_id)
        elif isinstance(subject, model.Cluster):
            self._services.mark_all(s.id for s in view.services.all())

    def pending(self, now: int) -> bool:
        return any(agenda.pending(now) for agenda in (self._services, self._nodes, self._loose))

    def deadline(self) -> int | None:
        return min((d for d in (self._services.next(), self._nodes.next()) if d is not None), default=None)

    def reconcile(self, view: ReadView, now: int) -> Plan:
        plan = Plan()
        for node_id in self._nodes.take(now):
            self._node(view, plan, node_id, now)
        for task_id in self._loose.take(now):
            self._attachment(view, plan, task_id, now)
        for service_id in self._services.take(now):
            if plan.full:
                self._services.mark(service_id)
                continue
            self._service(view, plan, service_id, now)
        return plan

    def _attachment(self, view: ReadView, plan: Plan, task_id: str, now: int) -> None:
        """A single container's place in networks: over with its node, removed when its addresses are given back."""
        task = view.tasks.get(task_id)
        if task is None:
            return
        if plan.full:
            self._loose.mark(task_id)
        elif not lifecycle.ended(task):
            if view.nodes.get(task.node_id) is None:
                plan.put(lifecycle.with_status(task, now, TaskState.TASK_ORPHANED, "its node was removed"))
        elif released(task):
            plan.remove(task)

    def _service(self, view: ReadView, plan: Plan, service_id: str, now: int) -> None:
        service = view.services.get(service_id)
        if service is None:
            # Tasks of a service that is gone end as those of one that is being removed.
            left = view.tasks.by_service(service_id)
            if not left:
                return
            spec = model.ServiceSpec(name=left[0].service_name)
            service = model.Service(id=service_id, spec=spec, pending_delete=True)

        def work() -> None:
            for when in reconcile_service(view, plan, service, now, self._new_id):
                self._services.at(service_id, when)

        error = plan.attempt(work)
        if error is not None and service.error != (text := f"{ERROR}{error}"):
            plan.put(replace(service, error=text))
            plan.say(f"parked service {service.spec.name}: {type(error).__name__}: {error}")

    def _node(self, view: ReadView, plan: Plan, node_id: str, now: int) -> None:
        """Gives up the tasks of a node that has been Down for a day."""
        node = view.nodes.get(node_id)
        if node is None or not node.down_since or not lifecycle.down(node):
            return
        if now < node.down_since + ORPHAN_AFTER:
            self._nodes.at(node_id, node.down_since + ORPHAN_AFTER)
            return
        lost = [t for t in view.tasks.by_node(node_id) if not lifecycle.ended(t)]
        for task in lost:
            if plan.full:
                self._nodes.mark(node_id)
                break
            message = "its node has been down for 24 hours"
            plan.put(lifecycle.with_status(task, now, TaskState.TASK_ORPHANED, message))
        if lost:
            plan.say(
                f"gave up {len(lost)} tasks of node {lifecycle.hostname(node, node_id)}: down for 24 hours"
            )


def _task_matters(old: object, new: model.Task) -> bool:
    if not isinstance(old, model.Task):
        return True
    return (
        old.status.state != new.status.state
        or old.status.healthy != new.status.healthy
        or old.desired_state != new.desired_state
        or old.networks != new.networks
        or old.node_id != new.node_id
    )


def _node_matters(old: object, new: object) -> bool:
    if not isinstance(old, model.Node) or not isinstance(new, model.Node):
        return True
    return old.status.state != new.status.state or old.spec.availability != new.spec.availability
