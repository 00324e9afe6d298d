"""The life of an endpoint, step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common import model
from common.model import EndpointState, NodeState, TaskState
from manager.dispatcher.acks import Acks
from manager.endpoints.plan import next_step
from manager.endpoints.reconcile import Endpoints
from manager.lifecycle import SECOND
from manager.store.tables import view_of
from manager.store.view import THIS_INDEX

NOW = 1_000_000 * SECOND
S, E = TaskState, EndpointState
LEG = model.NetworkAttachment(network_id="web", addresses=("10.1.0.5/24",))


def node(name: str, state: NodeState = NodeState.NODE_READY) -> model.Node:
    return model.Node(
        id=name, description=model.NodeDescription(hostname=name), status=model.NodeStatus(state=state)
    )


def task(**fields: object) -> model.Task:
    made = model.Task(
        id="t", node_id="a", desired_state=S.TASK_RUNNING, networks=(LEG,),
        status=model.TaskStatus(state=S.TASK_RUNNING, healthy=True),
    )  # fmt: skip
    return replace(made, **fields)


def state(value: TaskState, healthy: bool = False) -> model.TaskStatus:
    return model.TaskStatus(state=value, healthy=healthy)


VIEW = view_of([node("a"), node("b"), node("gone", NodeState.NODE_DOWN)])


@pytest.mark.parametrize(
    ("now", "after"),
    [
        (task(), E.ENDPOINT_SERVING),
        (task(status=state(S.TASK_RUNNING)), E.ENDPOINT_NONE),  # not healthy yet
        (task(status=state(S.TASK_STARTING)), E.ENDPOINT_NONE),
        (task(desired_state=S.TASK_SHUTDOWN), E.ENDPOINT_NONE),
        (task(networks=()), E.ENDPOINT_NONE),
        (task(node_id="gone"), E.ENDPOINT_NONE),
        (task(endpoint=E.ENDPOINT_SERVING), E.ENDPOINT_SERVING),
        (task(endpoint=E.ENDPOINT_SERVING, desired_state=S.TASK_SHUTDOWN), E.ENDPOINT_WITHDRAWN),
        (task(endpoint=E.ENDPOINT_SERVING, status=state(S.TASK_FAILED)), E.ENDPOINT_DRAINED),
        (task(endpoint=E.ENDPOINT_SERVING, node_id="gone"), E.ENDPOINT_DRAINED),
        (task(endpoint=E.ENDPOINT_SERVING, node_id="removed"), E.ENDPOINT_DRAINED),
        (task(endpoint=E.ENDPOINT_WITHDRAWN, status=state(S.TASK_COMPLETE)), E.ENDPOINT_DRAINED),
        (task(endpoint=E.ENDPOINT_DRAINED, status=state(S.TASK_FAILED)), E.ENDPOINT_DRAINED),
    ],
)
def test_transitions(now: model.Task, after: EndpointState) -> None:
    assert next_step(now, VIEW, NOW, (), Acks()).state == after


def withdrawn() -> model.Task:
    return task(
        endpoint=E.ENDPOINT_WITHDRAWN, endpoint_index=50, endpoint_since=NOW, desired_state=S.TASK_SHUTDOWN
    )


def test_withdrawing_waits_for_every_node_that_takes_part() -> None:
    acks = Acks()
    acks.record("a", 50)
    acks.record("b", 49)
    step = next_step(withdrawn(), VIEW, NOW + SECOND, ("a", "b", "gone"), acks)
    assert (step.state, step.wake) == (E.ENDPOINT_WITHDRAWN, NOW + 3 * SECOND)
    acks.record("b", 50)
    assert next_step(withdrawn(), VIEW, NOW + SECOND, ("a", "b", "gone"), acks).state == E.ENDPOINT_DRAINED


def test_withdrawing_waits_three_seconds_at_most() -> None:
    step = next_step(withdrawn(), VIEW, NOW + 3 * SECOND, ("a", "b"), Acks())
    assert (step.state, step.overdue) == (E.ENDPOINT_DRAINED, ("a", "b"))
    jumped = replace(withdrawn(), endpoint_since=NOW + 3600 * SECOND)
    assert next_step(jumped, VIEW, NOW, ("a",), Acks()).state == E.ENDPOINT_DRAINED


def test_the_loop_names_the_node_that_was_not_waited_for() -> None:
    acks = Acks()
    acks.record("a", 50)
    other = replace(task(), id="u", node_id="b")
    view = view_of([node("a"), node("b"), withdrawn(), other])
    endpoints = Endpoints(acks)
    endpoints.reset(view)
    plan = endpoints.reconcile(view, NOW)
    assert set(plan.changes) == {("Task", "u")}
    assert endpoints.deadline() == NOW + 3 * SECOND
    plan = endpoints.reconcile(view, NOW + 3 * SECOND)
    found = plan.changes["Task", "t"]
    assert isinstance(found, model.Task)
    assert (found.endpoint, found.endpoint_index) == (E.ENDPOINT_DRAINED, THIS_INDEX)
    assert "did not wait longer than 3 s for the acknowledgement of b" in plan.sentence()


def test_an_acknowledgement_wakes_those_that_wait() -> None:
    acks = Acks()
    view = view_of([node("a"), withdrawn()])
    endpoints = Endpoints(acks)
    endpoints.reset(view)
    assert endpoints.reconcile(view, NOW).changes == {}
    assert not endpoints.pending(NOW)
    acks.record("a", 51)
    endpoints.acknowledged("a")
    assert endpoints.pending(NOW)
    assert endpoints.reconcile(view, NOW).changes
