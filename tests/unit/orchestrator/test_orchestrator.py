"""One service at a time: what a pass plans."""

from __future__ import annotations

import itertools
from dataclasses import replace

from common import model
from common.model import Availability, NodeState, RestartCondition, TaskState
from manager import lifecycle
from manager.lifecycle import SECOND
from manager.orchestrator import history
from manager.orchestrator.reconcile import Orchestrator
from manager.orchestrator.service import reconcile_service
from manager.plan import Plan
from manager.store.tables import View, view_of

NOW = 1_000_000 * SECOND
S = TaskState


def node(name: str, state: NodeState = NodeState.NODE_READY, **spec: object) -> model.Node:
    return model.Node(id=name, spec=model.NodeSpec(**spec), status=model.NodeStatus(state=state))  # type: ignore[arg-type]


def service(replicas: int = 1, **fields: object) -> model.Service:
    spec = model.ServiceSpec(
        name="web",
        mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas)),
        task=model.TaskSpec(restart=fields.pop("restart", None)),  # type: ignore[arg-type]
    )
    return model.Service(id="s", spec=spec, spec_version=5, **fields)  # type: ignore[arg-type]


def task(slot: int, where: str = "n1", state: TaskState = S.TASK_RUNNING, **fields: object) -> model.Task:
    made = model.Task(
        id=f"t{slot}", created_at=slot, service_id="s", slot=slot, node_id=where, service_name="web",
        status=model.TaskStatus(state=state, timestamp=NOW, healthy=state == S.TASK_RUNNING),
        desired_state=S.TASK_RUNNING, spec_version=5,
    )  # fmt: skip
    return replace(made, **fields)


def planned(view: View, now: int = NOW) -> Plan:
    plan, ids = Plan(), itertools.count(1)
    found = view.services.get("s")
    assert found is not None
    reconcile_service(view, plan, found, now, lambda: f"new{next(ids)}")
    return plan


def made(plan: Plan) -> list[model.Task]:
    return [t for t in plan.changes.values() if isinstance(t, model.Task) and t.id.startswith("new")]


def changed(plan: Plan, task_id: str) -> model.Task:
    found = plan.changes["Task", task_id]
    assert isinstance(found, model.Task)
    return found


def test_new_tasks_are_named_and_numbered() -> None:
    tasks = made(planned(view_of([service(3)])))
    assert [t.slot for t in tasks] == [1, 2, 3]
    assert tasks[0].name == "web.1.new1"
    assert tasks[0].status == model.TaskStatus(timestamp=NOW, state=S.TASK_NEW, message="created")
    assert tasks[0].desired_state == S.TASK_RUNNING


def test_a_settled_service_is_left_alone() -> None:
    plan = planned(view_of([service(2), node("n1"), task(1), task(2)]))
    assert plan.changes == {}
    assert plan.why == []


def test_scale_down_takes_those_that_do_not_run_then_crowded_nodes_then_high_slots() -> None:
    tasks = [task(1, "n1"), task(2, "n2"), task(3, "n1"), task(4, "n2", S.TASK_PREPARING), task(5, "n1")]
    nodes = [node("n1"), node("n2")]
    plan = planned(view_of([service(2), *nodes, *tasks]))
    gone = {t.slot for t in plan.changes.values() if isinstance(t, model.Task)}
    assert gone == {3, 4, 5}
    assert all(changed(plan, f"t{n}").desired_state == S.TASK_REMOVE for n in gone)


def test_a_failed_task_is_made_anew_at_once_and_started_later() -> None:
    plan = planned(view_of([service(), node("n1"), task(1, state=S.TASK_FAILED)]))
    (new,) = made(plan)
    assert changed(plan, "t1").desired_state == S.TASK_SHUTDOWN
    assert (new.slot, new.desired_state, new.start_after) == (1, S.TASK_READY, NOW + 5 * SECOND)


def test_a_delayed_task_starts_when_its_time_has_come() -> None:
    waiting = task(1, state=S.TASK_READY, desired_state=S.TASK_READY, start_after=NOW + SECOND)
    view = view_of([service(), node("n1"), waiting])
    assert planned(view).changes == {}
    assert changed(planned(view, NOW + SECOND), "t1").desired_state == S.TASK_RUNNING


def test_a_delayed_task_that_is_rejected_meanwhile_is_not_made_anew_before_its_time() -> None:
    rejected = task(1, state=S.TASK_REJECTED, desired_state=S.TASK_READY, start_after=NOW + SECOND)
    view = view_of([service(), node("n1"), rejected])
    assert planned(view).changes == {}
    (new,) = made(planned(view, NOW + SECOND))
    assert new.start_after == NOW + 6 * SECOND


def test_a_start_time_further_away_than_the_delay_comes_from_a_wrong_clock() -> None:
    waiting = task(1, state=S.TASK_READY, desired_state=S.TASK_READY, start_after=NOW + 3600 * SECOND)
    plan = planned(view_of([service(), node("n1"), waiting]))
    assert changed(plan, "t1").desired_state == S.TASK_RUNNING


def test_a_task_that_replaces_another_waits_until_that_has_stopped() -> None:
    old = task(1, state=S.TASK_RUNNING, desired_state=S.TASK_SHUTDOWN)
    new = task(1, id="t1b", created_at=NOW, state=S.TASK_READY, desired_state=S.TASK_READY)
    view = view_of([service(), node("n1"), old, new])
    assert planned(view).changes == {}
    assert changed(planned(view, NOW + 71 * SECOND), "t1b").desired_state == S.TASK_RUNNING


def test_tasks_leave_a_node_that_is_down_or_drained_without_delay() -> None:
    for gone in (node("n1", NodeState.NODE_DOWN), node("n1", availability=Availability.DRAIN)):
        plan = planned(view_of([service(), gone, task(1)]))
        (new,) = made(plan)
        assert (new.desired_state, new.start_after) == (S.TASK_RUNNING, 0)
        assert changed(plan, "t1").desired_state == S.TASK_SHUTDOWN


def test_tasks_of_a_removed_node_are_orphaned() -> None:
    plan = planned(view_of([service(), task(1)]))
    assert changed(plan, "t1").status.state == S.TASK_ORPHANED
    assert len(made(plan)) == 1


def test_without_restarts_a_slot_that_has_ended_stays_empty() -> None:
    policy = model.RestartPolicy(condition=RestartCondition.RESTART_NONE)
    asked = service(2, restart=policy)
    spec = asked.spec.task
    done = task(1, state=S.TASK_COMPLETE, spec=spec)
    plan = planned(view_of([asked, node("n1"), done, task(2, spec=spec)]))
    assert made(plan) == []
    assert changed(plan, "t1").desired_state == S.TASK_SHUTDOWN
    again = planned(view_of([asked, node("n1"), changed(plan, "t1"), task(2, spec=spec)]))
    assert again.changes == {}


def test_an_unassigned_task_that_is_stopped_is_over() -> None:
    assert lifecycle.stop(task(1, "", S.TASK_PENDING), NOW).status.state == S.TASK_SHUTDOWN
    plan = planned(view_of([service(0), task(1, "", S.TASK_PENDING)]))
    assert plan.changes == {("Task", "t1"): None}


def test_an_older_task_that_equals_the_spec_is_kept() -> None:
    asked = service()
    old = task(1, spec=asked.spec.task, spec_version=2)
    plan = planned(view_of([asked, node("n1"), old]))
    assert made(plan) == []
    assert changed(plan, "t1").spec_version == 5


def test_a_removed_service_waits_for_its_tasks_but_not_for_dead_nodes() -> None:
    gone = service(pending_delete=True)
    plan = planned(view_of([gone, node("n1"), node("n2", NodeState.NODE_DOWN), task(1), task(2, "n2")]))
    assert changed(plan, "t1").desired_state == S.TASK_REMOVE
    assert changed(plan, "t1").status.state == S.TASK_RUNNING
    assert plan.changes["Task", "t2"] is None
    plan = planned(view_of([gone]))
    assert plan.changes == {("Service", "s"): None}


def test_a_task_with_addresses_is_not_forgotten() -> None:
    leg = model.NetworkAttachment(network_id="n", addresses=("10.1.0.5/24",))
    ended = task(1, state=S.TASK_SHUTDOWN, desired_state=S.TASK_REMOVE, networks=(leg,))
    assert history.to_remove([ended]) == []
    released = replace(ended, networks=(replace(leg, addresses=()),))
    assert history.to_remove([released]) == [released]


def test_history_keeps_what_attempts_are_counted_from() -> None:
    policy = model.RestartPolicy(max_attempts=8)
    spec = model.TaskSpec(restart=policy)
    slot = [task(n, state=S.TASK_FAILED, desired_state=S.TASK_SHUTDOWN, spec=spec) for n in range(1, 12)]
    assert len(history.beyond_limit(slot, 5)) == 2
    plain = [replace(t, spec=model.TaskSpec()) for t in slot]
    assert len(history.beyond_limit(plain, 5)) == 6
    assert history.beyond_limit(plain, -1) == []


def test_an_object_that_provokes_an_error_is_parked_and_the_others_go_on() -> None:
    odd = replace(service(), id="odd", spec=replace(service().spec, mode=model.ServiceMode()))
    ids = itertools.count(1)
    orchestrator = Orchestrator(lambda: f"new{next(ids)}")
    view = view_of([odd, service(1)])
    orchestrator.reset(view)
    plan = orchestrator.reconcile(view, NOW)
    parked = plan.changes["Service", "odd"]
    assert isinstance(parked, model.Service)
    assert parked.error == "orchestrator: only replicated services are orchestrated"
    assert len(made(plan)) == 1
    # Parking it is no reason to look at it for ever.
    view = view_of([parked, service(1), *made(plan)])
    orchestrator.reset(view)
    assert orchestrator.reconcile(view, NOW).changes == {}


def test_tasks_of_a_node_that_is_down_for_a_day_are_given_up() -> None:
    day = 24 * 3600 * SECOND
    gone = replace(node("n1", NodeState.NODE_DOWN), down_since=NOW)
    left = task(1, desired_state=S.TASK_SHUTDOWN)
    view = view_of([gone, left])
    orchestrator = Orchestrator(str)
    orchestrator.reset(view)
    orchestrator.reconcile(view, NOW + 5 * SECOND)
    assert orchestrator.deadline() == NOW + day
    plan = orchestrator.reconcile(view, NOW + day)
    assert changed(plan, "t1").status.state == S.TASK_ORPHANED
