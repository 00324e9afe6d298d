"""Members come and go: one at a time, several at once, and the leader itself."""

import pytest
from core_cluster import Cluster, led, lines, v1, v2

from manager.raft.core.errors import ConfChangeRefused, ProposalDropped
from manager.raft.core.messages import ConfChangeTransition, ConfState, EntryType, Message, MessageType

IMPLICIT, EXPLICIT = ConfChangeTransition.JOINT_IMPLICIT, ConfChangeTransition.JOINT_EXPLICIT


def alone(**settings) -> Cluster:
    cluster = Cluster(**settings)
    cluster.add(1, (1,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    return cluster


@pytest.mark.parametrize("change", [v1("+2"), v2("+2")])
def test_a_new_voter_gets_a_snapshot(change):
    cluster = alone()
    cluster.add(1)
    cluster[1].propose_conf_change(change)
    shown = "v1 +2" if change == v1("+2") else "v2 +2"
    assert cluster.settle() == lines(
        f"""
        1: sync | save 1/4:({shown})
        1: t1 v1 c4 | apply 1/4:({shown})
          1 in voters=(1 2)
        1:
          1>2 APP t1 @1/3 [1/4:({shown})] c4
        2: follower lead=1 | t1 v0 c0 sync
          2>1 APP_RESP t1 @0/3 refused
        1:
          1>2 SNAP t1 @0/0 snapshot 1/4 of 1 2
        2: t1 v0 c4 | snapshot 1/4
          2>1 APP_RESP t1 @0/4
        """
    )
    assert cluster.progress(1) == ["1: StateReplicate match=4 next=5", "2: StateReplicate match=4 next=5"]


def test_a_learner_is_added_and_promoted():
    cluster = alone()
    cluster.add(1)
    cluster[1].propose_conf_change(v1("l2"))
    cluster.quiet()
    assert cluster.progress(1)[1] == "2: StateReplicate match=4 next=5 learner"
    cluster[1].propose(b"x")
    assert cluster.settle(1)[2] == "1: t1 v1 c5 | apply 1/5:x"  # without the learner
    cluster[1].propose_conf_change(v1("+2"))
    cluster.quiet()
    assert cluster[2].status().config.conf_state() == ConfState(voters=(1, 2))


def test_the_leader_removes_itself():
    cluster = led(3)
    cluster[1].propose_conf_change(v1("-1"))
    cluster[1].propose(b"x")
    assert cluster.settle(1, 2) == lines(
        """
        1: sync | save 1/4:(v1 -1) 1/5:x
          1>2 APP t1 @1/3 [1/4:(v1 -1)] c3
          1>3 APP t1 @1/3 [1/4:(v1 -1)] c3
          1>2 APP t1 @1/4 [1/5:x] c3
          1>3 APP t1 @1/4 [1/5:x] c3
        2: sync | save 1/4:(v1 -1) 1/5:x
          2>1 APP_RESP t1 @0/4
          2>1 APP_RESP t1 @0/5
        1: t1 v1 c5 | apply 1/4:(v1 -1) 1/5:x
          1>2 APP t1 @1/5 c4
          1>3 APP t1 @1/5 c4
          1>2 APP t1 @1/5 c5
          1>3 APP t1 @1/5 c5
          1 in voters=(2 3)
        2: t1 v1 c5 | apply 1/4:(v1 -1) 1/5:x
          2>1 APP_RESP t1 @0/5
          2>1 APP_RESP t1 @0/5
          2 in voters=(2 3)
        """
    )
    with pytest.raises(ProposalDropped):
        cluster[1].propose(b"y")
    assert cluster.roles()[0] == "1 leader t1 lead=1"


def test_a_removed_leader_steps_down_if_told_so():
    cluster = led(3, step_down_on_removal=True)
    cluster[1].propose_conf_change(v1("-1"))
    cluster.quiet()
    assert cluster.roles()[0] == "1 follower t1 lead=0"
    cluster = led(3, step_down_on_removal=True)
    cluster[1].propose_conf_change(v2("l1"))
    cluster.quiet()
    assert cluster.roles()[0] == "1 follower t1 lead=0"


def test_a_smaller_quorum_commits_what_a_larger_one_did_not():
    cluster = led(4)
    cluster[1].propose_conf_change(v1("-4"))
    cluster[1].propose(b"x")
    cluster.handle(1)
    cluster.rewrite(lambda m: m.to == 4 or (m.to == 3 and m.index == 4))
    for id_ in (2, 3):
        cluster.deliver(id_)
        cluster.handle(id_)
    cluster.deliver(1)
    assert cluster[1].status().hard_state.commit == 4
    cluster.handle(1)
    cluster.tell()
    assert cluster.settle(1) == lines(
        """
        1: t1 v1 c5 | apply 1/5:x
          1>2 APP t1 @1/5 c5
          1>3 APP t1 @1/5 c5
        """
    )


def test_two_at_once_go_through_a_joint_state_and_out_of_it():
    cluster = alone()
    cluster.add(2)
    cluster[1].propose_conf_change(v2("+2 +3"))
    cluster[1].propose(b"x")
    assert cluster.settle(1) == lines(
        """
        1: sync | save 1/4:(v2 +2 +3) 1/5:x
        1: t1 v1 c5 | apply 1/4:(v2 +2 +3) 1/5:x
          1 in voters=(1 2 3)&&(1) autoleave
        1: sync | save 1/6:(v2)
          1>2 APP t1 @1/4 [1/5:x] c5
          1>3 APP t1 @1/4 [1/5:x] c5
        """
    )
    assert cluster.settle(2, 1) == lines(
        """
        2: follower lead=1 | t1 v0 c0 sync
          2>1 APP_RESP t1 @0/4 refused
        1:
          1>2 SNAP t1 @0/0 snapshot 1/5 of 1 2 3
        2: t1 v0 c5 | snapshot 1/5
          2>1 APP_RESP t1 @0/5
        1:
          1>2 APP t1 @1/5 [1/6:(v2)] c5
        2: sync | save 1/6:(v2)
          2>1 APP_RESP t1 @0/6
        1: t1 v1 c6 | apply 1/6:(v2)
          1>2 APP t1 @1/6 c6
          1 in voters=(1 2 3)
        2: t1 v0 c6 | apply 1/6:(v2)
          2>1 APP_RESP t1 @0/6
          2 in voters=(1 2 3)
        """
    )
    cluster.quiet()
    assert cluster.progress(1) == [f"{n}: StateReplicate match=6 next=7" for n in (1, 2, 3)]


def test_two_removed_at_once():
    cluster = led(3)
    cluster[1].propose_conf_change(v2("-2 -3"))
    told = cluster.settle()
    assert "  1 in voters=(1)&&(1 2 3) autoleave" in told
    assert "  1 in voters=(1)" in told
    assert told.count("! StepPeerNotFound") == 2
    cluster[1].propose(b"x")
    assert cluster.settle() == ["1: sync | save 1/6:x", "1: t1 v1 c6 | apply 1/6:x"]


def test_a_joint_state_that_is_left_by_hand():
    cluster = alone()
    cluster.add(1)
    cluster[1].propose_conf_change(v2("+2", EXPLICIT))
    assert "  1 in voters=(1 2)&&(1)" in cluster.settle()
    cluster[1].propose_conf_change(v2("+3"))
    assert cluster.settle(1)[0] == "1: sync | save 1/5"  # refused: an empty entry in its place
    cluster.quiet()
    cluster[1].propose_conf_change(v2(""))
    assert cluster.settle(1)[0] == "1: sync | save 1/6:(v2)"
    assert "  1 in voters=(1 2)" in cluster.settle()
    cluster[1].propose_conf_change(v2(""))
    assert cluster.settle(1)[0] == "1: sync | save 1/7"  # nothing to leave


def test_the_leader_is_replaced_in_one_step():
    cluster = led(3)
    cluster.add(1)
    cluster[1].propose_conf_change(v2("-1 +4"))
    cluster.quiet()
    assert cluster[2].status().config.conf_state() == ConfState(voters=(2, 3, 4))
    assert cluster.roles()[0] == "1 leader t1 lead=1"
    cluster[1].tick()
    told = cluster.settle()
    assert told[:4] == [
        "1:",
        "  1>2 HEARTBEAT t1 @0/0 c5",
        "  1>3 HEARTBEAT t1 @0/0 c5",
        "  1>4 HEARTBEAT t1 @0/0 c5",
    ]
    cluster[1].transfer_leader(4)
    cluster.quiet()
    assert cluster.roles()[3] == "4 leader t2 lead=4"


def test_a_voter_of_the_old_half_becomes_learner_when_it_is_left():
    cluster = led(3)
    cluster[1].propose_conf_change(v2("l3 l2", EXPLICIT))
    cluster.quiet()
    assert str(cluster[1].status().config) == "voters=(1)&&(1 2 3) learners_next=(2 3)"
    cluster[1].propose_conf_change(v2(""))
    cluster.quiet()
    assert str(cluster[1].status().config) == "voters=(1) learners=(2 3)"
    assert cluster.progress(1)[2].endswith("learner")
    assert cluster[3].raft.is_learner


def test_a_joint_state_needs_both_majorities():
    cluster = led(3)
    cluster.add(2)
    cluster[1].propose_conf_change(v2("-2 -3 +4 +5", IMPLICIT))
    cluster.quiet(1, 2, 3)
    assert str(cluster[1].status().config) == "voters=(1 4 5)&&(1 2 3) autoleave"
    cluster[1].propose(b"x")
    cluster.quiet(1, 2, 3)
    assert cluster[1].status().hard_state.commit == 4
    cluster.quiet()
    assert str(cluster[1].status().config) == "voters=(1 4 5)"


def test_one_change_at_a_time():
    cluster = led(3)
    cluster[1].propose_conf_change(v1("l4"))
    cluster[1].propose_conf_change(v1("l5"))
    assert cluster.settle(1)[0] == "1: sync | save 1/4:(v1 l4) 1/5"


def test_no_change_before_the_own_term_is_applied():
    cluster = Cluster()
    cluster.add(1, (1,), index=2)
    cluster[1].campaign()
    cluster.handle(1)
    cluster[1].propose_conf_change(v1("+2"))
    assert "save 1/3 1/4" in cluster.settle()[1]


def test_checks_may_be_left_to_the_application():
    cluster = alone(disable_conf_change_validation=True)
    cluster.add(1)
    cluster[1].propose_conf_change(v2("l2 l3", EXPLICIT))
    cluster[1].propose_conf_change(v2(""))
    assert cluster.settle(1)[0] == "1: sync | save 1/4:(v2 l2 l3) 1/5:(v2)"


def test_what_cannot_be_is_refused_and_changes_nothing():
    cluster = led(3)
    before = cluster[1].status().config
    for change in (v2("-1 -2 -3"), v2("")):
        with pytest.raises(ConfChangeRefused):
            cluster[1].apply_conf_change(change)
    assert cluster[1].status().config == before
    assert cluster[1].apply_conf_change(v1("+0")) == ConfState(voters=(1, 2, 3))


def test_a_joint_state_is_not_left_during_a_transfer_but_with_the_next_entry():
    cluster = led(3)
    cluster[1].propose_conf_change(v2("l2 l3"))
    cluster[1].transfer_leader(2)
    cluster.quiet()  # 2 may not stand, because the change isn't applied there when it is asked
    assert cluster[1].status().config.auto_leave
    for _ in range(3):
        cluster[1].tick()
    cluster[1].propose(b"x")
    cluster.quiet()
    told = [str(cluster[n].status().config) for n in (1, 2, 3)]
    assert told == ["voters=(1) learners=(2 3)"] * 3


def test_a_new_leader_leaves_the_joint_state_that_it_finds():
    cluster = led(3)
    cluster[1].propose_conf_change(v2("l1 l3"))
    for _ in range(2):
        cluster.handle(1)
        cluster.deliver(2)
        cluster.handle(2)
        cluster.deliver(1)
    cluster.quiet(2)
    assert cluster[2].status().config.auto_leave
    cluster.rewrite(lambda m: m.from_ == 1)
    cluster[2].campaign()
    cluster.quiet()
    assert [str(cluster[n].status().config) for n in (1, 2, 3)] == ["voters=(2) learners=(1 3)"] * 3


def test_a_demoted_member_is_not_probed_as_leader_and_an_unknown_sender_is_no_member():
    cluster = led(3)
    cluster[1].raft.step(Message(MessageType.APP_RESP, to=1, from_=9, term=1, index=3))
    assert not cluster[1].has_ready()


def test_a_restart_in_a_joint_state():
    cluster = led(3)
    cluster[1].propose_conf_change(v2("l2 l3", EXPLICIT))
    cluster.quiet()
    state = cluster[1].status().config.conf_state()
    assert state == ConfState((1,), (), (1, 2, 3), (2, 3))
    other = Cluster()
    other.add(1)
    other[1].step(
        Message(MessageType.SNAP, to=1, from_=2, term=1, snapshot=cluster.members[1].storage.snapshot())
    )
    other.quiet()
    assert other[1].status().config == cluster[1].status().config


def test_an_empty_entry_in_the_place_of_a_refused_change_is_normal():
    cluster = alone()
    cluster[1].propose_conf_change(v2(""))
    assert cluster[1].ready().entries[0].type == EntryType.NORMAL
