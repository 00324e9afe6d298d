"""Which memberships can be reached, and how."""

import pytest
from core_cluster import singles
from hypothesis import given
from hypothesis import strategies as st

from manager.raft.core.confchange import Changer, check, restore
from manager.raft.core.errors import ConfChangeRefused
from manager.raft.core.messages import ConfChangeSingle, ConfChangeType, ConfState
from manager.raft.core.progress import ProgressTracker, TrackerConfig, describe_progress
from manager.raft.core.quorum import JointConfig


class World:
    """A membership that changes are applied to; the log grows by an entry each time."""

    def __init__(self) -> None:
        self.tracker = ProgressTracker(10)
        self.last = 0

    def run(self, step: str) -> str:
        how, _, changes = step.partition(" ")
        changer = Changer(self.tracker, self.last)
        self.last += 1
        try:
            if how == "simple":
                made = changer.simple(singles(changes))
            elif how == "leave":
                made = changer.leave_joint()
            else:
                made = changer.enter_joint(how == "auto", singles(changes))
        except ConfChangeRefused as exc:
            return str(exc)
        self.tracker.switch(*made)
        return str(self.tracker.config)


@pytest.mark.parametrize(
    "story",
    [
        # Begin with voters; learners alone can't be.
        [("simple l1", "removed all voters"), ("simple +1", "voters=(1)")],
        [
            ("simple +1", "voters=(1)"),
            ("simple +2", "voters=(1 2)"),
            ("simple l3", "voters=(1 2) learners=(3)"),
            ("simple l1", "voters=(2) learners=(1 3)"),
            ("simple +1", "voters=(1 2) learners=(3)"),
            ("simple -3", "voters=(1 2)"),
            ("simple -3", "voters=(1 2)"),
            ("simple ~9", "voters=(1 2)"),
            ("simple -1", "voters=(2)"),
            ("simple -2", "removed all voters"),
        ],
        [
            ("simple +1", "voters=(1)"),
            ("simple +2 +3", "more than one voter changed without entering joint config"),
            ("simple +2 l3 l4", "voters=(1 2) learners=(3 4)"),
            ("simple -2 +3", "more than one voter changed without entering joint config"),
            ("simple +0 -0", "voters=(1 2) learners=(3 4)"),
            ("simple -2 l2", "voters=(1) learners=(2 3 4)"),
        ],
        [
            ("simple", "removed all voters"),
            ("joint +1", "can't make a zero-voter config joint"),
            ("leave", "can't leave a non-joint config"),
            ("simple +1", "voters=(1)"),
            ("joint", "voters=(1)&&(1)"),
            ("joint +2", "config is already joint"),
            ("simple +2", "can't apply simple config change in joint config"),
            ("leave", "voters=(1)"),
            ("auto +2 +3", "voters=(1 2 3)&&(1) autoleave"),
            ("leave", "voters=(1 2 3)"),
            ("joint -1 -2 -3", "removed all voters"),
            ("joint l1 -2 +4 +5", "voters=(3 4 5)&&(1 2 3) learners_next=(1)"),
            ("leave", "voters=(3 4 5) learners=(1)"),
            ("joint l3 +1", "voters=(1 4 5)&&(3 4 5) learners_next=(3)"),
            ("leave", "voters=(1 4 5) learners=(3)"),
            ("joint l1 +1", "voters=(1 4 5)&&(1 4 5) learners=(3)"),
            ("leave", "voters=(1 4 5) learners=(3)"),
            ("joint l1 -1", "voters=(4 5)&&(1 4 5) learners=(3)"),
            ("leave", "voters=(4 5) learners=(3)"),
        ],
    ],
)
def test_stories(story):
    world = World()
    for step, expected in story:
        assert world.run(step) == expected


def test_progress_of_who_comes_and_goes():
    world = World()
    for step in ("simple +1", "simple +2", "simple l3", "joint -2 l1 +4"):
        world.run(step)
    assert describe_progress(world.tracker.progress) == (
        "1: StateProbe match=0 next=1\n"
        "2: StateProbe match=0 next=1\n"
        "3: StateProbe match=0 next=2 learner\n"
        "4: StateProbe match=0 next=3\n"
    )
    world.run("leave")
    assert describe_progress(world.tracker.progress) == (
        "1: StateProbe match=0 next=1 learner\n"
        "3: StateProbe match=0 next=2 learner\n"
        "4: StateProbe match=0 next=3\n"
    )


def test_a_change_that_is_refused_changes_nothing():
    world = World()
    world.run("simple +1")
    before = describe_progress(world.tracker.progress)
    world.run("simple l1")
    assert (str(world.tracker.config), describe_progress(world.tracker.progress)) == ("voters=(1)", before)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (TrackerConfig(JointConfig({9})), "no progress for 9"),
        (TrackerConfig(JointConfig({1}), learners_next=frozenset({2})), "not Voters"),
        (TrackerConfig(JointConfig({1}, {3}), learners_next=frozenset({3})), "already marked"),
        (TrackerConfig(JointConfig({1}, {3}), frozenset({3})), "Learners and Voters.1"),
        (TrackerConfig(JointConfig({1, 3}), frozenset({3})), "Learners and Voters.0"),
        (TrackerConfig(JointConfig({1}), frozenset({2})), "not marked as learner"),
        (TrackerConfig(JointConfig({1}), auto_leave=True), "AutoLeave"),
    ],
)
def test_contradictions_are_found(config, text):
    tracker = ProgressTracker(10)
    _, progress = restore(tracker, 1, ConfState(voters=(1, 2), learners=(3,)))
    with pytest.raises(ConfChangeRefused, match=text):
        check(config, progress)


@st.composite
def conf_states(draw) -> ConfState:
    ids = st.frozensets(st.integers(1, 9))
    voters = draw(ids.filter(bool))
    outgoing = draw(ids)
    learners = draw(ids) - voters - outgoing
    waiting = (draw(ids) & outgoing) - voters
    return ConfState(
        tuple(sorted(voters)),
        tuple(sorted(learners)),
        tuple(sorted(outgoing)),
        tuple(sorted(waiting)),
        bool(outgoing) and draw(st.booleans()),
    )


@given(conf_states())
def test_a_membership_is_restored_as_it_was(state):
    config, progress = restore(ProgressTracker(10), 7, state)
    assert config.conf_state() == state
    members = {*state.voters, *state.learners, *state.voters_outgoing}
    assert set(progress) == members
    assert {id_ for id_, pr in progress.items() if pr.is_learner} == set(state.learners)


CHANGES = st.lists(
    st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), st.integers(0, 5)), max_size=6
)


@given(st.lists(CHANGES, min_size=1, max_size=4))
def test_joint_leads_where_single_steps_lead(rounds):
    """Changes at once, or one by one: the same members at the end."""
    together, alone = ProgressTracker(10), ProgressTracker(10)
    for tracker in (together, alone):
        tracker.switch(*restore(tracker, 1, ConfState(voters=(1,))))
    for changes in rounds:
        try:
            made = Changer(together, 5).enter_joint(False, changes)
        except ConfChangeRefused:
            continue
        together.switch(*made)
        together.switch(*Changer(together, 5).leave_joint())
        # Additions first, so that there is always a voter; then exactly the changes, in order.
        target = together.config.conf_state()
        for voter in target.voters:
            alone.switch(*Changer(alone, 5).simple([ConfChangeSingle(ConfChangeType.ADD_NODE, voter)]))
        for id_ in set(alone.progress) - set(target.voters):
            alone.switch(*Changer(alone, 5).simple([ConfChangeSingle(ConfChangeType.REMOVE_NODE, id_)]))
        for id_ in target.learners:
            alone.switch(*Changer(alone, 5).simple([ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, id_)]))
        assert alone.config == together.config
        assert {k: v.is_learner for k, v in alone.progress.items()} == {
            k: v.is_learner for k, v in together.progress.items()
        }
