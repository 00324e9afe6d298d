"""What a Ready holds and when, proposals, limits, restarts, and what a member refuses to hear."""

import pytest
from core_cluster import Cluster, led, lines, v1

from manager.raft.core.config import Config, ReadOnlyOption
from manager.raft.core.errors import Inconsistent, Malformed, ProposalDropped, StepLocal, StepPeerNotFound
from manager.raft.core.messages import (
    LOCAL_MESSAGES,
    RESPONSES,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
    SoftState,
    entry_size,
)
from manager.raft.core.node import RawNode


def alone(**settings) -> Cluster:
    cluster = Cluster(**settings)
    cluster.add(1, (1,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    return cluster


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 0},
        {"heartbeat_tick": 0},
        {"election_tick": 1},
        {"max_inflight_msgs": 0},
        {"max_inflight_bytes": 10, "max_size_per_msg": 11},
        {"read_only_option": ReadOnlyOption.LEASE_BASED},
    ],
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"."):
        Config(**{"id": 1, "election_tick": 10, "heartbeat_tick": 1, "random": lambda n: 0, **wrong})


@pytest.mark.parametrize("type_", sorted(LOCAL_MESSAGES))
def test_local_messages_are_not_heard_from_others(type_):
    with pytest.raises(StepLocal):
        led(3)[1].step(Message(type_, to=1, from_=2, term=9))


@pytest.mark.parametrize("type_", sorted(RESPONSES - LOCAL_MESSAGES))
def test_answers_of_strangers_are_not_heard(type_):
    cluster = led(3)
    with pytest.raises(StepPeerNotFound):
        cluster[1].step(Message(type_, to=1, from_=9, term=9))
    assert cluster[1].status().hard_state.term == 1


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageType.HEARTBEAT, to=1, from_=2),
        Message(MessageType.VOTE, to=1, from_=2),
        Message(MessageType.PROP, to=1, from_=2),
        Message(MessageType.READ_INDEX, to=1, from_=2),
        Message(MessageType.APP, to=1, from_=2, term=5, index=3, log_term=1, entries=(Entry(5, 5),)),
        Message(
            MessageType.APP, to=1, from_=2, term=5, index=3, log_term=1, entries=(Entry(4, 5), Entry(4, 5))
        ),
    ],
)
def test_what_no_member_says_is_refused(message):
    cluster = led(3)
    with pytest.raises(Malformed):
        cluster[1].step(message)
    assert cluster.roles()[0] == "1 leader t1 lead=1"
    assert not cluster[1].has_ready()


def test_nothing_to_do_at_the_start():
    cluster = Cluster()
    cluster.add(3, (1, 2, 3), index=2)
    assert not cluster[1].has_ready()
    assert cluster[1].status().soft_state == SoftState(0, Role.FOLLOWER)


def test_a_proposal_of_a_follower_goes_to_the_leader():
    cluster = led(3)
    cluster[2].propose(b"x")
    assert cluster.settle()[:3] == lines(
        """
        2:
          2>1 PROP t0 @0/0 [0/0:x]
        1: sync | save 1/4:x
        """
    )
    cluster[2].propose_conf_change(v1("l4"))
    assert cluster.settle()[1] == "  2>1 PROP t0 @0/0 [0/0:(v1 l4)]"


def test_proposals_that_nobody_can_take():
    cluster = Cluster(disable_proposal_forwarding=True)
    cluster.add(3, (1, 2, 3), index=2)
    with pytest.raises(ProposalDropped):
        cluster[1].propose(b"x")
    cluster[1].campaign()
    with pytest.raises(ProposalDropped):
        cluster[1].propose(b"x")
    cluster.quiet()
    with pytest.raises(ProposalDropped):
        cluster[2].propose(b"x")


def test_a_change_that_cannot_be_read_is_refused_as_a_whole():
    cluster = led(3)
    bad = Entry(type=EntryType.CONF_CHANGE, data=b"\xff")
    with pytest.raises(Malformed):
        cluster[1].step(Message(MessageType.PROP, to=1, from_=2, entries=(Entry(data=b"x"), bad)))
    assert not cluster[1].has_ready()


def test_too_much_uncommitted_is_refused():
    size = 3 * 10
    cluster = led(3, max_uncommitted_entries_size=size)
    for _ in range(3):
        cluster[1].propose(b"x" * 10)
    with pytest.raises(ProposalDropped):
        cluster[1].propose(b"x")
    cluster[1].propose(b"")  # what has no data always fits
    cluster.quiet()
    assert cluster[1].raft.uncommitted_size == 0
    cluster[1].propose(b"x" * 100)  # one of any size when nothing else waits
    cluster.quiet()
    cluster[1].propose(b"x")


def test_a_ready_must_be_advanced():
    cluster = alone()
    cluster[1].propose(b"x")
    ready = cluster[1].ready()
    with pytest.raises(Inconsistent):
        cluster[1].ready()
    cluster.members[1].storage.append(ready.entries)
    cluster[1].advance()
    cluster[1].advance()  # nothing
    assert [e.data for e in cluster[1].ready().committed_entries] == [b"x"]


def test_what_came_between_ready_and_advance_is_in_the_next():
    cluster = led(3)
    cluster[1].propose(b"a")
    first = cluster[1].ready()
    cluster[1].propose(b"b")
    cluster.members[1].storage.append(first.entries)
    cluster[1].advance()
    assert [e.data for e in cluster[1].ready().entries] == [b"b"]


def test_entries_replaced_while_they_are_written_are_written_again():
    cluster = Cluster()
    cluster.add(3, (1, 2, 3), index=2)
    storage = cluster.members[1].storage

    def app(term: int, data: bytes) -> Message:
        entry = Entry(3, term, data=data)
        return Message(
            MessageType.APP, to=1, from_=term + 1, term=term, index=2, log_term=1, entries=(entry,)
        )

    cluster[1].step(app(1, b"old"))
    first = cluster[1].ready()
    cluster[1].step(app(2, b"new"))
    storage.append(first.entries)
    cluster[1].advance()
    second = cluster[1].ready()
    assert [e.data for e in second.entries] == [b"new"]
    storage.append(second.entries)
    cluster[1].advance()
    assert cluster.log(1) == "2/3:new"
    assert not cluster[1].has_ready()


def test_must_sync_for_entries_term_and_vote_but_not_for_the_commit():
    cluster = led(3)
    cluster[1].propose(b"x")
    told = cluster.settle()
    assert [line for line in told if line.startswith("1:")] == [
        "1: sync | save 1/4:x",
        "1: t1 v1 c4 | apply 1/4:x",
    ]


def test_committed_entries_come_in_limited_portions():
    size = entry_size(Entry(3, 1, data=b"x" * 20))
    cluster = led(3, max_committed_size_per_ready=2 * size)
    for _ in range(5):
        cluster[1].propose(b"x" * 20)
    cluster.quiet()
    assert [len(e.data) for e in cluster.members[3].applied] == [0, 20, 20, 20, 20, 20]
    fresh = led(3, max_committed_size_per_ready=2 * size)
    for _ in range(5):
        fresh[1].propose(b"x" * 20)
    told = fresh.settle()
    portions = [line.count("1/") for line in told if line.startswith("1:") and "apply" in line]
    assert portions == [2, 2, 1]


def test_a_restart_goes_on_where_it_was():
    cluster = led(3)
    cluster[1].propose(b"x")
    cluster.quiet()
    member = cluster.members[1]
    again = RawNode(member.node.raft.config, member.storage)
    assert again.status().hard_state == HardState(1, 1, 4)
    assert again.status().soft_state == SoftState(0, Role.FOLLOWER)


def test_after_a_restart_what_is_committed_and_not_applied_is_applied():
    cluster = led(3)
    cluster[1].propose(b"x")
    cluster.quiet()
    member = cluster.members[1]
    again = RawNode(member.node.raft.config, member.storage)  # its application holds 2
    ready = again.ready()
    assert ready.hard_state is None
    assert not ready.must_sync
    assert [e.index for e in ready.committed_entries] == [3, 4]
    again.advance()
    assert not again.has_ready()
    assert again.status().applied == 4


def test_status_is_a_copy():
    cluster = led(3)
    status = cluster[1].status()
    status.progress[2].match = 99
    status.progress[2].inflights.add(7, 7)
    assert cluster.progress(1)[1] == "2: StateReplicate match=3 next=4"
    assert cluster[2].status().progress == {}


def test_it_tells_what_happens_if_asked():
    told: list[str] = []
    cluster = Cluster(log=told.append)
    cluster.add(1, (1,), index=2)
    cluster[1].campaign()
    cluster.quiet()
    assert told[-2:] == ["1 is a candidate in term 1", "1 leads in term 1"]


def test_a_batch_of_a_forwarded_proposal_stays_together():
    cluster = led(3)
    entries = tuple(Entry(data=data) for data in (b"a", b"b", b"c"))
    cluster[1].step(Message(MessageType.PROP, to=1, from_=2, entries=entries))
    assert cluster.settle(1)[:2] == [
        "1: sync | save 1/4:a 1/5:b 1/6:c",
        "  1>2 APP t1 @1/3 [1/4:a 1/5:b 1/6:c] c3",
    ]
