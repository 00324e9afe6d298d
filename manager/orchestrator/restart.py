"""Whether and when a task that ended is started again: the restart policy, worked out from the slot's own tasks.

Nothing is remembered outside the store, so a new leader counts the same attempts. The verdict on a task depends on
when it ended, not on when somebody asks, so it never changes. Pure; used by service.py and history.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common import model
from common.model import RestartCondition, TaskState
from manager import lifecycle
from manager.orchestrator.tasks import age

DEFAULT_DELAY: Final = 5 * lifecycle.SECOND
_KEPT_ATTEMPTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Policy:
    """A RestartPolicy with Docker's defaults filled in; max_attempts 0 is without limit, window 0 counts all."""

    condition: RestartCondition
    delay: int
    max_attempts: int
    window: int


def policy_of(spec: model.TaskSpec) -> Policy:
    """The policy of a task."""
    asked = spec.restart or model.RestartPolicy()
    return Policy(
        condition=asked.condition or RestartCondition.RESTART_ANY,
        delay=DEFAULT_DELAY if asked.delay is None else asked.delay,
        max_attempts=asked.max_attempts or 0,
        window=asked.window or 0,
    )


def attempts_before(slot: Sequence[model.Task], task: model.Task, window: int) -> int:
    """How many restarts of this spec led to `task` in its slot, counting those that ended within `window` before it."""
    ended_at = task.status.timestamp
    return sum(
        1
        for other in slot
        if other.spec_version == task.spec_version
        and age(other) < age(task)
        and lifecycle.ended_by_itself(other)
        and (not window or other.status.timestamp >= ended_at - window)
    )


def restarts(slot: Sequence[model.Task], task: model.Task) -> bool:
    """Whether `task`, which has ended, is started again. `slot` holds all tasks of its slot."""
    policy = policy_of(task.spec)
    if policy.condition == RestartCondition.RESTART_NONE:
        return False
    if (
        policy.condition == RestartCondition.RESTART_ON_FAILURE
        and task.status.state == TaskState.TASK_COMPLETE
    ):
        return False
    return not policy.max_attempts or attempts_before(slot, task, policy.window) < policy.max_attempts


def moves(task: model.Task) -> bool:
    """Whether a task whose node is gone or is being drained is made anew elsewhere. That is no attempt of its own."""
    return policy_of(task.spec).condition != RestartCondition.RESTART_NONE


def history_needed(task: model.Task) -> int:
    """How many ended tasks of a slot must be kept so that attempts can still be counted."""
    return min(policy_of(task.spec).max_attempts, _KEPT_ATTEMPTS)
