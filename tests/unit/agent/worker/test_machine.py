"""The task's tables: where each situation leads, and what can never happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.worker import machine
from agent.worker.machine import Action, Situation
from common.model import EndpointState, TaskState

S, E = TaskState, EndpointState
STATES = [s for s in TaskState if s not in (S.TASK_REMOVE,)]
DESIRED = [S.TASK_READY, S.TASK_RUNNING, S.TASK_COMPLETE, S.TASK_SHUTDOWN, S.TASK_REMOVE]
_situations = st.builds(
    Situation, st.sampled_from(STATES), st.sampled_from(DESIRED), st.sampled_from(list(EndpointState)),
    st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip


def situation(state: TaskState, desired: TaskState = S.TASK_RUNNING, **more: object) -> Situation:
    values: dict[str, object] = {"endpoint": E.ENDPOINT_NONE, "may_start": True, **more}
    return Situation(state, desired, **values)  # type: ignore[arg-type]


def test_the_way_to_running() -> None:
    state, built, seen = S.TASK_ASSIGNED, False, []
    while state < S.TASK_RUNNING:
        action = machine.next_action(situation(state, built=built))
        seen.append(action)
        built = built or action is Action.BUILD
        if outcome := machine.finished(action):
            state = outcome.state
    assert seen == [Action.ACCEPT, Action.BEGIN, Action.PREPARE, Action.LAUNCH, Action.BUILD, Action.START]


@given(_situations)
def test_every_situation_has_an_action_and_states_only_grow(now: Situation) -> None:
    action = machine.next_action(now)
    outcome = machine.finished(action)
    if outcome and action is not Action.REVIVE:
        assert outcome.state > now.state
    if machine.is_terminal(now.state):
        assert action in (Action.WAIT, Action.RELEASE, Action.REMOVE, Action.FORGET)
    if action is Action.STOP:
        assert now.desired >= S.TASK_SHUTDOWN
        assert now.lost or not (
            now.state == S.TASK_RUNNING and now.endpoint in (E.ENDPOINT_SERVING, E.ENDPOINT_WITHDRAWN)
        )
    if action is Action.REMOVE:
        assert now.desired == S.TASK_REMOVE and not now.removed
    if action is Action.FORGET:
        assert now.gone and now.removed


@pytest.mark.parametrize(
    ("endpoint", "action"),
    [
        (E.ENDPOINT_NONE, Action.STOP),
        (E.ENDPOINT_SERVING, Action.WATCH),
        (E.ENDPOINT_WITHDRAWN, Action.WATCH),
        (E.ENDPOINT_DRAINED, Action.STOP),
    ],
)
@pytest.mark.parametrize("desired", [S.TASK_SHUTDOWN, S.TASK_REMOVE])
def test_a_running_task_stops_only_when_its_endpoint_is_out(
    endpoint: EndpointState, action: Action, desired: TaskState
) -> None:
    assert machine.next_action(situation(S.TASK_RUNNING, desired, endpoint=endpoint)) is action


def test_ready_waits_and_starting_waits_for_peers() -> None:
    assert machine.next_action(situation(S.TASK_READY, S.TASK_READY)) is Action.WAIT
    assert machine.next_action(situation(S.TASK_STARTING, built=True, may_start=False)) is Action.AWAIT_PEERS
    assert machine.next_action(situation(S.TASK_STARTING, built=True)) is Action.START
    assert machine.next_action(situation(S.TASK_RUNNING, lost=True)) is Action.REVIVE


def test_failures() -> None:
    assert machine.failed(S.TASK_PREPARING, "preparing") == machine.Outcome(S.TASK_REJECTED, "preparing")
    assert machine.failed(S.TASK_STARTING, "starting") == machine.Outcome(S.TASK_FAILED, "starting")
    assert machine.failed(S.TASK_RUNNING, "started") == machine.Outcome(S.TASK_FAILED, "started")
    assert machine.exit_error(137) == "task: non-zero exit (137)"
