"""Traps of Raft around reads, step by step; see directed.py."""

from __future__ import annotations

from manager.raft.core.messages import ConfState, MessageType
from tests.simulation.raft.directed import SCENARIOS as SCENARIOS
from tests.simulation.raft.directed import scenario
from tests.simulation.raft.stage import Stage, expect


@scenario
def a_paused_leader_answers_no_stale_read() -> None:
    """It wakes, doesn't know yet that it is over, and is asked first of all."""
    s = Stage(3)
    s.lead(1)
    s.write(1, "a=old")
    s.deliver()
    s.members[1].pause()
    s.tick([2, 3], 30)
    s.lead(2, (2, 3))
    s.write(2, "a=new")
    s.deliver((2, 3))
    said = s.read(1, "a")
    s.members[1].resume()
    s.settle()
    expect(said == [], f"a stale read: {said}")
    s.tick([2], 2, among=())
    expect(said in ([], ["new"]) and not s.leads(1), "it steps down")
    fresh = s.read(1, "a")
    s.deliver()
    expect(fresh == ["new"], "asked again, it asks the leader")


@scenario
def a_leader_cut_off_answers_no_read() -> None:
    """Its followers' older answers don't count for a newer read."""
    s = Stage(5)
    s.lead(1)
    s.write(1, "a=old")
    s.deliver()
    first = s.read(1, "a")
    late = []
    for message in s.take(lambda m: m.type == MessageType.HEARTBEAT):
        s.hand(message)
        late += s.take(lambda m: m.type == MessageType.HEARTBEAT_RESP)
    s.net = []
    s.lead(2, (2, 3, 4, 5))
    s.write(2, "a=new")
    s.deliver((2, 3, 4, 5))
    second = s.read(1, "a")
    for message in late:
        s.hand(message)
    expect(second == [], f"a stale read: {second}")
    expect(first in ([], ["old"]), "the first one was asked while it led")


@scenario
def a_new_leader_reads_what_the_old_one_acknowledged() -> None:
    """It knows what is committed only once something of its own term is."""
    s = Stage(3)
    s.lead(1)
    answers = s.write(1, "a=1")
    s.deliver((1, 2), only=lambda m: m.type != MessageType.APP or bool(m.entries))
    expect(answers == [True], "acknowledged; 2 doesn't know it yet")
    s.crash(1)
    s.tick([2, 3], 15)
    s.elect(2, (2, 3))
    appends = s.net
    said = s.read(2, "a")
    s.deliver((2, 3), only=lambda m: m.type in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP))
    expect(said in ([], ["1"]), f"a stale read: {said}")
    s.net = appends
    s.deliver((2, 3))
    expect(said == ["1"], "answered once it knows")


@scenario
def a_sole_voter_reads_what_it_acknowledged() -> None:
    """It restarts with an older commit than it acknowledged: a commit alone isn't synced."""
    s = Stage(1, as_managers=True)
    s.lead(1)
    answers = s.write(1, "a=1")
    s.settle()
    expect(answers == [True], "acknowledged")
    s.restart(1)
    s.syncs = False
    s.campaign(1)
    said = [s.read(1, "a")]
    for _ in range(40):
        said.append(s.read(1, "a"))
        s.clock.run(s.clock.now + 0.02)
    s.syncs = True
    s.settle()
    said.append(s.read(1, "a"))
    s.settle()
    expect(all(answer in ([], ["1"]) for answer in said), f"a stale read: {said}")
    expect(said[-1] == ["1"], "then it reads")


@scenario
def a_sole_voter_answers_others() -> None:
    """A learner asks the sole voter that has just restarted: its answer isn't of before."""
    s = Stage(conf=ConfState(voters=(1,), learners=(2,)), as_managers=True)
    s.lazy = True
    s.lead(1)
    s.write(1, "a=0")
    s.deliver()
    answers = s.write(1, "a=1")
    expect(answers == [True], "acknowledged; 2 hasn't heard of it")
    s.net = []
    s.crash(1)
    s.members[1].start()
    s.syncs = False
    s.campaign(1)
    s.clock.run(s.clock.now + 0.3)  # it leads, and its empty entry isn't safe yet
    said = s.read(2, "a")
    for _ in range(20):
        for message in s.take(lambda m: m.type == MessageType.READ_INDEX):
            s.hand(message)
        s.clock.run(s.clock.now + 0.05)
    s.syncs = True
    s.tick([1], 4, among=())
    expect(said == ["1"], f"a stale read: {said}")
