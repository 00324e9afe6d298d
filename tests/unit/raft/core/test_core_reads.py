"""Linearizable reads: nothing is answered before a quorum has confirmed the leader."""

from core_cluster import Cluster, led, lines

from manager.raft.core.config import ReadOnlyOption
from manager.raft.core.messages import Entry, Message, MessageType, Role
from manager.raft.core.read_only import ReadOnly


def reads(told: list[str]) -> list[str]:
    return [line for line in told if "read " in line]


def test_a_quorum_confirms():
    cluster = led(3)
    cluster[1].read_index(b"r")
    assert cluster.settle() == lines(
        """
        1:
          1>2 HEARTBEAT t1 @0/0 c3 'r'
          1>3 HEARTBEAT t1 @0/0 c3 'r'
        2:
          2>1 HEARTBEAT_RESP t1 @0/0 'r'
        3:
          3>1 HEARTBEAT_RESP t1 @0/0 'r'
        1: read r@3
        """
    )


def test_a_follower_asks_the_leader():
    cluster = led(3)
    cluster[2].read_index(b"r")
    told = cluster.settle()
    assert "  2>1 READ_INDEX t0 @0/0 [0/0:r]" in told
    assert "  1>2 READ_INDEX_RESP t1 @0/3 [0/0:r]" in told
    assert reads(told) == ["2: read r@3"]


def test_a_single_voter_answers_at_once_also_for_learners():
    cluster = Cluster()
    cluster.add(2, (1,), (2,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    cluster[1].read_index(b"a")
    cluster[2].read_index(b"b")
    assert reads(cluster.settle()) == ["1: read a@3", "2: read b@3"]


def test_without_a_quorum_there_is_no_answer():
    cluster = led(3)
    cluster[1].read_index(b"r")
    assert reads(cluster.settle(1)) == []
    cluster.messages.clear()
    # Heartbeats carry the newest request again.
    cluster[1].read_index(b"s")
    cluster.quiet(1)
    cluster.messages.clear()
    cluster[1].tick()
    assert reads(cluster.settle()) == ["1: read r@3 s@3"]
    cluster[1].tick()
    assert reads(cluster.settle()) == []


def test_a_new_leader_waits_for_its_first_entry():
    cluster = led(3)
    cluster[2].campaign()
    cluster.handle(2)
    cluster.deliver(3)
    cluster.handle(3)
    cluster.deliver(2)
    cluster[2].read_index(b"r")
    assert cluster[2].status().soft_state.state == Role.LEADER
    assert not [m for m in cluster[2].raft.messages if m.type == MessageType.HEARTBEAT]
    assert reads(cluster.settle()) == ["2: read r@4"]


def test_a_deposed_leader_answers_nothing():
    cluster = led(3)
    cluster[1].read_index(b"r")
    cluster.handle(1)
    cluster.messages.clear()
    cluster[2].campaign()
    cluster.quiet()
    cluster[1].read_index(b"s")
    told = cluster.settle()
    assert reads(told) == ["1: read s@4"]


def test_a_learner_does_not_count():
    cluster = Cluster()
    cluster.add(4, (1, 2, 3), (4,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    cluster[1].read_index(b"r")
    cluster.handle(1)
    cluster.rewrite(lambda m: m.to in (2, 3))
    assert reads(cluster.settle()) == []


def test_a_follower_without_leader_drops_it():
    cluster = Cluster()
    cluster.add(3, (1, 2, 3), index=2)
    cluster[1].read_index(b"r")
    assert not cluster[1].has_ready()
    cluster[1].campaign()
    cluster.quiet(1)
    cluster[1].read_index(b"r")
    assert not cluster[1].has_ready()


def test_by_lease_there_is_no_round():
    cluster = led(3, read_only_option=ReadOnlyOption.LEASE_BASED, check_quorum=True)
    cluster[1].read_index(b"r")
    assert cluster.settle(1) == ["1: read r@3"]
    cluster[2].forget_leader()
    assert cluster[2].status().soft_state.lead == 1


def request(context: bytes) -> Message:
    return Message(MessageType.READ_INDEX, entries=(Entry(data=context),))


def test_one_confirmation_covers_all_before():
    pending = ReadOnly()
    for index, context in enumerate((b"a", b"b", b"c"), 5):
        pending.add(index, request(context))
    pending.add(99, request(b"a"))
    assert pending.last_context() == b"c"
    assert pending.acknowledge(1, b"b") == {1: True}
    assert pending.acknowledge(2, b"b") == {1: True, 2: True}
    assert pending.acknowledge(1, b"unknown") == {}
    assert [(r.index, r.request.entries[0].data) for r in pending.advance(b"b")] == [(5, b"a"), (6, b"b")]
    assert pending.advance(b"b") == []
    assert [r.index for r in pending.advance(b"c")] == [7]
    assert pending.last_context() == b""
