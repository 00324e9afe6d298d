"""Rolling updates, one pass at a time: who is replaced when, and how an update ends."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from common import model
from common.model import FailureAction, TaskState, UpdateOrder, UpdateState
from manager.lifecycle import SECOND
from manager.orchestrator import update
from manager.orchestrator.service import reconcile_service
from manager.plan import Plan
from manager.store.tables import view_of

NOW = 1_000_000 * SECOND
S = TaskState
OLD, NEW = (model.TaskSpec(networks=(model.NetworkAttachmentConfig(target=n),)) for n in ("old", "new"))


def service(replicas: int = 3, config: model.UpdateConfig | None = None, **fields: object) -> model.Service:
    """It has been told to leave network `old` for `new`."""
    mode = model.ServiceMode(replicated=model.ReplicatedMode(replicas))
    spec = model.ServiceSpec(name="web", mode=mode, task=NEW, update=config)
    made = model.Service(
        id="s", spec=spec, spec_version=9, previous_spec=replace(spec, task=OLD), previous_spec_version=5
    )
    return replace(made, **fields)


def task(slot: int, state: TaskState = S.TASK_RUNNING, new: bool = False, **fields: object) -> model.Task:
    made = model.Task(
        id=f"{'n' if new else 't'}{slot}", created_at=NOW if new else slot, service_id="s", slot=slot, node_id="n1",
        service_name="web", desired_state=S.TASK_RUNNING, spec=NEW if new else OLD, spec_version=9 if new else 5,
        status=model.TaskStatus(state=state, timestamp=NOW, healthy=state == S.TASK_RUNNING),
    )  # fmt: skip
    return replace(made, **fields)


def planned(of: model.Service, *tasks: model.Task, now: int = NOW) -> tuple[Plan, list[int]]:
    node = model.Node(id="n1", status=model.NodeStatus(state=model.NodeState.NODE_READY))
    plan, ids = Plan(), itertools.count(1)
    wakes = reconcile_service(view_of([of, node, *tasks]), plan, of, now, lambda: f"new{next(ids)}")
    return plan, wakes


def stopped(plan: Plan) -> set[str]:
    found = (t for t in plan.changes.values() if isinstance(t, model.Task))
    return {t.id for t in found if t.desired_state == S.TASK_SHUTDOWN}


def made(plan: Plan) -> list[model.Task]:
    return [t for t in plan.changes.values() if isinstance(t, model.Task) and t.id.startswith("new")]


def status(plan: Plan) -> tuple[UpdateState, str]:
    found = plan.changes["Service", "s"]
    assert isinstance(found, model.Service) and found.update_status is not None
    return found.update_status.state, found.update_status.message


def updating(since: int = NOW) -> model.UpdateStatus:
    return model.UpdateStatus(UpdateState.UPDATE_UPDATING, since, 0, "update in progress")


def test_defaults_are_dockers() -> None:
    assert update.settings_of(service()) == update.Settings(
        parallelism=1, delay=0, monitor=5 * SECOND, start_first=False, action=FailureAction.FAILURE_PAUSE,
        max_failure_ratio=0,
    )  # fmt: skip


@pytest.mark.parametrize(("parallelism", "first"), [(1, {"t1"}), (2, {"t1", "t2"}), (0, {"t1", "t2", "t3"})])
def test_so_many_at_once(parallelism: int, first: set[str]) -> None:
    config = model.UpdateConfig(parallelism=parallelism)
    plan, _ = planned(service(config=config), *(task(n) for n in (1, 2, 3)))
    assert stopped(plan) == first
    assert {t.desired_state for t in made(plan)} == {S.TASK_READY}, "prepared while the old ones stop"
    assert all(t.spec == NEW and t.spec_version == 9 for t in made(plan))
    assert status(plan) == (UpdateState.UPDATE_UPDATING, "update in progress")


def test_what_does_not_run_goes_first() -> None:
    plan, _ = planned(service(), task(1), task(2), task(3, S.TASK_PREPARING))
    assert stopped(plan) == {"t3"}


def test_the_next_one_waits_for_the_new_one_to_run_and_for_the_delay() -> None:
    of = service(config=model.UpdateConfig(parallelism=1, delay=10 * SECOND), update_status=updating())
    rest = task(2), task(3)
    plan, _ = planned(of, task(1, S.TASK_STARTING, new=True), *rest)
    assert stopped(plan) == set()
    plan, wakes = planned(of, task(1, new=True), *rest, now=NOW + 4 * SECOND)
    assert (stopped(plan), wakes) == (set(), [NOW + 10 * SECOND])
    plan, _ = planned(of, task(1, new=True), *rest, now=NOW + 10 * SECOND)
    assert stopped(plan) == {"t2"}


def test_start_first_leaves_the_old_one_until_the_new_one_serves() -> None:
    of = service(config=model.UpdateConfig(parallelism=1, order=UpdateOrder.START_FIRST))
    old = [task(n) for n in (1, 2, 3)]
    plan, _ = planned(of, *old)
    assert stopped(plan) == set()
    assert [(t.slot, t.desired_state) for t in made(plan)] == [(1, S.TASK_RUNNING)]
    of = replace(of, update_status=updating())
    plan, _ = planned(of, task(1, S.TASK_STARTING, new=True), *old)
    assert stopped(plan) == set()
    plan, _ = planned(of, task(1, new=True), *old)
    assert stopped(plan) == {"t1"}


def test_it_is_over_when_all_have_run_for_a_while() -> None:
    of = service(update_status=updating())
    new = [task(n, new=True) for n in (1, 2, 3)]
    plan, wakes = planned(of, *new, now=NOW + 4 * SECOND)
    assert plan.changes == {}
    assert set(wakes) == {NOW + 5 * SECOND}
    plan, _ = planned(of, *new, now=NOW + 5 * SECOND)
    assert status(plan) == (UpdateState.UPDATE_COMPLETED, "update completed")


def failing(action: FailureAction, ratio: float = 0) -> Plan:
    config = model.UpdateConfig(parallelism=1, failure_action=action, max_failure_ratio=ratio)
    of = service(config=config, update_status=updating())
    failed = task(1, S.TASK_FAILED, new=True, desired_state=S.TASK_SHUTDOWN)
    again = task(1, S.TASK_STARTING, new=True, id="again", created_at=NOW + 1)
    return planned(of, failed, again, task(2), task(3))[0]


def test_a_failure_pauses() -> None:
    plan = failing(FailureAction.FAILURE_PAUSE)
    cause = "update paused due to failure or early termination of task n1"
    assert status(plan) == (UpdateState.UPDATE_PAUSED, cause)
    assert stopped(plan) == set()
    paused = service(update_status=model.UpdateStatus(UpdateState.UPDATE_PAUSED, NOW))
    plan, _ = planned(paused, task(1, new=True), task(2), task(3), now=NOW + 60 * SECOND)
    assert plan.changes == {}, "it waits for somebody to say how to go on"


def test_a_failure_that_is_tolerated_or_ignored() -> None:
    for plan in (failing(FailureAction.FAILURE_PAUSE, 0.4), failing(FailureAction.FAILURE_CONTINUE)):
        assert ("Service", "s") not in plan.changes


def test_a_failure_rolls_back_to_the_spec_before() -> None:
    plan = failing(FailureAction.FAILURE_ROLLBACK)
    cause = "update rolled back due to failure or early termination of task n1"
    assert status(plan) == (UpdateState.UPDATE_ROLLBACK_STARTED, cause)
    found = plan.changes["Service", "s"]
    assert isinstance(found, model.Service)
    assert (found.spec.task, found.spec_version, found.previous_spec) == (OLD, 5, None)
