"""What a leader makes of what it hears from one follower."""

import pytest

from manager.raft.core.confchange import restore
from manager.raft.core.inflights import Inflights
from manager.raft.core.messages import ConfChangeSingle, ConfChangeType, ConfState
from manager.raft.core.progress import Progress, ProgressState, ProgressTracker, describe_progress
from manager.raft.core.quorum import VoteResult

PROBE, REPLICATE, SNAPSHOT = ProgressState


def progress(state=PROBE, match=3, next_=5, pending=0, *, paused=False) -> Progress:
    made = Progress(match, next_, Inflights(2))
    made.state = state
    made.pending_snapshot = pending
    made.flow_paused = paused
    return made


@pytest.mark.parametrize(
    ("state", "match", "next_", "rejected", "hint", "taken", "after"),
    [
        (REPLICATE, 5, 10, 5, 5, False, 10),  # old
        (REPLICATE, 5, 10, 4, 4, False, 10),
        (REPLICATE, 5, 10, 9, 9, True, 6),
        (PROBE, 0, 0, 0, 0, False, 0),
        (PROBE, 0, 10, 5, 5, False, 10),  # old
        (PROBE, 0, 10, 9, 9, True, 9),
        (PROBE, 0, 2, 1, 1, True, 1),
        (PROBE, 0, 1, 0, 0, True, 1),
        (PROBE, 0, 10, 9, 2, True, 3),
        (PROBE, 0, 10, 9, 0, True, 1),
        (PROBE, 6, 10, 9, 0, True, 7),  # never below what it has
    ],
)
def test_refusals(state, match, next_, rejected, hint, taken, after):
    made = progress(state, match, next_)
    assert made.maybe_decrease(rejected, hint) is taken
    assert (made.match, made.next) == (match, after)


@pytest.mark.parametrize(
    ("index", "taken", "match", "next_"),
    [(2, False, 3, 5), (3, False, 3, 5), (4, True, 4, 5), (6, True, 6, 7)],
)
def test_answers(index, taken, match, next_):
    made = progress(paused=True)
    assert made.maybe_update(index) is taken
    assert (made.match, made.next, made.paused) == (match, next_, not taken)


def test_ways_between_states():
    made = progress(REPLICATE, 1, 5)
    made.become_probe()
    assert (made.state, made.next) == (PROBE, 2)
    made = progress(SNAPSHOT, 1, 5, 10)
    made.become_probe()
    assert (made.state, made.next, made.pending_snapshot) == (PROBE, 11, 0)
    made = progress(SNAPSHOT, 12, 13, 10)
    made.become_probe()
    assert made.next == 13
    made = progress(PROBE, 1, 5)
    made.become_replicate()
    assert (made.state, made.next) == (REPLICATE, 2)
    made.become_snapshot(10)
    assert (made.state, made.next, made.pending_snapshot, made.sent_commit) == (SNAPSHOT, 11, 10, 10)


@pytest.mark.parametrize(
    ("state", "flow", "paused"),
    [
        (PROBE, False, False),
        (PROBE, True, True),
        (REPLICATE, False, False),
        (REPLICATE, True, True),
        (SNAPSHOT, False, True),
    ],
)
def test_pauses(state, flow, paused):
    assert progress(state, paused=flow).paused is paused


def test_sending():
    made = progress(REPLICATE, 3, 4)
    made.sent_entries(2, 10)
    assert (made.next, made.paused) == (6, False)
    made.sent_entries(1, 10)
    assert (made.next, made.paused) == (7, True)
    made.flow_paused = False
    made.sent_entries(0, 0)  # into a full window
    assert (made.next, made.paused) == (7, True)
    made = progress(PROBE, 3, 4)
    made.sent_entries(0, 0)
    assert not made.paused
    made.sent_entries(3, 10)
    assert (made.next, made.paused) == (4, True)


def test_commit_is_only_sent_if_it_tells_something():
    made = progress(REPLICATE, 3, 6)
    made.sent_commit = 3
    assert made.can_bump_commit(4)
    assert not made.can_bump_commit(3)
    made.sent_commit = 5  # it knows already that all it has is committed
    assert not made.can_bump_commit(9)
    assert made.maybe_decrease(5, 5)
    assert made.sent_commit == 3


def test_words():
    made = progress(REPLICATE, 1, 2)
    made.is_learner = True
    made.flow_paused = True
    made.inflights.add(1, 1)
    made.inflights.add(2, 1)
    assert str(made) == "StateReplicate match=1 next=2 learner paused inactive inflight=2[full]"
    made = progress(SNAPSHOT, 0, 8, 7)
    made.recent_active = True
    assert describe_progress({2: made, 1: made}) == "".join(
        f"{n}: StateSnapshot match=0 next=8 paused pendingSnap=7\n" for n in (1, 2)
    )


def tracker(**ids) -> ProgressTracker:
    made = ProgressTracker(10)
    made.switch(*restore(made, 5, ConfState(**ids)))
    return made


def test_who_decides():
    alone = tracker(voters=(1,), learners=(2,))
    assert alone.singleton()
    assert not tracker(voters=(1, 2)).singleton()
    assert not tracker(voters=(1,), voters_outgoing=(1, 2)).singleton()
    three = tracker(voters=(1, 2, 3), learners=(4,))
    assert three.ids == (1, 2, 3, 4)
    for id_, match in ((1, 9), (2, 4), (4, 9)):
        three.progress[id_].match = match
    assert three.committed() == 4
    three.record_vote(1, True)
    three.record_vote(1, False)  # only the first one counts
    three.record_vote(4, True)  # a learner's doesn't
    assert three.vote_result() == VoteResult.PENDING
    three.record_vote(3, True)
    assert three.vote_result() == VoteResult.WON
    three.reset_votes()
    assert three.vote_result() == VoteResult.PENDING
    for id_ in (2, 3):
        three.progress[id_].recent_active = False
    assert not three.quorum_active()
    three.progress[3].recent_active = True
    assert three.quorum_active()


def test_config_in_words():
    joint = tracker(voters=(1,), voters_outgoing=(1, 2), learners=(3,), learners_next=(2,), auto_leave=True)
    assert str(joint.config) == "voters=(1)&&(1 2) learners=(3) learners_next=(2) autoleave"


def test_a_change_single_is_a_value():
    assert ConfChangeSingle(ConfChangeType.ADD_NODE, 1) == ConfChangeSingle(ConfChangeType.ADD_NODE, 1)
