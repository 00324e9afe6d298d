"""The scheduler: which tasks wait for a node, and when trying again may help. Pure apart from its memory of them.

The one transition it owns: PENDING -> ASSIGNED. A task that no node takes stays PENDING and says why; it is tried
again when a node or what runs on one has changed. Used by loop.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from common import model, overlays
from common.model import TaskState
from manager import lifecycle
from manager.allocator import ports
from manager.plan import Change, Plan
from manager.scheduler.nodeset import HostPort, NodeInfo, load
from manager.scheduler.place import assigned, place
from manager.store.view import THIS_INDEX, ReadView

_Group = tuple[str, int]


class Scheduler:
    """Finds a node for each task that is PENDING."""

    name = "scheduler"

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._dirty = False

    def reset(self, view: ReadView) -> None:
        self._waiting = {t.id: None for t in view.tasks.all() if waits(t)}
        self._dirty = True

    def observe(self, change: Change, view: ReadView) -> None:
        subject = change.subject
        if isinstance(subject, model.Node):
            self._dirty |= _node_matters(change.old, change.new)
        elif isinstance(subject, model.Task):
            if change.new is not None and waits(subject):
                self._dirty |= subject.id not in self._waiting
                self._waiting[subject.id] = None
            else:
                self._waiting.pop(subject.id, None)
                self._dirty |= _frees(change.old, change.new)

    def pending(self, now: int) -> bool:
        return self._dirty and bool(self._waiting)

    def deadline(self) -> int | None:
        return None

    def reconcile(self, view: ReadView, now: int) -> Plan:
        plan = Plan()
        self._dirty = False
        groups: dict[_Group, list[model.Task]] = {}
        for task_id in self._waiting:
            task = view.tasks.get(task_id)
            if task is not None and task.node_id and waits(task):
                plan.put(assigned(task, task.node_id, now, THIS_INDEX))
            elif task is not None and waits(task):
                groups.setdefault((task.service_id, task.spec_version), []).append(task)
        nodes, meshed = load(view, now), ports.in_use(view)
        for tasks in groups.values():
            if plan.full:
                self._dirty = True
                break
            self._group(view, plan, tasks, nodes, meshed, now)
        return plan

    def _group(
        self, view: ReadView, plan: Plan, tasks: list[model.Task], nodes: dict[str, NodeInfo],
        meshed: Collection[HostPort], now: int,
    ) -> None:  # fmt: skip
        networks = (view.networks.get(attachment.network_id) for attachment in tasks[0].networks)
        abilities = frozenset(a for n in networks if n is not None for a in overlays.asked(n.spec))

        def work() -> None:
            placed, left, why = place(tasks, nodes, plan.limit - len(plan.changes), meshed, abilities)
            for task, node_id in placed:
                plan.put(assigned(task, node_id, now, THIS_INDEX))
            if placed:
                names = sorted({lifecycle.hostname(view.nodes.get(n), n) for _, n in placed})
                plan.say(f"{len(placed)} tasks of {tasks[0].service_name} to {', '.join(names[:5])}")
            if left and not why:
                self._dirty = True  # the rest comes with the next transaction
            elif left:
                self._explain(plan, left, why, now)

        error = plan.attempt(work)
        if error is not None:
            self._explain(plan, tasks, str(error), now)

    def _explain(self, plan: Plan, tasks: list[model.Task], why: str, now: int) -> None:
        told = 0
        for task in tasks:
            if task.status.err == why:
                continue
            if plan.full:
                self._dirty = True
                break
            plan.put(replace(task, status=replace(task.status, timestamp=now, err=why)))
            told += 1
        if told:
            plan.say(f"{told} tasks of {tasks[0].service_name} wait: {why}")


def waits(task: model.Task) -> bool:
    """It has all that it needs but a node, or was bound to its node when it was made; and is still wanted."""
    free = not task.node_id or task.spec.attachment is not None
    return task.status.state == TaskState.TASK_PENDING and free and lifecycle.wanted(task)


def _node_matters(old: object, new: object) -> bool:
    if not isinstance(old, model.Node) or not isinstance(new, model.Node):
        return True
    return (
        old.status != new.status
        or old.spec != new.spec
        or old.description != new.description
        or old.role != new.role
    )


def _frees(old: object, new: object) -> bool:
    """Whether a task's change may have made room on its node."""
    if not isinstance(old, model.Task) or not old.node_id or lifecycle.ended(old):
        return False
    if not isinstance(new, model.Task):
        return True
    return lifecycle.ended(new) or (lifecycle.wanted(old) and not lifecycle.wanted(new))
