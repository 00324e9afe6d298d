"""Every known trap of Raft, step by step: replication and elections. Those of reads are in directed_reads.py, those of
membership and snapshots in directed_membership.py. Each is a function that raises when the members do what they must not; test_directed.py runs
them on the core, catch.py on a core with a planted bug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from manager.raft.core.messages import Message, MessageType
from tests.simulation.raft.stage import Stage, expect

SCENARIOS: dict[str, Callable[[], None]] = {}


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Puts it into the list."""
    SCENARIOS[function.__name__] = function
    return function


def _plain(voters: int, **options: Any) -> Stage:
    """Without PreVote and CheckQuorum: those make some traps hard to get into."""
    return Stage(voters, pre_vote=False, check_quorum=False, **options)


# -- the log ------------------------------------------------------------------------------------------------------------


@scenario
def figure_8() -> None:
    """An entry of an older term on a majority isn't committed yet: a later leader may still replace it."""
    s = _plain(5, max_size_per_msg=1)
    s.elect(1, (1, 2, 3))
    s.deliver((1, 2))  # a: its empty entry gets to 2 only
    s.restart(1)
    s.elect(5, (3, 4, 5))  # b: 5 leads with an entry of its own at the same place
    s.restart(5)
    s.net = []
    s.elect(1, (1, 2, 3, 4))  # c: 1 leads again, and brings the old entry to 3, but not yet its new one
    newest = s.term(1)
    old = s.core(1).storage.term(2)

    for _ in range(8):
        s.members[1].do(lambda engine: engine.tick())
        for _ in range(3):
            talk = s.take(lambda m: {m.from_, m.to} <= {1, 2, 3})
            s.net = []
            for message in talk:
                new = any(entry.term == newest for entry in message.entries)
                s.hand(replace(message, entries=()) if new else message)
    expect(all(s.core(id_).storage.term(2) == old for id_ in (1, 2, 3)), "the old entry is on a majority")
    expect(s.commit(1) < 2, f"1 counts an old term's entry as committed: {s.commit(1)}")
    s.restart(1)
    s.net = []
    s.elect(5, (2, 3, 4, 5))  # d: 5 may lead, and replaces it everywhere
    s.deliver((2, 3, 4, 5))
    expect(all(s.core(i).storage.term(2) == s.core(5).storage.term(2) for i in (2, 3, 4)), "replaced")
    expect(s.commit(5) == s.core(5).storage.last_index(), "5's log is committed")


@scenario
def a_new_leader_commits_old_entries_with_its_own() -> None:
    """Figure 8's other end: with an entry of the new term on a majority, the old ones are safe."""
    s = _plain(5)
    s.elect(1, (1, 2, 3))
    s.deliver((1, 2))
    s.restart(1)
    s.lead(1, (1, 2, 3))
    expect(s.commit(1) == s.core(1).storage.last_index(), "all is committed")
    s.net = []
    for _ in range(3):
        s.campaign(5)
        s.deliver((3, 4, 5))
    expect(not s.leads(5), "5 lacks what is committed, and must not lead")


@scenario
def the_last_term_decides_who_may_lead() -> None:
    """A longer log of an older term is not as good as a shorter one of a newer term."""
    s = _plain(3)
    s.lead(1, (1, 2, 3))
    for number in range(5):
        s.write(1, f"a=lost{number}")  # 1's log grows, nobody hears it
    s.net = []
    s.crash(1)
    s.lead(2, (2, 3))
    s.write(2, "a=kept")
    s.deliver((2, 3))
    expect(s.value(2, "a") == "kept", "committed by 2 and 3")
    s.crash(2)
    s.members[1].start()
    s.net = []
    for _ in range(3):
        s.campaign(1)
        s.deliver((1, 3))
    expect(not s.leads(1), "1 must not lead with its older entries")
    s.lead(3, (1, 3))
    s.deliver((1, 3))
    expect(s.value(1, "a") == "kept", "1's own entries gave way")


@scenario
def old_appends_come_late() -> None:
    """An append that was overtaken by a newer one changes nothing, twice neither."""
    s = Stage(3)
    s.lead(1)
    s.write(1, "a=1")
    old = s.take(lambda m: m.type == MessageType.APP)
    expect(bool(old), "appends are on their way")
    s.net = list(old)
    s.deliver()
    for number in range(2, 6):
        s.write(1, f"a={number}")
        s.deliver((1, 2), only=lambda m: m.commit < s.commit(1) or m.type != MessageType.APP)
    before = list(s.log(2))
    for message in old * 2:
        s.hand(message)
    expect(s.log(2) == before, "an old append has cut the log")
    s.tick([1], 4, among=())
    expect(s.value(2, "a") == "5", "all is applied")


@scenario
def an_old_append_cuts_nothing_uncommitted() -> None:
    """Entries that were acknowledged and aren't known to be committed yet stay when an older append comes again."""
    s = Stage(3)
    s.lead(1)
    s.write(1, "a=1")
    first = s.take(lambda m: m.type == MessageType.APP and m.to == 2)
    s.hand(first[0])
    s.write(1, "a=2")
    for message in s.take(lambda m: m.type == MessageType.APP and m.to == 2):
        s.hand(message)
    s.net = []
    last = s.members[2].disk.last_index
    s.hand(first[0])
    expect(s.members[2].disk.last_index == last, "an old append has cut acknowledged entries")
    s.deliver()


@scenario
def a_stale_leaders_appends() -> None:
    """What an old leader still sends doesn't get into anybody's log, and it learns that it is over."""
    s = Stage(3)
    s.lead(1)
    answers = s.write(1, "a=stale")
    stale = s.take(lambda m: True)
    s.lead(2, (2, 3))
    s.write(2, "a=new")
    s.deliver((2, 3))
    for message in stale:
        s.hand(message)
    expect(not any(entry.data == b"a=stale" for entry in s.log(2) + s.log(3)), "an old leader was obeyed")
    s.tick([2], 4, among=())
    expect(not s.leads(1) and answers == [], "1 has stepped down, and has promised nothing")
    expect(s.value(1, "a") == "new", "1 follows")


@scenario
def a_heartbeat_commits_only_what_is_there() -> None:
    """The commit that a heartbeat carries never reaches beyond what the follower has acknowledged."""
    s = _plain(3)
    s.lead(1)
    s.write(1, "a=1")
    s.deliver((1, 2))
    s.tick([1], 2)
    s.members[1].do(lambda engine: engine.tick())
    s.tick([1], 4, among=(1, 3))
    expect(s.commit(3) <= s.members[3].disk.last_index, "3 believes in entries that it hasn't")


@scenario
def a_follower_commits_only_what_matches() -> None:
    """An append's commit counts no further than the entries that it has proved to be the leader's."""
    s = _plain(3)
    s.lead(1)
    for number in range(3):
        s.write(1, f"a=lost{number}")
    s.net = []
    s.crash(1)
    s.lead(2, (2, 3))
    for number in range(3):
        s.write(2, f"a=kept{number}")
    s.deliver((2, 3))
    s.members[1].start()
    term, base = s.term(2), s.core(2).storage.term(2)
    # 2's empty append at a place where both logs still agree, with its high commit.
    s.hand(Message(MessageType.APP, to=1, from_=2, term=term, index=2, log_term=base, commit=s.commit(2)))
    expect(s.commit(1) <= 2, "1 takes its own old entries for committed")
    s.tick([2], 2, among=())
    expect(s.value(1, "a") == "kept2", "1 follows")


# -- elections ----------------------------------------------------------------------------------------------------------


@scenario
def a_vote_survives_a_restart() -> None:
    """A member that voted, died and came back doesn't vote for another one in the same term."""
    s = _plain(3)
    s.campaign(1)
    for message in s.take(lambda m: m.type == MessageType.VOTE and m.to == 2):
        s.hand(message)
    first = s.take(lambda m: m.type == MessageType.VOTE_RESP and m.from_ == 2)
    expect([m.reject for m in first] == [False], "2 votes for 1")
    s.restart(2)
    s.campaign(3)
    expect(s.term(3) == s.term(1), "both stand in one term")
    for message in s.take(lambda m: m.type == MessageType.VOTE and m.to == 2):
        s.hand(message)
    again = s.take(lambda m: m.type == MessageType.VOTE_RESP and m.to == 3 and m.from_ == 2)
    expect([m.reject for m in again] == [True], "2 votes twice in one term")
    for message in first:
        s.hand(message)
    expect(s.leads(1) and not s.leads(3), "1 is elected, 3 isn't")


@scenario
def nothing_is_said_before_it_is_safe() -> None:
    """A member that dies before its disk has synced has promised nothing; after that it keeps what it promised."""
    s = _plain(3)
    s.campaign(1)
    s.syncs = False
    vote = s.take(lambda m: m.type == MessageType.VOTE and m.to == 2)
    s.hand(vote[0])
    expect(not s.take(lambda m: m.from_ == 2), "2 says its vote before it is safe")
    s.crash(2)
    s.syncs = True
    s.members[2].start()
    s.hand(vote[0])
    s.deliver((1, 2))
    expect(s.leads(1), "asked again, it votes")
    answers = s.write(1, "a=1")
    append = s.take(lambda m: m.type == MessageType.APP and m.to == 2 and bool(m.entries))
    s.syncs = False
    s.hand(append[-1])
    expect(not s.take(lambda m: m.from_ == 2), "2 acknowledges what isn't safe")
    s.crash(2)
    s.syncs = True
    expect(answers == [], "nothing is acknowledged to the client")
    s.members[2].start()
    expect(all(entry.data != b"a=1" for entry in s.log(2)), "2 has lost it, and nobody was told otherwise")
    s.hand(append[-1])
    s.crash(2)  # it is safe now, and its answer is lost
    s.net = []
    s.members[2].start()
    expect(any(entry.data == b"a=1" for entry in s.log(2)), "what is safe is there after a restart")
    s.tick([1], 4, among=(1, 2))
    expect(answers == [True], "and it is committed with it")


@scenario
def a_leader_counts_its_own_entries_when_they_are_safe() -> None:
    """Two voters: the other one has it, the leader's own disk hasn't yet, so that it isn't committed."""
    s = Stage(2)
    s.lead(1)
    s.syncs = False
    before = s.commit(1)
    s.write(1, "a=1")
    s.clock.run(s.clock.now)  # nothing is due: 1's disk still syncs, what may go ahead has gone
    append = s.take(lambda m: m.type == MessageType.APP)
    expect(bool(append), "appends go ahead of the disk")
    s.crash(1)
    s.syncs = True
    s.hand(append[0])
    for message in s.take(lambda m: m.type == MessageType.APP_RESP):
        s.hand(message)
    s.members[1].start()
    expect(s.commit(1) <= before, "it was not committed")
    s.lead(2)
    s.tick([2], 2, among=())
    expect(s.value(1, "a") == "1", "2 has it and makes it so")


@scenario
def asking_first_changes_no_term() -> None:
    """A member that was cut off for long comes back without a newer term, and the leader stays."""
    s = Stage(3)
    s.lead(1)
    term = s.term(1)
    s.tick([3], 300)
    s.deliver((3,))
    expect(s.term(3) == term, f"3 has counted terms up alone: {s.term(3)}")
    s.tick([1, 2, 3], 60, among=(1, 2, 3))
    expect(s.leads(1) and s.term(1) == s.term(2) == term, "the leader was disturbed")
    s.write(1, "a=1")
    s.deliver((1, 2))
    s.crash(1)
    s.tick([2, 3], 15)
    s.campaign(3)
    for message in s.take(lambda m: m.type == MessageType.PRE_VOTE and m.to == 2):
        s.hand(message)
    expect(s.term(2) == term, "to be asked by one that can't win has changed the term")


@scenario
def who_hears_its_leader_deposes_nobody() -> None:
    """A candidate of a higher term gets no votes as long as the others hear their leader."""
    s = Stage(3, pre_vote=False)
    s.lead(1)
    s.tick([1, 2], 4, among=(1, 2))
    term = s.term(1)
    for _ in range(3):
        s.campaign(3)
        votes = s.take(lambda m: m.type == MessageType.VOTE)
        for message in votes:
            s.hand(message)
    expect(not s.leads(3) and s.term(1) == s.term(2) == term, "a leader that is heard was deposed")


@scenario
def two_of_two() -> None:
    """Two voters need each other: alone neither leads nor commits, and a leader left alone steps down."""
    s = Stage(2)
    s.lead(1)
    s.write(1, "a=1")
    s.deliver()
    expect(s.value(2, "a") == "1", "together they commit")
    answers = s.write(1, "a=2")
    s.tick([1], 60)
    expect(answers == [] and s.value(1, "a") == "1", "alone it commits nothing")
    expect(not s.leads(1), "alone it doesn't stay leader")
    s.tick([2], 60)
    expect(not s.leads(2), "nor does the other one become one")
    s.restart(2)
    s.tick([1, 2], 60, among=(1, 2))
    expect(s.leader() != 0, "together they have a leader again")


@scenario
def leadership_goes_to_one_that_lags() -> None:
    """It is brought up to date first; meanwhile nothing is proposed; unreachable, it is given up."""
    s = Stage(3)
    s.lead(1)
    for number in range(4):
        s.write(1, f"a={number}")
        s.deliver((1, 2))
    s.members[1].do(lambda engine: engine.transfer(3))
    expect(not s.take(lambda m: m.type == MessageType.TIMEOUT_NOW), "3 isn't ready to lead")
    expect(s.write(1, "a=no") == [False], "nothing is proposed while leadership is handed over")
    s.tick([1], 11, among=(1, 2))
    expect(s.leads(1), "3 doesn't answer")
    s.write(1, "a=yes")
    s.deliver((1, 2))
    expect(s.value(1, "a") == "yes", "given up, it goes on")
    s.members[1].do(lambda engine: engine.transfer(3))
    s.tick([1], 4, among=())
    expect(s.leads(3) and not s.leads(1), "once 3 is up to date it leads")
    s.deliver()
    expect(s.value(3, "a") == "yes", "with all that is committed")
