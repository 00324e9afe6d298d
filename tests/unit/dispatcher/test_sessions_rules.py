"""Who may open a session, who counts as Down, and what reports may change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common import errors, model
from common.model import NodeState, TaskState
from manager.dispatcher.admission import Present, admit
from manager.dispatcher.liveness import Liveness
from manager.dispatcher.registration import down_node, ready_node, with_status

S = TaskState
NODE = model.Node(
    id="n",
    description=model.NodeDescription(hostname="worker1", machine="aaaa"),
    status=model.NodeStatus(addr="10.0.0.1"),
)


def hello(machine: str = "aaaa", instance: bytes = b"1") -> model.Hello:
    return model.Hello(
        description=model.NodeDescription(hostname="worker1", machine=machine), instance=instance
    )


def present(address: str = "10.0.0.1", ago: float = 0.5, instance: bytes = b"0") -> Present:
    return Present(instance=instance, machine="aaaa", address=address, heard_ago=ago)


def test_the_same_machine_may_always_come_back() -> None:
    admit(NODE, hello(), "10.0.0.1", None, 2)
    admit(NODE, hello(), "10.0.0.9", None, 2)  # with a new address
    admit(NODE, hello(), "10.0.0.1", present(), 2)  # its agent restarted
    admit(NODE, hello(instance=b"0"), "10.0.0.9", present(), 2)  # the same process by another way
    admit(NODE, hello(), "10.0.0.9", present(ago=3.5), 2)  # the old one is silent


def test_another_machine_is_refused_whether_or_not_the_first_is_there() -> None:
    for known in (None, present()):
        with pytest.raises(errors.PermissionDenied) as caught:
            admit(NODE, hello("bbbb"), "10.0.0.2", known, 2)
        for word in ("worker1", "aaaa", "bbbb", "10.0.0.1", "10.0.0.2", "docker swarm leave"):
            assert word in caught.value.message


def test_a_perfect_copy_is_refused_while_the_first_is_heard() -> None:
    with pytest.raises(errors.AlreadyExists) as caught:
        admit(NODE, hello(), "10.0.0.2", present(), 2)
    assert "10.0.0.1" in caught.value.message
    assert "10.0.0.2" in caught.value.message


def test_a_removed_node_is_told_so() -> None:
    with pytest.raises(errors.PermissionDenied, match="removed from the swarm"):
        admit(None, hello(), "10.0.0.1", None, 2)


def test_three_missed_beats() -> None:
    liveness = Liveness()
    liveness.beat("a", 0.0, 2)
    assert liveness.next() == 6
    assert liveness.expired(5.9, 5.9, 2) == []
    assert liveness.expired(6.0, 6.0, 2) == ["a"]
    assert liveness.next() is None


def test_a_new_leader_gives_a_fresh_grace() -> None:
    liveness = Liveness()
    liveness.start(["a", "b"], 100.0, 2)
    liveness.beat("b", 101.0, 2)
    assert liveness.expired(111.9, 111.9, 2) == ["b"]
    assert liveness.expired(112.0, 112.0, 2) == ["a"]


def test_a_leader_that_slept_blames_nobody() -> None:
    liveness = Liveness()
    liveness.beat("a", 0.0, 2)
    assert liveness.expired(60.0, 6.0, 2) == []
    assert liveness.next() == 72
    assert liveness.expired(72.0, 72.0, 2) == ["a"]


def task(state: TaskState, **status: object) -> model.Task:
    return model.Task(id="t", node_id="n", status=model.TaskStatus(state=state, timestamp=1, **status))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "reported", "taken"),
    [
        (S.TASK_ASSIGNED, S.TASK_ACCEPTED, True),
        (S.TASK_RUNNING, S.TASK_STARTING, False),
        (S.TASK_RUNNING, S.TASK_FAILED, True),
        (S.TASK_FAILED, S.TASK_REJECTED, False),
        (S.TASK_ORPHANED, S.TASK_RUNNING, False),
        (S.TASK_RUNNING, S.TASK_REMOVE, False),
        (S.TASK_RUNNING, S.TASK_ORPHANED, False),
    ],
)
def test_states_only_grow(now: TaskState, reported: TaskState, taken: bool) -> None:
    status = model.TaskStatus(state=reported, timestamp=2)
    assert (with_status(task(now), "n", status) is not None) is taken


def test_reports_that_are_no_news_are_dropped() -> None:
    running = task(S.TASK_RUNNING)
    assert with_status(running, "n", replace(running.status, timestamp=9)) is None
    assert with_status(running, "n", replace(running.status, healthy=True)) is not None
    assert with_status(running, "other", replace(running.status, healthy=True)) is None
    assert with_status(None, "n", running.status) is None


def test_down_and_ready_again() -> None:
    gone = down_node(NODE, 77)
    assert (gone.status.state, gone.status.message, gone.down_since) == (
        NodeState.NODE_DOWN,
        "heartbeat failure",
        77,
    )
    back = ready_node(gone, hello(), "10.0.0.3")
    assert back.status == model.NodeStatus(state=NodeState.NODE_READY, addr="10.0.0.3")
    assert back.down_since == 0
    silent = ready_node(NODE, model.Hello(description=model.NodeDescription(hostname="w")), "10.0.0.3")
    assert silent.description.machine == "aaaa"
