"""Restart policies: conditions, attempts, windows, worked out from tasks alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import model
from common.model import RestartCondition, TaskState
from manager.lifecycle import SECOND
from manager.orchestrator import restart

ANY, FAILURE, NONE = (
    RestartCondition.RESTART_ANY,
    RestartCondition.RESTART_ON_FAILURE,
    RestartCondition.RESTART_NONE,
)


def ended(
    number: int, at: int, policy: model.RestartPolicy | None, state: TaskState = TaskState.TASK_FAILED
) -> model.Task:
    return model.Task(
        id=f"t{number:04d}",
        created_at=number,
        spec=model.TaskSpec(restart=policy),
        spec_version=7,
        status=model.TaskStatus(state=state, timestamp=at * SECOND),
        desired_state=TaskState.TASK_SHUTDOWN,
    )


def test_defaults_are_dockers() -> None:
    assert restart.policy_of(model.TaskSpec()) == restart.Policy(ANY, 5 * SECOND, 0, 0)


@pytest.mark.parametrize(
    ("condition", "state", "again"),
    [
        (ANY, TaskState.TASK_COMPLETE, True),
        (ANY, TaskState.TASK_REJECTED, True),
        (FAILURE, TaskState.TASK_COMPLETE, False),
        (FAILURE, TaskState.TASK_FAILED, True),
        (NONE, TaskState.TASK_FAILED, False),
    ],
)
def test_conditions(condition: RestartCondition, state: TaskState, again: bool) -> None:
    task = ended(1, 1, model.RestartPolicy(condition=condition), state)
    assert restart.restarts([task], task) is again


def test_attempts_without_a_window_count_all_of_this_spec() -> None:
    policy = model.RestartPolicy(max_attempts=2)
    slot = [ended(n, n, policy) for n in range(1, 4)]
    assert [restart.restarts(slot[: n + 1], slot[n]) for n in range(3)] == [True, True, False]


def test_attempts_of_an_older_spec_do_not_count() -> None:
    policy = model.RestartPolicy(max_attempts=1)
    old = [model.Task(**{**_fields(ended(n, n, policy)), "spec_version": 3}) for n in range(1, 4)]
    task = ended(9, 9, policy)
    assert restart.restarts([*old, task], task)


def test_a_task_that_was_moved_is_no_attempt() -> None:
    policy = model.RestartPolicy(max_attempts=1)
    moved = [ended(n, n, policy, TaskState.TASK_SHUTDOWN) for n in range(1, 4)]
    task = ended(9, 9, policy)
    assert restart.restarts([*moved, task], task)


def _fields(task: model.Task) -> dict[str, object]:
    return {name: getattr(task, name) for name in task.__dataclass_fields__}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=25), st.integers(1, 5), st.integers(0, 40))
def test_never_more_than_max_attempts_in_any_window(gaps: list[int], most: int, window: int) -> None:
    """Tasks fail after `gaps` seconds each: of the restarts that the policy grants, no window holds too many."""
    policy = model.RestartPolicy(max_attempts=most, window=window * SECOND)
    slot: list[model.Task] = []
    granted: list[int] = []
    at = 0
    for number, gap in enumerate(gaps):
        at += gap
        slot.append(ended(number, at, policy))
        if not restart.restarts(slot, slot[-1]):
            break
        granted.append(at)
    for start in granted:
        inside = [t for t in granted if not window or start - window <= t <= start]
        assert len(inside) <= most


@given(st.integers(1, 10), st.integers(0, 10_000))
def test_the_verdict_does_not_depend_on_when_it_is_asked(count: int, later: int) -> None:
    policy = model.RestartPolicy(max_attempts=3, window=10 * SECOND)
    slot = [ended(n, n * 2, policy) for n in range(count)]
    more = [*slot, ended(count + 1, later + count * 2, policy)]
    for task in slot:
        assert restart.restarts(slot, task) == restart.restarts(more, task)
