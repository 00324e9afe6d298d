"""Traps of Raft around membership and snapshots, step by step; see directed.py."""

from __future__ import annotations

from manager.raft.core.messages import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    EntryType,
    Message,
    MessageType,
)
from tests.simulation.raft.directed import SCENARIOS as SCENARIOS
from tests.simulation.raft.directed import scenario
from tests.simulation.raft.stage import Stage, expect

ADD, REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE
LEARNER = ConfChangeType.ADD_LEARNER_NODE


def _joint(s: Stage) -> None:
    """1, 2, 3 become 1, 4, 5 and stop half-way, with everybody up to date."""
    s.lead(1)
    for id_ in (4, 5):
        s.join(id_)
        s.change(1, ConfChange(LEARNER, id_))
        s.tick([1], 8, among=())
    change = ConfChangeV2(
        ConfChangeTransition.JOINT_EXPLICIT,
        tuple(ConfChangeSingle(kind, id_) for kind, id_ in ((ADD, 4), (ADD, 5), (REMOVE, 2), (REMOVE, 3))),
    )
    s.change(1, change)
    s.tick([1], 8, among=())
    for id_ in range(1, 6):
        conf = s.members[id_].conf
        expect((conf.voters, conf.voters_outgoing) == ((1, 4, 5), (1, 2, 3)), f"{id_} is in {conf}")


@scenario
def a_joint_state_commits_with_both_majorities() -> None:
    """Neither the old voters nor the new ones commit anything alone."""
    s = Stage(3, check_quorum=False)
    _joint(s)
    old = s.write(1, "a=old")
    s.tick([1], 8, among=(1, 2, 3))
    expect(old == [], "the old voters have committed alone")
    s.tick([1], 8, among=(1, 4, 5))
    expect(old == [True], "now both halves have it")
    answers = s.write(1, "a=new2")
    s.tick([1], 8, among=(1, 4, 5))
    expect(answers == [], "the new voters have committed alone")
    s.tick([1], 8, among=(1, 2))
    expect(answers == [True], "one of each half is enough")
    s.change(1, ConfChangeV2())
    s.tick([1], 8, among=())
    answers = s.write(1, "a=left")
    s.tick([1], 8, among=(1, 4))
    expect(answers == [True] and s.members[4].conf.voters == (1, 4, 5), "left, the new voters decide")


@scenario
def a_joint_state_elects_with_both_majorities() -> None:
    """Neither half elects anybody alone."""
    s = Stage(3, check_quorum=False, pre_vote=False)
    _joint(s)
    s.crash(1)
    s.net = []
    for candidate, among in ((4, (3, 4, 5)), (2, (2, 3, 5))):
        for _ in range(3):
            s.campaign(candidate)
            s.deliver(among)
        expect(not s.leads(candidate), f"one half has elected {candidate} alone")
    s.lead(4, (2, 3, 4, 5))
    answers = s.write(4, "a=1")
    s.tick([4], 4, among=(2, 3, 4, 5))
    expect(answers == [True], "both halves together go on")


@scenario
def a_joint_state_reads_and_lives_with_both_majorities() -> None:
    """A leader that one half doesn't hear answers no read, and steps down."""
    s = Stage(3)
    _joint(s)
    said = s.read(1, "a")
    s.deliver((1, 2, 3))
    expect(said == [], "the old voters alone have confirmed a read")
    s.net = []
    said = s.read(1, "a")
    s.deliver((1, 4, 5))
    expect(said == [], "the new voters alone have confirmed a read")
    s.tick([1], 40, among=(1, 2, 3))
    expect(not s.leads(1), "without the new voters it doesn't stay leader")


@scenario
def a_learner_never_counts() -> None:
    """It gets everything, and neither commits, votes nor confirms anything."""
    s = Stage(conf=ConfState(voters=(1, 2), learners=(3,)))
    s.lead(1)
    s.write(1, "a=1")
    s.deliver()
    s.tick([1], 2, among=())
    expect(s.value(3, "a") == "1", "the learner follows")
    answers = s.write(1, "a=2")
    said = s.read(1, "a")
    s.tick([1], 6, among=(1, 3))
    expect(answers == [] and said == [], "a learner was counted")
    s.tick([3], 100)
    expect(s.term(3) == s.term(1) and not s.leads(3), "a learner stood for election")
    s.tick([1], 40, among=(1, 3))
    expect(not s.leads(1), "a leader that only a learner hears steps down")
    s.tick([3], 30)
    for _ in range(3):
        s.campaign(1)
        s.deliver((1, 3))
    expect(not s.leads(1), "a learner has elected a leader")


@scenario
def one_change_at_a_time() -> None:
    """A change that is proposed while another one isn't applied becomes an empty entry."""
    s = Stage(3)
    s.lead(1)
    s.change(1, ConfChange(LEARNER, 4))
    s.change(1, ConfChange(REMOVE, 3))
    s.deliver()
    s.tick([1], 2, among=())
    kinds = [entry.type for entry in s.check.committed]
    expect(kinds.count(EntryType.CONF_CHANGE) == 1, "two changes at once")
    expect(s.members[2].conf == ConfState((1, 2, 3), (4,)), f"{s.members[2].conf}")


@scenario
def a_new_leader_waits_for_the_change_it_inherits() -> None:
    """With an uncommitted change in its log a new leader makes no other one."""
    s = Stage(3)
    s.lead(1)
    s.change(1, ConfChange(REMOVE, 3))
    s.deliver((1, 2), only=lambda m: m.type == MessageType.APP)  # 2 has it, 1 doesn't know
    s.crash(1)
    s.tick([2, 3], 15)
    s.elect(2, (2, 3))
    appends = s.net
    s.change(2, ConfChange(REMOVE, 1))
    changes = [entry for entry in s.log(2) if entry.type == EntryType.CONF_CHANGE]
    expect(len(changes) == 1, "a second change beside the inherited one")
    s.net += appends
    s.tick([2], 8, among=(2, 3))
    expect(s.members[2].conf.voters == (1, 2), f"the inherited one is made: {s.members[2].conf}")


@scenario
def the_leader_removes_itself() -> None:
    """It commits that with the others, steps down, and the rest goes on; it gets no way back."""
    s = Stage(3)
    s.lead(1)
    s.change(1, ConfChange(REMOVE, 1))
    s.deliver()
    expect(not s.leads(1), "it has stepped down")
    expect(s.members[1].conf.voters == (2, 3), "it knows")
    s.tick([1, 2, 3], 60, among=())
    leader = s.leader()
    expect(leader in (2, 3), "the others have a leader")
    answers = s.write(leader, "a=1")
    s.tick([leader], 4, among=())
    expect(answers == [True], "who takes writes")
    for _ in range(3):
        s.campaign(1)
        s.deliver()
    expect(s.leads(leader) and not s.leads(1), "the removed one disturbs")


@scenario
def a_removed_member_disturbs_nobody() -> None:
    """It never heard that it was removed, and asks for elections for ever."""
    s = Stage(3)
    s.lead(1)
    s.change(1, ConfChange(REMOVE, 3))
    s.deliver((1, 2))
    s.tick([1], 4, among=(1, 2))
    term = s.term(1)
    expect(s.members[3].conf.voters == (1, 2, 3), "3 doesn't know")
    s.tick([1, 2, 3], 120, among=())
    expect(s.leads(1) and s.term(1) == s.term(2) == term, "the removed one has deposed the leader")
    answers = s.write(1, "a=1")
    s.tick([1], 2, among=(1, 2))
    expect(answers == [True], "writes go on")


@scenario
def a_member_joins_by_a_snapshot() -> None:
    """The log it would need is gone; what it gets holds the membership, itself in it."""
    s = Stage(1)
    s.lead(1)
    for number in range(5):
        s.write(1, f"a={number}")
    s.snapshot(1)
    s.join(2)
    s.change(1, ConfChange(LEARNER, 2))
    s.tick([1], 12, among=())
    expect(s.value(2, "a") == "4" and s.members[2].conf.learners == (2,), "the new one has it all")
    s.change(1, ConfChange(ADD, 2))
    s.tick([1], 6, among=())
    expect(s.members[2].conf.voters == (1, 2), "and may become a voter")
    s.write(1, "a=5")  # what is known to be committed is safe with the next write
    s.tick([1], 6, among=())
    s.restart(2)
    expect(s.core(2).storage.first_index() > 2, "after a restart it begins with the snapshot")
    s.restart(1)
    s.lead(2)


@scenario
def a_snapshot_takes_the_place_of_a_log_that_differs() -> None:
    """A member with entries of its own that never counted gets a snapshot: nothing of them stays, also on disk."""
    s = Stage(3, pre_vote=False, check_quorum=False)
    s.lead(1)
    for number in range(8):
        s.write(1, f"a=lost{number}")
    s.net = []
    s.crash(1)
    s.lead(2, (2, 3))
    for number in range(3):
        s.write(2, f"a=kept{number}")
        s.deliver((2, 3))
    s.snapshot(2)
    s.members[1].start()
    s.tick([2], 10, among=())
    expect(s.value(1, "a") == "kept2", "1 has the snapshot")
    expect(not any(b"lost" in entry.data for entry in s.log(1)), "1's disk still has its own entries")
    expect(s.core(1).storage.last_index() == s.core(2).storage.last_index(), "the logs end alike")
    answers = s.write(2, "a=more")
    s.tick([2], 4, among=(1, 2))
    expect(answers == [True] and s.value(1, "a") == "more", "and it follows from there")


@scenario
def a_snapshot_and_appends_cross() -> None:
    """Appends from before and after a snapshot come in any order, and twice."""
    s = Stage(3)
    s.lead(1)
    for number in range(5):
        s.write(1, f"a={number}")
        s.deliver((1, 2))
    s.snapshot(1)
    s.tick([1], 3, among=(1, 2, 3))
    s.net = []
    s.restart(3)
    # 3 has it all; now it lags again and both kinds are on their way to it.
    for number in range(5, 9):
        s.write(1, f"a={number}")
    crossing = s.take(lambda m: m.to == 3 and m.type == MessageType.APP)
    s.deliver((1, 2))
    s.snapshot(1)
    snapshot = s.members[1].disk.snapshot
    late = Message(MessageType.SNAP, to=3, from_=1, term=s.term(1), snapshot=snapshot)
    for message in (*reversed(crossing), late, *crossing, late):
        s.hand(message)
    s.tick([1], 8, among=())
    expect(s.value(3, "a") == "8", "all is there, once")
    answers = s.write(1, "a=9")
    s.tick([1], 4, among=(1, 3))
    expect(answers == [True], "3 acknowledges what comes next")


@scenario
def an_old_snapshot_comes_late() -> None:
    """A snapshot of what is committed here already changes nothing; the member says how far it is."""
    s = Stage(3)
    s.lead(1)
    for number in range(3):
        s.write(1, f"a={number}")
        s.deliver()
    s.snapshot(1)
    old = s.members[1].disk.snapshot
    for number in range(3, 6):
        s.write(1, f"a={number}")
        s.deliver()
    s.tick([1], 3, among=())
    before = list(s.log(2))
    message = Message(MessageType.SNAP, to=2, from_=1, term=s.term(1), snapshot=old)
    s.hand(message)
    answer = s.take(lambda m: m.from_ == 2)
    expect([m.index for m in answer] == [s.commit(2)], f"it says how far it is: {answer}")
    expect(s.log(2) == before and s.value(2, "a") == "5", "an old snapshot was taken")


@scenario
def a_snapshot_comes_after_a_change_of_leaders() -> None:
    """An older leader's snapshot is refused; the new leader brings what is missing."""
    s = Stage(3)
    s.lead(1)
    for number in range(4):
        s.write(1, f"a={number}")
        s.deliver((1, 2))
    s.snapshot(1)
    s.members[1].do(lambda engine: engine.tick())
    s.members[1].do(lambda engine: engine.tick())
    late: list[Message] = []
    for _ in range(4):
        late += s.take(lambda m: m.type == MessageType.SNAP)
        s.deliver((1, 3), only=lambda m: m.type != MessageType.SNAP)
        s.members[1].do(lambda engine: engine.tick())
        s.members[1].do(lambda engine: engine.tick())
        late += s.take(lambda m: m.type == MessageType.SNAP)
    stale = Message(MessageType.SNAP, to=3, from_=1, term=s.term(1), snapshot=s.members[1].disk.snapshot)
    s.net = []
    s.tick([2, 3], 15)
    s.lead(2, (2, 3))
    s.write(2, "a=new")
    s.deliver((2, 3))
    s.tick([2], 3, among=(2, 3))
    for message in (*late, stale):
        s.hand(message)
    s.tick([2], 4, among=())
    expect(s.value(3, "a") == "new" and s.value(1, "a") == "new", "all follow the new leader")


@scenario
def a_snapshot_brings_a_membership() -> None:
    """A member that slept through two changes learns them from a snapshot, and counts by them."""
    s = Stage(3)
    s.lead(1)
    s.crash(3)
    s.join(4)
    s.change(1, ConfChange(ADD, 4))
    s.tick([1], 10, among=(1, 2, 4))
    s.join(5)
    s.change(1, ConfChange(ADD, 5))
    s.tick([1], 10, among=(1, 2, 4, 5))
    s.snapshot(1)
    s.members[3].start()
    s.tick([1], 10, among=())
    expect(s.members[3].conf.voters == (1, 2, 3, 4, 5), f"3 knows of {s.members[3].conf}")
    s.restart(3)
    expect(s.members[3].conf.voters == (1, 2, 3, 4, 5), "and hasn't forgotten it")
    s.crash(1)
    s.tick([2, 3, 4, 5], 15)
    for _ in range(3):
        s.campaign(3)
        s.deliver((2, 3))
    expect(not s.leads(3), "two of five have elected 3")
    s.lead(3, (2, 3, 4))


@scenario
def nobody_stands_with_a_change_to_apply() -> None:
    """A member that knows a change to be committed counts by it before it stands for election."""
    s = Stage(3)
    s.lead(1)
    s.change(1, ConfChange(REMOVE, 3))
    s.deliver((1, 2))
    s.write(1, "a=1")
    s.deliver((1, 2))
    s.tick([1], 4, among=(1, 2))
    s.restart(2)
    s.members[2].do(lambda engine: engine.campaign())
    asked = s.take(lambda m: m.type in (MessageType.PRE_VOTE, MessageType.VOTE))
    expect(not asked, "it stands for election before it has applied the change")
    expect(s.members[2].conf.voters == (1, 2), "2 has applied it again")
    for _ in range(3):
        s.campaign(2)
        s.deliver((2, 3))
    expect(not s.leads(2), "the removed one has elected it")


@scenario
def a_commit_is_saved_with_what_follows_it() -> None:
    """Who holds the entry of a change knows after a crash that the one before it is committed.

    Else it would count by a membership that is two changes old, and elect a leader beside the new members' one.
    """
    s = Stage(5, as_managers=True)
    s.lazy = True
    s.lead(1)
    s.change(1, ConfChange(REMOVE, 5))
    s.deliver()
    s.tick([1], 2, among=())
    expect(s.members[2].conf.voters == (1, 2, 3, 4), "2 knows that the first one is committed")
    s.change(1, ConfChange(REMOVE, 4))
    s.deliver((1, 2), only=lambda m: m.type == MessageType.APP)
    s.restart(2)
    expect(s.log(2)[-1].type == EntryType.CONF_CHANGE, "2 holds the second one")
    s.members[2].do(lambda engine: engine.tick())
    expect(s.members[2].conf.voters == (1, 2, 3, 4), f"after a crash it counts by {s.members[2].conf}")
