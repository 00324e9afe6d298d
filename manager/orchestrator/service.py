"""One replicated service: from what its spec asks for and what its tasks have come to, to what must change. Pure.

    slots      as many as replicas; too many are removed, missing ones made
    a slot     one task that is wanted (two while a start-first update replaces it)
    a task     ended by itself: made anew after the policy's delay; node gone, Down or drained: made anew at once
    history    what ended stays for a while, for `service ps`

Used by reconcile.py. What a pass has done shows in the view of the next one: calling it again changes nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.orchestrator import history, restart, tasks, update
from manager.orchestrator.work import Work, all_tasks
from manager.plan import Plan
from manager.store.view import ReadView

STOP_PATIENCE: Final = 60 * lifecycle.SECOND
"""A task that is to be replaced but doesn't stop holds its successor back so long, on top of its own grace period."""
DEFAULT_GRACE: Final = 10 * lifecycle.SECOND


def reconcile_service(
    view: ReadView, plan: Plan, service: model.Service, now: int, new_id: Callable[[], str]
) -> list[int]:
    """Fills `plan` for one service; returns the times at which it must be looked at again."""
    work = Work(view, plan, service, now, new_id, tasks.slots_of(view.tasks.by_service(service.id)))
    _orphan(work)
    if service.pending_delete:
        _delete(work)
        return work.deadlines
    if service.spec.mode.replicated is None:
        raise NotImplementedError("only replicated services are orchestrated")
    if service.error.startswith(ERROR):
        work.plan.put(replace(service, error=""))
    wanted = service.spec.mode.replicated.replicas
    replicas = 1 if wanted is None else wanted
    _shrink(work, replicas)
    for slot in sorted(work.slots):
        if plan.full:
            work.wake_at(now)
            return work.deadlines
        _heal(work, slot)
    _grow(work, replicas)
    update.roll(work)
    _forget(work, history.limit_of(view.cluster))
    return work.deadlines


ERROR: Final = "orchestrator: "


def _orphan(work: Work) -> None:
    """Tasks of a removed node are over."""
    for task in all_tasks(work.slots):
        if task.node_id and not lifecycle.ended(task) and work.node(task) is None:
            message = "Task belonged to a node that has been deleted"
            work.write(lifecycle.with_status(task, work.now, TaskState.TASK_ORPHANED, message))


def _delete(work: Work) -> None:
    """A removed service: its tasks end, then it goes. Tasks on nodes that are Down don't hold it back."""
    stopped = _remove_slots(work, list(work.slots))
    for task in history.to_remove(all_tasks(work.slots)):
        if work.plan.full:
            break
        work.drop(task)
    if work.plan.full:
        work.wake_at(work.now)
    elif not all_tasks(work.slots) and not work.service.endpoint.virtual_ips:
        work.plan.remove(work.service)
        work.plan.say(f"removed service {work.name}: none of its tasks is left")
    if stopped:
        work.plan.say(f"{work.name} is to be removed: stopping {stopped} of its tasks")


def _remove_slots(work: Work, numbers: Iterable[int]) -> int:
    """Asks for the end and removal of every task in these slots; returns how many were asked."""
    asked = 0
    for number in numbers:
        for task in list(work.slots[number]):
            if work.plan.full:
                return asked
            if task.desired_state < TaskState.TASK_REMOVE:
                task = work.stop(task, TaskState.TASK_REMOVE)
                asked += 1
            if not lifecycle.ended(task) and lifecycle.down(work.node(task)):
                message = "removed while its node was down"
                work.write(lifecycle.with_status(task, work.now, TaskState.TASK_ORPHANED, message))
    return asked


def _shrink(work: Work, replicas: int) -> None:
    counted = work.counted()
    surplus = len(counted) - replicas
    if surplus > 0:
        numbers = _least_useful(work, counted, surplus)
        _remove_slots(work, numbers)
        work.plan.say(f"{work.name}: {replicas} replicas asked, {len(counted)} there, removing {surplus}")
    gone = [
        n for n, slot in work.slots.items() if any(t.desired_state >= TaskState.TASK_REMOVE for t in slot)
    ]
    _remove_slots(work, [n for n in gone if not work.wanted(n)])


def _least_useful(work: Work, counted: list[int], surplus: int) -> list[int]:
    """Slots to remove: first those that don't run, then those on nodes with most tasks, then the highest numbers."""
    current = {n: (work.wanted(n) or work.slots[n])[-1] for n in counted}
    load = Counter(t.node_id for t in current.values() if t.status.state == TaskState.TASK_RUNNING)

    def rank(number: int) -> tuple[bool, int, int]:
        task = current[number]
        running = task.status.state == TaskState.TASK_RUNNING and lifecycle.wanted(task)
        return running, -load[task.node_id] if running else 0, -number

    heap = [(rank(n), n) for n in counted]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < surplus:
        ranked, number = heapq.heappop(heap)
        if (fresh := rank(number)) != ranked:
            heapq.heappush(heap, (fresh, number))
            continue
        chosen.append(number)
        load[current[number].node_id] -= ranked[0]
    return chosen


def _heal(work: Work, slot: int) -> None:
    wanted = work.wanted(slot)
    for task in wanted:
        if work.lost(task):
            _move(work, task)
        elif lifecycle.ended(task):
            if _waits(work, task):
                work.wake_at(task.start_after)
            else:
                _restart(work, task)
        elif task.desired_state == TaskState.TASK_READY:
            _promote(work, task)
    wanted = work.wanted(slot)
    for task in wanted[:-1]:
        if not update.replaces_start_first(work, task, wanted[-1]):
            work.stop(task)


def _waits(work: Work, task: model.Task) -> bool:
    """A delayed task that was rejected while it waited: its own delay passes before the next one, or an image that
    is not there would be asked for without end."""
    if task.desired_state != TaskState.TASK_READY or not task.start_after:
        return False
    return not lifecycle.due(task.start_after, work.now, restart.policy_of(task.spec).delay)


def _move(work: Work, task: model.Task) -> None:
    node = work.node(task)
    others = [t for t in work.wanted(task.slot) if t.id != task.id]
    work.stop(task)
    where = f"{task.service_name}.{task.slot} leaves node {lifecycle.hostname(node, task.node_id)}"
    reason = "removed" if node is None else "down" if lifecycle.down(node) else "drained"
    if others or not restart.moves(task):
        work.plan.say(f"{where} ({reason}) without a successor")
        return
    new = work.start(task.slot, task.desired_state, task.start_after)
    work.plan.say(f"{where} ({reason}): task {new.id} takes over at once")


def _restart(work: Work, task: model.Task) -> None:
    slot = list(work.slots[task.slot])
    others = [t for t in work.wanted(task.slot) if t.id != task.id]
    work.stop(task)
    what = f"{task.service_name}.{task.slot} {lifecycle.state_name(task)}"
    cause = f" ({task.status.err})" if task.status.err else ""
    if others or not restart.restarts(slot, task):
        work.plan.say(f"{what}{cause}: its policy lets it rest")
        return
    delay = restart.policy_of(task.spec).delay
    if delay > 0:
        new = work.start(task.slot, TaskState.TASK_READY, work.now + delay)
        work.wake_at(work.now + delay)
    else:
        new = work.start(task.slot)
    work.plan.say(f"{what}{cause}: task {new.id} starts in {delay / lifecycle.SECOND:g} s")


def _promote(work: Work, task: model.Task) -> None:
    """A prepared task starts when its time has come and what it replaces has stopped."""
    if _waits(work, task):
        work.wake_at(task.start_after)
        return
    for other in work.slots[task.slot]:
        if other.id == task.id or work.halted(other) or lifecycle.wanted(other):
            continue
        patience = task.created_at + STOP_PATIENCE + _grace(other)
        if not lifecycle.due(patience, work.now, STOP_PATIENCE + _grace(other)):
            work.wake_at(patience)
            return
    work.write(replace(task, desired_state=TaskState.TASK_RUNNING, start_after=0))


def _grace(task: model.Task) -> int:
    asked = task.spec.container.stop_grace_period if task.spec.container is not None else None
    return DEFAULT_GRACE if asked is None else asked


def _grow(work: Work, replicas: int) -> None:
    counted = set(work.counted())
    missing = replicas - len(counted)
    made, number = 0, 0
    while made < missing and not work.plan.full:
        number += 1
        if number not in counted:
            work.start(number)
            made += 1
    if made:
        work.plan.say(f"{work.name}: {replicas} replicas asked, {len(counted)} there, made {made} tasks")
    if made < missing:
        work.wake_at(work.now)


def _forget(work: Work, limit: int) -> None:
    """Takes ended tasks out of the store."""
    dropped = 0
    for number in list(work.slots):
        slot = work.slots[number]
        if not slot:
            continue
        for task in {
            t.id: t for t in (*history.to_remove(slot), *history.beyond_limit(slot, limit))
        }.values():
            if work.plan.full:
                work.wake_at(work.now)
                return
            work.drop(task)
            dropped += 1
    if dropped:
        work.plan.say(f"{work.name}: forgot {dropped} ended tasks")
