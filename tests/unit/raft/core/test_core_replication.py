"""How followers get the log: probed, followed, held back, brought back from behind, by entries or by snapshots."""

import pytest
from core_cluster import Cluster, led, lines

from manager.raft.core.errors import Inconsistent, SnapshotTemporarilyUnavailable
from manager.raft.core.messages import (
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
    SnapshotMetadata,
)
from manager.raft.core.node import RawNode


def follower(*terms: int, term: int = 0, commit: int = 0, **settings) -> Cluster:
    """One of three voters, whose log holds entries of these terms."""
    cluster = Cluster(**settings)
    cluster.add(3, (1, 2, 3), index=1)
    storage = cluster.members[1].storage
    storage.append([Entry(index, term, data=b"%d" % index) for index, term in enumerate(terms, 2)])
    storage.set_hard_state(HardState(term or (terms or (1,))[-1], 0, commit or 1))
    cluster.members[1].node = RawNode(cluster.members[1].node.raft.config, storage)
    return cluster


def app(index: int, log_term: int, *terms: int, term: int = 9, commit: int = 0) -> Message:
    entries = tuple(Entry(n, t) for n, t in enumerate(terms, index + 1))
    return Message(
        MessageType.APP,
        to=1,
        from_=2,
        term=term,
        index=index,
        log_term=log_term,
        entries=entries,
        commit=commit,
    )


@pytest.mark.parametrize(
    ("message", "log", "answer"),
    [
        (app(3, 1, 2), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @0/4"),
        (app(4, 2), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @0/4"),  # nothing new: nothing is cut
        (app(3, 1, 2, 3), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @0/5"),
        (app(3, 1, 4), "1/2:2 1/3:3 4/4", "1>2 APP_RESP t9 @0/4"),
        (app(4, 2, 4, 4, 4), "1/2:2 1/3:3 2/4:4 4/5 4/6 4/7", "1>2 APP_RESP t9 @0/7"),
        (app(1, 1, 5), "5/2", "1>2 APP_RESP t9 @0/2"),
        (app(0, 0, 7), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @0/1"),  # before what is committed
        (app(5, 2, 4), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @2/5 refused, try 4"),
        (app(9, 1, 4), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @1/9 refused, try 3"),
        (app(9, 8, 4), "1/2:2 1/3:3 2/4:4 3/5:5", "1>2 APP_RESP t9 @3/9 refused, try 5"),
    ],
)
def test_a_follower_takes_what_follows_on_its_log(message, log, answer):
    cluster = follower(1, 1, 2, 3)
    cluster[1].step(message)
    assert "  " + answer in cluster.settle(1)
    assert cluster.log(1) == log


def test_an_append_commits_no_more_than_it_covers():
    cluster = follower(1, 1, 1)
    cluster[1].step(app(2, 1, 1, commit=9))
    assert cluster[1].status().hard_state.commit == 3
    cluster[1].step(app(2, 1, commit=2))
    assert cluster[1].status().hard_state.commit == 3


def test_a_commit_behind_the_log_is_noticed():
    cluster = follower(1)
    with pytest.raises(Inconsistent, match="damaged or lost"):
        cluster[1].step(Message(MessageType.HEARTBEAT, to=1, from_=2, term=9, commit=7))
    cluster = follower(1)
    cluster.members[1].storage.set_hard_state(HardState(9, 0, 7))
    with pytest.raises(Inconsistent):
        RawNode(cluster[1].raft.config, cluster.members[1].storage)


@pytest.mark.parametrize(
    ("leaders", "followers", "probes"),
    [
        # Each list: the log's terms after a common beginning. Probes: the places at which the leader tries.
        ((1, 3, 3, 3, 5, 5, 5), (1, 1, 4, 4, 4), [8, 5, 2]),
        ((1, 3, 3, 3, 3, 3, 7), (1, 3, 3, 4, 4, 5, 5, 5, 6), [8, 7, 4]),
        ((1, 1, 1, 1, 1, 1, 1), (1, 1), [8, 3]),
        ((1, 4, 4, 4, 4, 5, 5), (1, 4, 4, 4, 4, 4, 4), [8, 6]),
        ((1, 2, 5, 5, 5, 5, 5), (1, 2, 3, 3, 4, 4, 4), [8, 3]),
    ],
)
def test_one_refusal_skips_whole_terms(leaders, followers, probes):
    cluster = follower(*leaders, term=7)
    cluster.members[2].storage.append([Entry(n, t, data=b"other") for n, t in enumerate(followers, 2)])
    cluster.members[2].storage.set_hard_state(HardState(7, 0, 1))
    cluster.members[2].node = RawNode(cluster[2].raft.config, cluster.members[2].storage)
    cluster[1].campaign()
    cluster.quiet(1, 3)
    tried = []
    while not cluster[1].status().progress[2].match:
        if cluster[1].has_ready():
            cluster.handle(1)
        tried += [m.index for m in cluster.messages if m.to == 2 and m.type == MessageType.APP]
        cluster.deliver(2)
        if cluster[2].has_ready():
            cluster.handle(2)
        cluster.deliver(1)
    assert list(dict.fromkeys(tried)) == probes
    cluster.quiet()
    assert cluster.members[1].storage.last_index() == cluster.members[2].storage.last_index()


def test_only_entries_of_the_own_term_are_committed():
    """Figure 8 of the paper: an entry of an older term that a majority holds may still be replaced."""
    cluster = follower(1, 2, term=2)
    cluster[1].campaign()
    cluster.handle(1)
    cluster[1].step(Message(MessageType.VOTE_RESP, to=1, from_=2, term=3))
    cluster.handle(1)
    cluster[1].step(Message(MessageType.APP_RESP, to=1, from_=2, term=3, index=3))
    assert cluster[1].status().hard_state.commit == 1
    cluster[1].step(Message(MessageType.APP_RESP, to=1, from_=2, term=3, index=4))
    assert cluster[1].status().hard_state.commit == 4


def test_an_answer_to_a_heartbeat_ends_a_probe():
    cluster = led(3, index=10)
    cluster[1].report_unreachable(2)
    assert cluster.progress(1)[1] == "2: StateProbe match=11 next=12"
    cluster[1].tick()
    assert cluster.settle() == lines(
        """
        1:
          1>2 HEARTBEAT t1 @0/0 c11
          1>3 HEARTBEAT t1 @0/0 c11
        2:
          2>1 HEARTBEAT_RESP t1 @0/0
        3:
          3>1 HEARTBEAT_RESP t1 @0/0
        1:
          1>2 APP t1 @1/11 c11
        2:
          2>1 APP_RESP t1 @0/11
        """
    )
    assert cluster.progress(1)[1] == "2: StateReplicate match=11 next=12"


def test_a_probe_sends_one_append_until_it_is_answered():
    cluster = led(3, index=10)
    cluster[1].report_unreachable(2)
    cluster[1].propose(b"x")
    cluster[1].propose(b"y")
    cluster.handle(1)
    assert [m.index for m in cluster.messages if m.to == 2] == [11]
    assert cluster.progress(1)[1] == "2: StateProbe match=11 next=12 paused"
    cluster.quiet()
    assert cluster.progress(1)[1] == "2: StateReplicate match=13 next=14"


def test_a_full_window_pauses_and_a_heartbeat_finds_what_was_lost():
    cluster = led(3, index=10, max_inflight_msgs=3)
    for data in (b"a", b"b", b"c"):
        cluster[1].propose(data)
    assert cluster.progress(1)[2] == "3: StateReplicate match=11 next=15 paused inflight=3[full]"
    cluster.handle(1)
    cluster.rewrite(lambda m: m.to == 3)
    cluster[1].propose(b"d")
    cluster[1].propose(b"e")
    cluster.quiet(1, 2)
    assert not [m for m in cluster.messages if m.to == 3]
    cluster[1].tick()
    assert cluster.settle(1, 3) == lines(
        """
        1:
          1>2 HEARTBEAT t1 @0/0 c16
          1>3 HEARTBEAT t1 @0/0 c11
        3:
          3>1 HEARTBEAT_RESP t1 @0/0
        1:
          1>3 APP t1 @1/14 c16
        3:
          3>1 APP_RESP t1 @1/14 refused, try 11
        1:
          1>3 APP t1 @1/11 [1/12:a 1/13:b 1/14:c 1/15:d 1/16:e] c16
        3: t1 v1 c16 sync | save 1/12:a 1/13:b 1/14:c 1/15:d 1/16:e | apply 1/12:a 1/13:b 1/14:c 1/15:d 1/16:e
          3>1 APP_RESP t1 @0/16
        """
    )
    assert cluster.progress(1)[2] == "3: StateReplicate match=16 next=17"


def test_a_window_that_is_full_by_bytes():
    cluster = led(3, max_inflight_bytes=100, max_size_per_msg=100)
    for _ in range(3):
        cluster[1].propose(b"x" * 60)
    assert cluster.progress(1)[1] == "2: StateReplicate match=3 next=6 paused inflight=2[full]"
    cluster.quiet()
    assert cluster.progress(1)[1] == "2: StateReplicate match=6 next=7"


def test_one_who_is_behind_gets_as_much_as_the_window_takes():
    cluster = led(3, max_size_per_msg=30, max_inflight_msgs=2)
    cluster[1].report_unreachable(3)
    for _ in range(6):
        cluster[1].propose(b"x" * 15)
    cluster.handle(1)
    cluster.deliver(3)
    cluster.handle(3)
    cluster.messages = [m for m in cluster.messages if m.to == 1]
    cluster.deliver(1)
    cluster.handle(1)
    assert [len(m.entries) for m in cluster.messages if m.to == 3 and m.entries] == [1, 1]
    cluster.quiet()
    assert cluster.progress(1)[2] == "3: StateReplicate match=9 next=10"


def test_a_follower_behind_the_compacted_log_gets_a_snapshot():
    cluster = led(3, index=10, max_inflight_msgs=2)
    for data in (b"a", b"b", b"c", b"d"):
        cluster[1].propose(data)
    cluster.quiet(1, 2)
    cluster.rewrite(lambda m: m.to == 3)
    assert cluster.progress(1)[2] == "3: StateReplicate match=11 next=14 paused inflight=2[full]"
    cluster.compact(1, 14)
    cluster[1].tick()
    assert cluster.settle(1, 3) == lines(
        """
        1:
          1>2 HEARTBEAT t1 @0/0 c15
          1>3 HEARTBEAT t1 @0/0 c11
        3:
          3>1 HEARTBEAT_RESP t1 @0/0
        1:
          1>3 SNAP t1 @0/0 snapshot 1/15 of 1 2 3
        3: t1 v1 c15 | snapshot 1/15
          3>1 APP_RESP t1 @0/15
        """
    )
    assert cluster.progress(1)[2] == "3: StateReplicate match=15 next=16"


def snapshot_under_way() -> Cluster:
    cluster = led(3, index=10)
    cluster[1].propose(b"x")
    cluster.quiet(1, 2)
    cluster.messages.clear()
    cluster.compact(1, 12)
    cluster[1].report_unreachable(3)
    cluster[1].tick()
    cluster.quiet(1)
    cluster.deliver(3)
    cluster.handle(3)
    cluster.quiet(1)
    assert cluster.progress(1)[2] == "3: StateSnapshot match=11 next=13 paused pendingSnap=12"
    return cluster


def test_nothing_is_sent_while_a_snapshot_is_under_way():
    cluster = snapshot_under_way()
    cluster.messages.clear()
    cluster[1].propose(b"y")
    cluster[1].tick()
    cluster.quiet(1, 2)
    assert {m.type for m in cluster.messages if m.to == 3} == {MessageType.HEARTBEAT}
    cluster.settle()
    assert cluster.progress(1)[2] == "3: StateSnapshot match=11 next=13 paused pendingSnap=12"


@pytest.mark.parametrize(("ok", "after"), [(True, 13), (False, 12)])
def test_a_reported_snapshot_is_followed_by_a_probe(ok, after):
    cluster = snapshot_under_way()
    cluster.messages.clear()
    cluster[1].report_snapshot(3, ok)
    assert cluster.progress(1)[2] == f"3: StateProbe match=11 next={after} paused"
    cluster[1].report_snapshot(3, ok)  # once is enough
    cluster[1].tick()
    cluster.quiet()
    assert cluster.progress(1)[2] == "3: StateReplicate match=12 next=13"


def test_an_answer_that_the_log_can_go_on_from_ends_a_snapshot_too():
    cluster = snapshot_under_way()
    cluster.messages.clear()
    cluster.members[1].storage.fresh = None
    # It got the snapshot from somewhere else, or a newer one.
    cluster[1].step(Message(MessageType.APP_RESP, to=1, from_=3, term=1, index=12))
    assert cluster.progress(1)[2] == "3: StateReplicate match=12 next=13"


def test_no_snapshot_for_one_who_is_not_heard_of():
    cluster = Cluster()
    cluster.add(3, (1, 2, 3), index=2)
    cluster[1].campaign()
    cluster.quiet(1, 2)
    cluster.messages.clear()
    cluster[1].propose(b"x")
    cluster.quiet(1, 2)
    cluster.compact(1, 4)
    cluster.messages.clear()
    cluster[1].report_unreachable(3)
    cluster[1].propose(b"y")
    cluster.quiet(1, 2)
    assert not [m for m in cluster.messages if m.type == MessageType.SNAP]
    cluster[1].tick()
    assert any("1>3 SNAP" in line for line in cluster.settle())


def test_a_snapshot_that_is_not_there_yet_is_asked_for_again(monkeypatch):
    cluster = led(3, index=10)
    cluster[1].propose(b"x")
    cluster.quiet(1, 2)
    cluster.messages.clear()
    cluster.compact(1, 12)
    cluster[1].report_unreachable(3)
    storage = type(cluster.members[1].storage)

    def missing(self):
        raise SnapshotTemporarilyUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(storage, "snapshot", missing)
        cluster[1].tick()
        cluster.quiet()
        assert cluster.progress(1)[2] == "3: StateProbe match=11 next=12"
    cluster[1].tick()
    cluster.quiet()
    assert cluster.progress(1)[2] == "3: StateReplicate match=12 next=13"


def snap(index: int, term: int, voters: tuple[int, ...] = (1, 2, 3)) -> Message:
    snapshot = Snapshot(SnapshotMetadata(ConfState(voters=voters), index, term), b"state")
    return Message(MessageType.SNAP, to=1, from_=2, term=9, snapshot=snapshot)


def test_a_snapshot_takes_the_place_of_the_log():
    cluster = follower(1, 1)
    cluster[1].step(snap(7, 5, (1, 2)))
    cluster[1].campaign()  # not before it is applied
    assert cluster.settle(1) == lines(
        """
        1: follower lead=2 | t9 v0 c7 sync | snapshot 5/7
          1>2 APP_RESP t9 @0/7
        """
    )
    status = cluster[1].status()
    assert (status.applied, status.config.conf_state()) == (7, ConfState(voters=(1, 2)))
    cluster[1].campaign()
    assert cluster[1].ready().messages[0].index == 7


def test_a_snapshot_that_the_log_holds_only_commits():
    cluster = follower(1, 1, 1)
    cluster[1].step(snap(3, 1))
    assert cluster.settle(1)[0] == "1: follower lead=2 | t9 v0 c3 sync | apply 1/2:2 1/3:3"
    cluster[1].step(snap(2, 1))
    assert cluster.settle(1) == ["1:", "  1>2 APP_RESP t9 @0/3"]


def test_a_snapshot_for_others_is_ignored():
    cluster = follower(1)
    cluster[1].step(snap(7, 5, (2, 3)))
    assert cluster.settle(1)[-1] == "  1>2 APP_RESP t9 @0/1"


def test_entries_behind_a_snapshot_come_with_it():
    cluster = follower(1)
    cluster[1].step(snap(7, 5))
    cluster[1].step(app(7, 5, 9, 9, commit=8))
    ready = cluster[1].ready()
    assert ready.snapshot is not None
    assert [e.index for e in ready.entries] == [8, 9]
    assert not ready.committed_entries  # the snapshot first
    cluster.members[1].storage.apply_snapshot(ready.snapshot)
    cluster.members[1].storage.append(ready.entries)
    cluster[1].advance()
    assert [e.index for e in cluster[1].ready().committed_entries] == [8]


def test_a_leader_sends_the_commit_to_one_who_answered_late():
    cluster = led(3)
    cluster[1].propose(b"x")
    cluster[1].propose(b"y")
    cluster.handle(1)
    for id_ in (2, 3):
        cluster.deliver(id_)
        cluster.handle(id_)
    late = [m for m in cluster.messages if m.from_ == 3]
    cluster.messages = [m for m in cluster.messages if m.from_ == 2]
    cluster.quiet(1)
    cluster.rewrite(lambda m: m.to == 3)
    cluster[1].tick()  # the heartbeat takes back what 3 was told: it has not answered yet
    cluster.quiet(1)
    cluster.messages = late
    cluster.deliver(1)
    assert cluster.settle(1) == ["1:", "  1>3 APP t1 @1/5 c5"]
