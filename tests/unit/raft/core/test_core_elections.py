"""Who becomes leader: the ways of an election, told message by message."""

import pytest
from core_cluster import Cluster, led, lines, v2

from manager.raft.core.messages import TRANSFER, Message, MessageType, Role


def three(**settings) -> Cluster:
    cluster = Cluster(**settings)
    cluster.add(3, (1, 2, 3), index=2)
    return cluster


def test_a_single_voter_leads_at_once():
    cluster = Cluster()
    cluster.add(1, (1,), index=3)
    cluster[1].campaign()
    assert cluster.settle() == lines(
        """
        1: candidate lead=0 | t1 v1 c3 sync
        1: leader lead=1 | sync | save 1/4
        1: t1 v1 c4 | apply 1/4
        """
    )


def test_a_campaign():
    cluster = three()
    cluster[1].campaign()
    assert cluster.settle() == lines(
        """
        1: candidate lead=0 | t1 v1 c2 sync
          1>2 VOTE t1 @1/2
          1>3 VOTE t1 @1/2
        2: t1 v1 c2 sync
          2>1 VOTE_RESP t1 @0/0
        3: t1 v1 c2 sync
          3>1 VOTE_RESP t1 @0/0
        1: leader lead=1 | sync | save 1/3
          1>2 APP t1 @1/2 [1/3] c2
          1>3 APP t1 @1/2 [1/3] c2
        2: follower lead=1 | sync | save 1/3
          2>1 APP_RESP t1 @0/3
        3: follower lead=1 | sync | save 1/3
          3>1 APP_RESP t1 @0/3
        1: t1 v1 c3 | apply 1/3
          1>2 APP t1 @1/3 c3
          1>3 APP t1 @1/3 c3
        2: t1 v1 c3 | apply 1/3
          2>1 APP_RESP t1 @0/3
        3: t1 v1 c3 | apply 1/3
          3>1 APP_RESP t1 @0/3
        """
    )


def test_no_vote_counts_before_it_is_stable():
    cluster = Cluster()
    cluster.add(1, (1,), index=2)
    cluster[1].campaign()
    cluster[1].ready()
    assert cluster[1].status().soft_state.state == Role.CANDIDATE
    cluster[1].advance()
    assert cluster[1].status().soft_state.state == Role.LEADER


def test_a_candidate_whom_a_majority_refuses_gives_up():
    cluster = led(3)
    cluster[1].propose(b"x")
    cluster.quiet(1, 2)
    cluster.messages.clear()
    cluster[3].campaign()
    assert cluster.settle(3, 1, 2) == lines(
        """
        3: candidate lead=0 | t2 v3 c3 sync
          3>1 VOTE t2 @1/3
          3>2 VOTE t2 @1/3
        1: follower lead=0 | t2 v0 c4 sync
          1>3 VOTE_RESP t2 @0/0 refused
        2: follower lead=0 | t2 v0 c4 sync
          2>3 VOTE_RESP t2 @0/0 refused
        3: follower lead=0
        """
    )


def test_a_learner_that_is_a_voter_without_knowing_it_votes():
    cluster = Cluster()
    cluster.add(3, (1, 2), (3,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    cluster[1].propose_conf_change(v2("+3"))
    cluster.quiet(1, 2)
    cluster.messages.clear()
    cluster[2].campaign()
    assert cluster.settle(2, 3) == lines(
        """
        2: candidate lead=0 | t2 v2 c4 sync
          2>1 VOTE t2 @1/4
          2>3 VOTE t2 @1/4
        3: follower lead=0 | t2 v2 c3 sync
          3>2 VOTE_RESP t2 @0/0
        2: leader lead=2 | sync | save 2/5
          2>1 APP t2 @1/4 [2/5] c4
          2>3 APP t2 @1/4 [2/5] c4
        3: follower lead=2
          3>2 APP_RESP t2 @1/4 refused, try 3
        2:
          2>3 APP t2 @1/3 [1/4:(v2 +3) 2/5] c4
        3: t2 v2 c4 sync | save 1/4:(v2 +3) 2/5 | apply 1/4:(v2 +3)
          3>2 APP_RESP t2 @0/5
          3 in voters=(1 2 3)
        2: t2 v2 c5 | apply 2/5
          2>3 APP t2 @2/5 c5
        3: t2 v2 c5 | apply 2/5
          3>2 APP_RESP t2 @0/5
        """
    )


def test_a_learner_does_not_stand_for_election():
    cluster = Cluster()
    cluster.add(2, (1,), (2,), index=2)
    cluster[2].campaign()
    for _ in range(20):
        cluster[2].tick()
    assert not cluster[2].has_ready()


def test_nobody_stands_with_changes_of_membership_unapplied():
    cluster = led(3)
    cluster[1].propose_conf_change(v2("-3"))
    cluster.quiet(1)
    cluster.deliver(2)
    cluster.handle(2)
    cluster.deliver(1)
    cluster.handle(1)  # 1 knows that it is committed
    cluster.deliver(2)
    cluster[2].campaign()
    assert cluster[2].status().soft_state.state == Role.FOLLOWER
    cluster.quiet(2)
    cluster[2].campaign()
    assert cluster[2].status().soft_state.state == Role.CANDIDATE


def test_pre_vote_asks_before_a_term_begins():
    cluster = three(pre_vote=True)
    cluster[1].campaign()
    assert cluster.settle()[:12] == lines(
        """
        1: pre_candidate lead=0
          1>2 PRE_VOTE t1 @1/2
          1>3 PRE_VOTE t1 @1/2
        2:
          2>1 PRE_VOTE_RESP t1 @0/0
        3:
          3>1 PRE_VOTE_RESP t1 @0/0
        1: candidate lead=0 | t1 v1 c2 sync
          1>2 VOTE t1 @1/2
          1>3 VOTE t1 @1/2
        2: t1 v1 c2 sync
          2>1 VOTE_RESP t1 @0/0
        """
    )


def test_pre_vote_of_one_that_is_behind_disturbs_nobody():
    cluster = led(3, pre_vote=True)
    cluster[1].propose(b"x")
    cluster.quiet(1, 2)
    cluster.messages.clear()
    cluster[3].campaign()
    assert cluster.settle(3, 1, 2) == lines(
        """
        3: pre_candidate lead=0
          3>1 PRE_VOTE t2 @1/3
          3>2 PRE_VOTE t2 @1/3
        1:
          1>3 PRE_VOTE_RESP t1 @0/0 refused
        2:
          2>3 PRE_VOTE_RESP t1 @0/0 refused
        3: follower lead=0
        """
    )


def test_who_hears_the_leader_ignores_others():
    cluster = led(3, pre_vote=True, check_quorum=True)
    cluster[2].campaign()
    assert cluster.settle() == lines(
        """
        2: pre_candidate lead=0
          2>1 PRE_VOTE t2 @1/3
          2>3 PRE_VOTE t2 @1/3
        """
    )
    cluster[3].set_randomized_election_timeout(5)
    for _ in range(3):
        cluster[3].tick()
    cluster[2].campaign()
    cluster.quiet(2, 3)
    assert cluster[2].status().soft_state.state == Role.LEADER


def test_check_quorum_ends_a_leader_that_hears_nobody():
    cluster = led(3, check_quorum=True)
    for _ in range(3):
        cluster[1].tick()
    assert cluster[1].status().soft_state.state == Role.LEADER
    cluster.messages.clear()
    cluster[1].ready()
    cluster[1].advance()
    for _ in range(3):
        cluster[1].tick()
    assert cluster.settle(1)[0] == "1: follower lead=0"


def test_a_deposed_leader_hears_of_the_newer_term():
    cluster = led(3, check_quorum=True)
    message = Message(MessageType.HEARTBEAT, to=2, from_=3, term=4)
    cluster[2].step(message)
    cluster.quiet(2)
    cluster.messages.clear()
    cluster[1].tick()
    assert cluster.settle(1, 2) == lines(
        """
        1:
          1>2 HEARTBEAT t1 @0/0 c3
          1>3 HEARTBEAT t1 @0/0 c3
        2:
          2>1 APP_RESP t4 @0/0
        1: follower lead=0 | t4 v0 c3 sync
        """
    )


def test_old_messages_are_ignored_without_check_quorum():
    cluster = led(3)
    cluster[2].step(Message(MessageType.HEARTBEAT, to=2, from_=3, term=4))
    cluster.quiet(2)
    cluster[2].step(Message(MessageType.HEARTBEAT, to=2, from_=1, term=1))
    assert not cluster[2].has_ready()
    cluster[2].step(Message(MessageType.PRE_VOTE, to=2, from_=1, term=2, index=9, log_term=9))
    assert cluster.settle(2) == ["2:", "  2>1 PRE_VOTE_RESP t4 @0/0 refused"]


def test_one_vote_in_a_term():
    cluster = three()
    ask = Message(MessageType.VOTE, to=1, from_=2, term=1, index=2, log_term=1)
    cluster[1].step(ask)
    cluster[1].step(ask)
    cluster[1].step(Message(MessageType.VOTE, to=1, from_=3, term=1, index=9, log_term=1))
    assert cluster.settle(1) == lines(
        """
        1: t1 v2 c2 sync
          1>2 VOTE_RESP t1 @0/0
          1>2 VOTE_RESP t1 @0/0
          1>3 VOTE_RESP t1 @0/0 refused
        """
    )


@pytest.mark.parametrize(
    ("log_term", "index", "granted"),
    [(1, 2, True), (1, 3, True), (2, 1, True), (1, 1, False), (0, 9, False)],
)
def test_only_a_log_as_good_as_the_own_gets_a_vote(log_term, index, granted):
    cluster = three()
    cluster[1].step(Message(MessageType.VOTE, to=1, from_=2, term=3, index=index, log_term=log_term))
    assert cluster[1].ready().messages[0].reject is not granted


def test_a_candidate_follows_who_has_won():
    for type_ in (MessageType.APP, MessageType.HEARTBEAT):
        cluster = three()
        cluster[1].campaign()
        cluster.quiet(1)
        cluster[1].step(Message(type_, to=1, from_=3, term=1, index=2, log_term=1))
        assert cluster[1].status().soft_state.lead == 3
        assert cluster[1].status().hard_state.vote == 1


def test_an_election_after_the_timeout():
    draws = []

    def draw(n):
        draws.append(n)
        return 2

    cluster = Cluster(random=draw)
    cluster.add(3, (1, 2, 3), index=2)
    assert set(draws) == {3}
    for _ in range(4):
        cluster[1].tick()
    assert not cluster[1].has_ready()
    cluster[1].tick()
    assert cluster[1].status().soft_state.state == Role.CANDIDATE


def test_transfer_to_one_that_has_everything():
    cluster = led(3, pre_vote=True, check_quorum=True)
    cluster[1].transfer_leader(2)
    cluster.attempt(lambda: cluster[1].propose(b"x"))
    assert cluster.settle()[:8] == lines(
        f"""
        ! ProposalDropped
        1:
          1>2 TIMEOUT_NOW t1 @0/0
        2: candidate lead=0 | t2 v2 c3 sync
          2>1 VOTE t2 @1/3 '{TRANSFER.decode()}'
          2>3 VOTE t2 @1/3 '{TRANSFER.decode()}'
        1: follower lead=0 | t2 v2 c3 sync
          1>2 VOTE_RESP t2 @0/0
        """
    )
    assert cluster.roles() == ["1 follower t2 lead=2", "2 leader t2 lead=2", "3 follower t2 lead=2"]


def test_transfer_waits_until_the_other_has_everything():
    cluster = led(3)
    cluster[1].propose(b"x")
    cluster[1].transfer_leader(3)
    assert cluster.settle(1, 3)[:8] == lines(
        """
        1: sync | save 1/4:x
          1>2 APP t1 @1/3 [1/4:x] c3
          1>3 APP t1 @1/3 [1/4:x] c3
          1>3 APP t1 @1/4 c3
        3: sync | save 1/4:x
          3>1 APP_RESP t1 @0/4
          3>1 APP_RESP t1 @0/4
        1: t1 v1 c4 | apply 1/4:x
        """
    )
    cluster.quiet()
    assert cluster[3].status().soft_state.state == Role.LEADER


def test_transfer_that_takes_too_long_is_given_up():
    cluster = led(3)
    cluster[1].transfer_leader(2)
    assert cluster[1].status().lead_transferee == 2
    cluster[1].transfer_leader(3)
    assert cluster[1].status().lead_transferee == 3
    cluster[1].transfer_leader(1)
    assert cluster[1].status().lead_transferee == 0
    cluster[1].transfer_leader(2)
    for _ in range(3):
        cluster[1].tick()
    assert cluster[1].status().lead_transferee == 0
    cluster[1].propose(b"x")


def test_transfer_asked_of_a_follower_goes_to_the_leader():
    cluster = led(3)
    cluster[2].transfer_leader(3)
    assert cluster.settle()[:4] == lines(
        """
        2:
          3>1 TRANSFER_LEADER t1 @0/0
        1:
          1>3 TIMEOUT_NOW t1 @0/0
        """
    )
    assert cluster[3].status().soft_state.state == Role.LEADER


def test_a_learner_gets_no_leadership():
    cluster = Cluster()
    cluster.add(2, (1,), (2,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    cluster[1].transfer_leader(2)
    assert cluster[1].status().lead_transferee == 0


def test_forgetting_a_leader_lets_others_win():
    cluster = Cluster(pre_vote=True, check_quorum=True)
    cluster.add(4, (1, 2, 3), (4,), index=10)
    cluster[1].campaign()
    cluster.quiet()
    for id_ in (1, 2, 4):
        cluster[id_].forget_leader()
    assert cluster.settle() == ["2: follower lead=0", "4: follower lead=0"]
    cluster[3].campaign()
    cluster.quiet(2, 3)
    assert cluster[3].status().soft_state.state == Role.LEADER
    cluster.quiet()
    cluster[2].forget_leader()
    cluster[3].tick()
    cluster.quiet()
    assert [role.split()[-1] for role in cluster.roles()] == ["lead=3"] * 4
