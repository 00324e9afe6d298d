"""What gossip's verdicts take out of the balancers, and what they never may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gossip.packing import pack
from agent.state import NodeState
from agent.verdicts import (
    LAPSE,
    MAX_ENDED,
    MAX_STATE,
    Verdicts,
    ended_message,
    ended_state,
    ended_task,
    ended_tasks,
    narrowed,
    offering,
)
from common import model
from common.model import EndpointState

SERVING, WITHDRAWN = EndpointState.ENDPOINT_SERVING, EndpointState.ENDPOINT_WITHDRAWN


def endpoint(
    task: str, node: str, service: str = "web", network: str = "net", state: EndpointState = SERVING
) -> model.EndpointRecord:
    return model.EndpointRecord(task, network, f"10.0.0.{task}", node, service, task, (), state)


def state_of(*endpoints: model.EndpointRecord) -> NodeState:
    return NodeState("me", endpoints={(e.task_id, e.network_id): e for e in endpoints})


def offered(state: NodeState) -> list[str]:
    return sorted(e.task_id for e in state.endpoints.values() if e.state is SERVING)


THREE = state_of(endpoint("1", "a"), endpoint("2", "b"), endpoint("3", "c"))


def test_without_verdicts_nothing_changes() -> None:
    assert narrowed(THREE, (), ()) is THREE
    assert narrowed(THREE, {"z"}, {"9"}) is THREE


@pytest.mark.parametrize(
    ("nodes", "tasks", "left"),
    [
        ({"a"}, (), ["2", "3"]),
        ({"a", "b"}, (), ["3"]),
        ((), {"1"}, ["2", "3"]),
        ({"a"}, {"2"}, ["3"]),
        (
            {"a", "b", "c"},
            (),
            ["1", "2", "3"],
        ),  # nobody is left: it is gossip that is wrong, or it makes no difference
        ({"b", "c"}, {"1"}, ["2", "3"]),  # what has ended has ended
        ({"a"}, {"1", "2", "3"}, ["1", "2", "3"]),
    ],
)
def test_who_stays_on_offer(nodes: set[str], tasks: set[str], left: list[str]) -> None:
    after = narrowed(THREE, nodes, tasks)
    assert offered(after) == left
    assert after.endpoints.keys() == THREE.endpoints.keys()  # they stay reachable
    assert {e.state for e in after.endpoints.values()} <= {SERVING, WITHDRAWN}


def test_who_is_lost() -> None:
    """Those that are left out, and those of the same nodes that managers offer no more; never one that stays on offer."""
    state = state_of(*THREE.endpoints.values(), endpoint("4", "a", state=EndpointState.ENDPOINT_DRAINED))
    assert set(narrowed(state, {"a"}, {"2"}).lost) == {"1", "2", "4"}
    assert set(narrowed(state, {"a", "b", "c"}, ()).lost) == {"4"}
    assert set(
        narrowed(state_of(endpoint("5", "a", state=EndpointState.ENDPOINT_DRAINED)), {"a"}, ()).lost
    ) == {"5"}


def test_each_service_and_network_by_itself() -> None:
    both = (endpoint("1", "a"), endpoint("1", "a", network="other"))
    state = state_of(*both, endpoint("2", "b"), endpoint("4", "a", service="db"))
    after = narrowed(state, {"a"}, ())
    assert [key for key, e in after.endpoints.items() if e.state is SERVING] == [
        ("1", "other"), ("2", "net"), ("4", "net"),
    ]  # fmt: skip


_names = st.sampled_from("abcd")


@given(
    st.lists(st.tuples(_names, st.sampled_from(["web", "db"]), st.sampled_from(list(EndpointState)))),
    st.sets(_names),
    st.sets(st.integers(0, 9)),
)
def test_never_wider_and_never_empty(
    made: list[tuple[str, str, EndpointState]], nodes: set[str], tasks: set[int]
) -> None:
    state = state_of(*(endpoint(str(n), node, service, state=s) for n, (node, service, s) in enumerate(made)))
    after = narrowed(state, nodes, {str(task) for task in tasks})
    assert set(offered(after)) <= set(offered(state))
    for service in ("web", "db"):
        before = [e for e in state.endpoints.values() if e.service_id == service and e.state is SERVING]
        left = [e for e in after.endpoints.values() if e.service_id == service and e.state is SERVING]
        assert bool(left) == bool(before)


def test_a_contradicted_verdict_lapses_until_gossip_changes_its_mind() -> None:
    verdicts = Verdicts()
    verdicts.gone("a", 100.0)
    verdicts.gone("a", 120.0)  # the same one
    on_offer = offering(THREE)
    assert verdicts.deadline(50.0, on_offer) == 100.0 + LAPSE
    assert verdicts.lapse(129.9, 50.0, on_offer) == []
    assert verdicts.lapse(130.0, 50.0, on_offer) == ["a"]
    assert (verdicts.nodes, verdicts.unseen) == (frozenset(), model.Unseen(("a",)))
    assert verdicts.deadline(50.0, on_offer) is None
    verdicts.gone("a", 140.0)
    assert verdicts.nodes == frozenset()
    verdicts.back("a")
    verdicts.gone("a", 200.0)
    assert verdicts.nodes == {"a"}


def test_who_contradicts() -> None:
    verdicts = Verdicts()
    verdicts.gone("a", 100.0)
    on_offer = offering(THREE)
    assert verdicts.deadline(None, on_offer) is None  # no session: nobody
    assert verdicts.lapse(1000.0, None, on_offer) == []
    assert (
        verdicts.deadline(1000.0, on_offer) == 1000.0 + LAPSE
    )  # managers that have just been found may not know yet
    assert verdicts.deadline(50.0, frozenset("bc")) is None  # they say the same
    verdicts.restart()
    assert verdicts.nodes == frozenset()


def test_a_good_bye_is_told_apart_from_a_death() -> None:
    verdicts = Verdicts()
    verdicts.gone("a", 1.0, left=True)
    verdicts.gone("b", 1.0)
    assert verdicts.unseen == model.Unseen(("b",), ("a",))
    assert verdicts.nodes == {"a", "b"}
    verdicts.back("a")
    verdicts.gone("a", 2.0)
    assert verdicts.unseen == model.Unseen(("a", "b"))
    verdicts.restart()
    assert verdicts.unseen == model.Unseen()


def test_what_has_ended_is_told_once_and_remembered_for_long() -> None:
    verdicts = Verdicts()
    assert verdicts.ended("t0")
    assert not verdicts.ended("t0")
    verdicts.restart()
    assert verdicts.tasks == {"t0"}
    for number in range(MAX_ENDED):
        verdicts.ended(f"x{number}")
    assert len(verdicts.tasks) == MAX_ENDED
    assert "t0" not in verdicts.tasks


def test_messages() -> None:
    assert ended_task(ended_message("t" * 25)) == "t" * 25
    for other in (
        b"",
        b"\xff",
        pack({"new": "word"}),
        pack({"ended": 7}),
        pack({"ended": "x" * 100}),
        pack([1]),
    ):
        assert ended_task(other) is None


def test_states() -> None:
    assert ended_tasks(ended_state({"t2", "t1"})) == ["t1", "t2"]
    assert ended_state(()) == b""
    assert len(ended_tasks(ended_state([f"t{n}" for n in range(MAX_STATE + 1)]))) == MAX_STATE
    for other in (b"", b"\xff", pack({"all_ended": "t1"}), ended_message("t1")):
        assert ended_tasks(other) == []
    assert ended_tasks(pack({"all_ended": [7, "x" * 100, "t1"]})) == ["t1"]


def test_what_managers_know_too_needs_no_telling() -> None:
    verdicts = Verdicts()
    state = state_of(endpoint("t1", "n1"), endpoint("t2", "n2"))
    for task_id in ("t1", "elsewhere"):
        verdicts.ended(task_id)
    assert verdicts.disputed(state) == {"t1"}
    assert verdicts.disputed(narrowed(state, (), {"t1"})) == frozenset()


@given(st.binary(max_size=100))
def test_any_message_is_a_task_or_nothing(data: bytes) -> None:
    found = ended_task(data)
    assert found is None or found
    assert all(ended_tasks(data))
