"""Rolling updates: tasks made from an older spec are replaced, a few at a time. Pure; used by service.py.

Everything is worked out from the store: a slot is old (its task is from an older spec), in flight (its new task has
not run for `delay` yet) or settled. `parallelism` bounds how many are in flight. The update is over when none is old
and all have run for `monitor`; it pauses, rolls back or goes on when too many of its tasks fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from common import model
from common.model import FailureAction, TaskState, UpdateOrder, UpdateState
from manager import lifecycle
from manager.orchestrator import tasks
from manager.orchestrator.work import Work, all_tasks

DEFAULT_MONITOR: Final = 5 * lifecycle.SECOND
_ROLLING: Final = (UpdateState.UPDATE_UPDATING, UpdateState.UPDATE_ROLLBACK_STARTED)
_PAUSED: Final = (UpdateState.UPDATE_PAUSED, UpdateState.UPDATE_ROLLBACK_PAUSED)
_DONE: Final[Mapping[UpdateState, tuple[UpdateState, str]]] = {
    UpdateState.UPDATE_UPDATING: (UpdateState.UPDATE_COMPLETED, "update completed"),
    UpdateState.UPDATE_ROLLBACK_STARTED: (UpdateState.UPDATE_ROLLBACK_COMPLETED, "rollback completed"),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """An UpdateConfig with Docker's defaults; parallelism 0 is all at once."""

    parallelism: int
    delay: int
    monitor: int
    start_first: bool
    action: FailureAction
    max_failure_ratio: float


def settings_of(service: model.Service) -> Settings:
    """How this service is updated now: by its rollback settings while it is rolled back."""
    rolling_back = (
        service.update_status is not None and service.update_status.state in (
            UpdateState.UPDATE_ROLLBACK_STARTED, UpdateState.UPDATE_ROLLBACK_PAUSED
        )
    )  # fmt: skip
    asked = (service.spec.rollback if rolling_back else service.spec.update) or model.UpdateConfig(
        parallelism=1
    )
    action = asked.failure_action or FailureAction.FAILURE_PAUSE
    if rolling_back and action == FailureAction.FAILURE_ROLLBACK:
        action = FailureAction.FAILURE_PAUSE
    return Settings(
        parallelism=asked.parallelism,
        delay=asked.delay,
        monitor=asked.monitor or DEFAULT_MONITOR,
        start_first=asked.order == UpdateOrder.START_FIRST,
        action=action,
        max_failure_ratio=asked.max_failure_ratio,
    )


def replaces_start_first(work: Work, old: model.Task, new: model.Task) -> bool:
    """Whether `old` may go on beside `new`: until `new` serves, when the update starts first."""
    if not settings_of(work.service).start_first or tasks.up_to_date(work.service, old):
        return False
    return not lifecycle.serving(new)


def roll(work: Work) -> None:
    """One step of the update, if one is due."""
    _keep_equal(work)
    slots = [n for n in sorted(work.slots) if work.wanted(n)]
    old = [n for n in slots if not any(_current(work, t) for t in work.wanted(n))]
    status = work.service.update_status
    state = status.state if status is not None else UpdateState.UPDATE_UNKNOWN
    if old and state not in _PAUSED and state not in _ROLLING:
        _set_state(work, UpdateState.UPDATE_UPDATING, "update in progress", started=True)
        work.plan.say(f"{work.name}: updating {len(old)} of {len(slots)} slots")
    elif state not in _ROLLING:
        return
    settings = settings_of(work.service)
    if _failed(work, settings, len(slots)):
        return
    flying = [n for n in slots if n not in old and not _settled(work, n, settings)]
    room = len(old) if settings.parallelism == 0 else max(0, settings.parallelism - len(flying))
    for number in _first_to_go(work, old)[:room]:
        if work.plan.full:
            work.wake_at(work.now)
            return
        _replace(work, number, settings)
    if not old and not flying:
        _complete(work, slots, settings)


def _current(work: Work, task: model.Task) -> bool:
    return task.spec_version == work.service.spec_version


def _keep_equal(work: Work) -> None:
    """Tasks of an older version that equal what is asked for count as new."""
    for task in all_tasks(work.slots):
        if lifecycle.wanted(task) and not _current(work, task) and tasks.up_to_date(work.service, task):
            work.write(replace(task, spec_version=work.service.spec_version))


def _settled(work: Work, number: int, settings: Settings) -> bool:
    """The slot's new task runs, alone, since `delay`."""
    wanted = work.wanted(number)
    new = wanted[-1]
    if len(wanted) > 1 or not lifecycle.serving(new):
        return False
    return _elapsed(work, new, settings.delay)


def _elapsed(work: Work, task: model.Task, span: int) -> bool:
    when = task.status.timestamp + span
    if span and not lifecycle.due(when, work.now, span):
        work.wake_at(when)
        return False
    return True


def _first_to_go(work: Work, old: list[int]) -> list[int]:
    """Slots that don't run come first: replacing them takes nothing away."""
    return sorted(old, key=lambda n: (any(lifecycle.serving(t) for t in work.wanted(n)), n))


def _replace(work: Work, number: int, settings: Settings) -> None:
    olds = work.wanted(number)
    if settings.start_first and all(lifecycle.serving(t) for t in olds):
        work.start(number)
        return
    stopped = [work.stop(t) for t in olds]
    halted = all(
        work.halted(t) for t in (*stopped, *(t for t in work.slots[number] if not lifecycle.wanted(t)))
    )
    work.start(number, TaskState.TASK_RUNNING if halted else TaskState.TASK_READY)


def _failed(work: Work, settings: Settings, slots: int) -> bool:
    """Counts failures of the update's own tasks; beyond the ratio, does what the failure action says."""
    status = work.service.update_status
    started = status.started_at if status is not None else 0
    failed = [
        t for t in all_tasks(work.slots)
        if _current(work, t) and t.created_at >= started and lifecycle.ended_by_itself(t)
    ]  # fmt: skip
    if not failed or settings.action == FailureAction.FAILURE_CONTINUE:
        return False
    if len({t.slot for t in failed}) / max(1, slots) <= settings.max_failure_ratio:
        return False
    _give_up(work, settings, min(failed, key=tasks.age))
    return True


def _give_up(work: Work, settings: Settings, culprit: model.Task) -> None:
    cause = f"due to failure or early termination of task {culprit.id}"
    previous = work.service.previous_spec
    if settings.action == FailureAction.FAILURE_ROLLBACK and previous is not None:
        version = work.service.previous_spec_version
        work.service = replace(work.service, spec=previous, previous_spec=None, spec_version=version)
        _set_state(work, UpdateState.UPDATE_ROLLBACK_STARTED, f"update rolled back {cause}", started=True)
    elif (
        work.service.update_status is not None
        and work.service.update_status.state == UpdateState.UPDATE_UPDATING
    ):
        _set_state(work, UpdateState.UPDATE_PAUSED, f"update paused {cause}")
    else:
        _set_state(work, UpdateState.UPDATE_ROLLBACK_PAUSED, f"rollback paused {cause}")
    work.plan.say(
        f"{work.name}: {work.service.update_status.message if work.service.update_status else cause}"
    )
    work.wake_at(work.now)


def _complete(work: Work, slots: list[int], settings: Settings) -> None:
    """The update is over when every new task has run for `monitor`."""
    monitored = [_elapsed(work, work.wanted(n)[-1], settings.monitor) for n in slots]
    status = work.service.update_status
    if all(monitored) and status is not None and status.state in _DONE:
        state, message = _DONE[status.state]
        _set_state(work, state, message)
        work.plan.say(f"{work.name}: {message}")


def _set_state(work: Work, state: UpdateState, message: str, started: bool = False) -> None:
    status = work.service.update_status or model.UpdateStatus()
    status = replace(status, state=state, message=message)
    if started:
        status = replace(status, started_at=work.now, completed_at=0)
    if state in (UpdateState.UPDATE_COMPLETED, UpdateState.UPDATE_ROLLBACK_COMPLETED):
        status = replace(status, completed_at=work.now)
    work.service = replace(work.service, update_status=status)
    work.plan.put(work.service)
