"""What the roles loop plans: one step at a time, in the right order, never below a quorum."""

from dataclasses import replace

import pytest
from agreement import node
from hypothesis import given
from hypothesis import strategies as st

from common import errors, model
from manager import roles
from manager.raft.consensus import MemberStatus
from manager.store.tables import view_of

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
REACHABLE, UNREACHABLE = model.Reachability.REACHABLE, model.Reachability.UNREACHABLE


def member(
    node_id: str, number: int, voter: bool = True, up: bool = True, lead: bool = False
) -> MemberStatus:
    return MemberStatus(model.RaftMember(number, node_id, f"{node_id}:2377"), voter, lead, up)


def status(node_id: str, number: int, up: bool = True) -> model.ManagerStatus:
    return model.ManagerStatus(False, REACHABLE if up else UNREACHABLE, f"{node_id}:2377", number)


def settled(*names: str) -> tuple[list[model.Node], list[MemberStatus]]:
    """Managers that are what they should be; the first leads."""
    nodes = [node(n, status=status(n, i)) for i, n in enumerate(names, 1)]
    return nodes, [member(n, i, lead=i == 1) for i, n in enumerate(names, 1)]


def test_nothing_to_do() -> None:
    nodes, members = settled("a", "b", "c")
    assert roles.plan(view_of([*nodes, node("w", WORKER)]), members, "a") is None


def test_a_promoted_node_gets_the_role_first_and_its_status_as_a_voter() -> None:
    nodes, members = settled("a")
    asked = node("b", MANAGER, WORKER)
    step = roles.plan(view_of([*nodes, asked]), members, "a")
    assert isinstance(step, roles.Write)
    assert step.after == replace(asked, role=MANAGER)
    learner = member("b", 2, voter=False)
    assert roles.plan(view_of([*nodes, step.after]), [*members, learner], "a") is None
    step = roles.plan(view_of([*nodes, step.after]), [*members, member("b", 2)], "a")
    assert isinstance(step, roles.Write)
    assert step.after.manager_status == status("b", 2)


def test_a_demoted_manager_leaves_the_agreement_before_its_role_changes() -> None:
    nodes, members = settled("a", "b", "c")
    nodes[1] = replace(nodes[1], spec=model.NodeSpec(role=WORKER))
    assert roles.plan(view_of(nodes), members, "a") == roles.Remove(
        "b", "manager b is to be a worker: it leaves the agreement"
    )
    step = roles.plan(view_of(nodes), [members[0], members[2]], "a")
    assert isinstance(step, roles.Write)
    assert (step.after.role, step.after.manager_status) == (WORKER, None)


def test_a_demoted_leader_hands_on_to_one_that_stays() -> None:
    nodes, members = settled("a", "b", "c")
    nodes[0] = replace(nodes[0], spec=model.NodeSpec(role=WORKER))
    step = roles.plan(view_of(nodes), members, "a")
    assert isinstance(step, roles.Transfer)
    assert step.to == ""
    nodes[1] = replace(nodes[1], spec=model.NodeSpec(role=WORKER))
    step = roles.plan(view_of(nodes), members, "a")
    assert isinstance(step, roles.Transfer)
    assert step.to == "c"


def test_a_leader_without_an_heir_stays() -> None:
    nodes, members = settled("a", "b")
    nodes[0] = replace(nodes[0], spec=model.NodeSpec(role=WORKER))
    nodes[1] = replace(nodes[1], manager_status=status("b", 2, up=False))
    assert roles.plan(view_of(nodes), [members[0], member("b", 2, up=False)], "a") is None


def test_nobody_goes_where_no_quorum_would_be_left() -> None:
    nodes, members = settled("a", "b", "c")
    nodes[1] = replace(nodes[1], spec=model.NodeSpec(role=WORKER))
    nodes[2] = replace(nodes[2], manager_status=status("c", 3, up=False))
    assert roles.plan(view_of(nodes), [*members[:2], member("c", 3, up=False)], "a") is None


def test_a_node_that_is_gone_leaves_the_agreement() -> None:
    nodes, members = settled("a", "b")
    assert roles.plan(view_of(nodes[:1]), members, "a") == roles.Remove(
        "b", "manager b was removed from the swarm: it leaves the agreement"
    )


def test_reachability_address_and_raft_id_are_written() -> None:
    nodes, members = settled("a", "b", "c")
    for other, said in (
        (member("b", 2, up=False), "manager b does not answer"),
        (replace(members[1], member=model.RaftMember(2, "b", "b:7")), "manager b is at b:7 now"),
        (member("b", 9), "manager b takes part, at b:2377"),
    ):
        step = roles.plan(view_of(nodes), [members[0], other, members[2]], "a")
        assert isinstance(step, roles.Write)
        assert step.why == said
        assert step.after.manager_status is not None
        assert step.after.manager_status.raft_id == other.member.raft_id
    silent = replace(nodes[1], manager_status=status("b", 2, up=False))
    step = roles.plan(view_of([nodes[0], silent, nodes[2]]), members, "a")
    assert isinstance(step, roles.Write)
    assert step.why == "manager b answers"


def test_a_manager_that_left_shows_none() -> None:
    nodes, members = settled("a", "b")
    step = roles.plan(view_of(nodes), members[:1], "a")
    assert isinstance(step, roles.Write)
    assert (step.why, step.after.manager_status) == ("manager b has left the agreement", None)
    assert step.after.spec.role is step.after.role is MANAGER


# ---- what Control asks


def test_the_last_manager_stays() -> None:
    nodes, members = settled("a")
    with pytest.raises(errors.FailedPrecondition, match="last manager of the swarm"):
        roles.demotable(view_of(nodes), members, "a")
    more = [*nodes, node("b", MANAGER, MANAGER)]
    with pytest.raises(errors.FailedPrecondition, match="last manager of the swarm"):
        roles.demotable(view_of(more), [*members, member("b", 2, voter=False)], "a")
    roles.demotable(view_of(more), [*members, member("b", 2, voter=False)], "b")
    roles.demotable(view_of(more), members, "b")


def test_a_demotion_that_costs_the_quorum_is_refused() -> None:
    nodes, members = settled("a", "b", "c")
    members[2] = member("c", 3, up=False)
    with pytest.raises(errors.FailedPrecondition, match="would result in a loss of quorum"):
        roles.demotable(view_of(nodes), members, "b")
    roles.demotable(view_of(nodes), members, "c")
    nodes[2] = replace(nodes[2], spec=model.NodeSpec(role=WORKER))
    roles.demotable(view_of(nodes), members, "b")


# ---- any state


@st.composite
def states(draw: st.DrawFn) -> tuple[list[model.Node], list[MemberStatus]]:
    names = [f"n{i}" for i in range(draw(st.integers(1, 6)))]
    nodes, members = [], []
    for number, name in enumerate(names, 1):
        leads = number == 1
        if leads or draw(st.booleans()):
            voter = leads or draw(st.booleans())
            members.append(member(name, number, voter, leads or draw(st.booleans()), leads))
        if draw(st.integers(0, 9)):
            kinds = st.sampled_from((MANAGER, WORKER))
            known = status(name, number) if draw(st.booleans()) else None
            nodes.append(node(name, draw(kinds), draw(kinds), known))
    return nodes, members


@given(states())
def test_steps_come_to_an_end_and_keep_a_quorum(state: tuple[list[model.Node], list[MemberStatus]]) -> None:
    nodes, members = state
    had_quorum = roles.keeps_quorum(members, ())
    leader = "n0"
    for _ in range(4 * len(nodes) + 2 * len(members) + 2):
        step = roles.plan(view_of(nodes), members, leader)
        if step is None:
            break
        if isinstance(step, roles.Write):
            before = next(n for n in nodes if n.id == step.after.id)
            assert before == step.before != step.after
            if before.role is MANAGER and step.after.role is WORKER:
                assert roles.member_of(members, before.id) is None
            nodes[nodes.index(before)] = step.after
        elif isinstance(step, roles.Remove):
            assert step.node_id != leader
            members = [m for m in members if m.member.node_id != step.node_id]
            assert not had_quorum or roles.keeps_quorum(members, ())
        else:
            heirs = [m.member.node_id for m in members if m.voter and m.reachable]
            leader = step.to or next(h for h in heirs if h != leader)
            assert leader in heirs
            members = [replace(m, leader=m.member.node_id == leader) for m in members]
    else:
        raise AssertionError("it never ends")
    assert leader in [m.member.node_id for m in members]
