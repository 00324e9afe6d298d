"""Majorities, single and joint, against what they mean."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.raft.core.messages import NO_LIMIT
from manager.raft.core.quorum import JointConfig, MajorityConfig, VoteResult

VOTERS = st.frozensets(st.integers(1, 8), max_size=7)
ACKED = st.dictionaries(st.integers(1, 8), st.integers(0, 20))
VOTES = st.dictionaries(st.integers(1, 8), st.booleans())


def by_hand(voters: frozenset[int], acked: dict[int, int]) -> int:
    """The highest index such that more than half are there."""
    if not voters:
        return NO_LIMIT
    quorums = combinations(voters, len(voters) // 2 + 1)
    return max(min(acked.get(id_, 0) for id_ in quorum) for quorum in quorums)


@given(VOTERS, ACKED)
def test_committed_is_what_some_majority_holds(voters, acked):
    assert MajorityConfig(voters).committed_index(acked.get) == by_hand(voters, acked)


@given(VOTERS, VOTERS, ACKED)
def test_joint_commits_the_lesser(one, other, acked):
    joint = JointConfig(one, other)
    assert joint.committed_index(acked.get) == min(by_hand(one, acked), by_hand(other, acked))
    assert joint.committed_index(acked.get) == JointConfig(other, one).committed_index(acked.get)
    assert JointConfig(one, one).committed_index(acked.get) == by_hand(one, acked)


@given(VOTERS, VOTES)
def test_a_vote_is_decided_when_nothing_can_change_it(voters, votes):
    open_ = [id_ for id_ in voters if id_ not in votes]
    granted = sum(votes.get(id_, False) for id_ in voters)
    wins = {2 * (granted + more) > len(voters) for more in range(len(open_) + 1)} if voters else {True}
    expected = VoteResult.PENDING if len(wins) == 2 else VoteResult.WON if wins == {True} else VoteResult.LOST
    assert MajorityConfig(voters).vote_result(votes) == expected


@given(VOTERS, VOTERS, VOTES)
def test_a_joint_vote_needs_both(one, other, votes):
    results = {MajorityConfig(one).vote_result(votes), MajorityConfig(other).vote_result(votes)}
    joint = JointConfig(one, other).vote_result(votes)
    assert (joint == VoteResult.WON) == (results == {VoteResult.WON})
    assert (joint == VoteResult.LOST) == (VoteResult.LOST in results)


def test_words():
    assert str(MajorityConfig({3, 1, 2})) == "(1 2 3)"
    assert str(JointConfig({1, 2}, {1})) == "(1 2)&&(1)"
    assert str(JointConfig({2, 1})) == "(1 2)"
    assert JointConfig({1}, {2}).ids() == {1, 2}
    assert JointConfig({1}, {2}) == JointConfig({1}, {2})
    assert JointConfig({1}) != JointConfig({1}, {2})
    assert hash(JointConfig({1})) == hash(JointConfig({1}))
    assert JointConfig() != ()


@pytest.mark.parametrize(
    ("voters", "acked", "picture"),
    [
        ({}, {}, "<empty majority quorum>"),
        ({1}, {}, "     idx\n?      0    (id=1)\n"),
        (
            {1, 2, 3},
            {1: 100, 2: 101, 3: 99},
            "       idx\nx>     100    (id=1)\nxx>    101    (id=2)\n>       99    (id=3)\n",
        ),
    ],
)
def test_pictures(voters, acked, picture):
    assert MajorityConfig(voters).describe(acked.get) == picture
    assert JointConfig(voters).describe(acked.get) == picture
