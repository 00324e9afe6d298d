"""Five members left to chance: lost, doubled and reordered messages, crashes, snapshots, changes of membership.

Whatever happens: one leader in a term, one history, no stale read. And to show that this test sees something, bugs
are planted that it must find.
"""

import random
from dataclasses import dataclass, field, replace

import pytest
from core_cluster import Cluster, led, v2

from manager.raft.core import node as node_module
from manager.raft.core.config import Config
from manager.raft.core.errors import ConfChangeRefused, Inconsistent, ProposalDropped, StepPeerNotFound
from manager.raft.core.log import RaftLog
from manager.raft.core.messages import (
    AFTER_APPEND,
    NO_LIMIT,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    Role,
    Snapshot,
    SnapshotMetadata,
    decode_entry,
)
from manager.raft.core.node import RawNode
from manager.raft.core.storage import MemoryStorage

MEMBERS = (1, 2, 3, 4, 5)
FIRST = ConfState(voters=(1, 2, 3))


class Broken(AssertionError):
    """A promise of the agreement was broken."""


@dataclass
class Machine:
    """What survives a crash, and the member that doesn't."""

    config: Config
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    applied: int = 1
    conf_state: ConfState = FIRST
    node: RawNode = field(init=False)

    def __post_init__(self) -> None:
        self.storage.apply_snapshot(Snapshot(SnapshotMetadata(FIRST, 1, 1)))
        self.restart()

    def restart(self) -> None:
        self.save()
        self.node = RawNode(replace(self.config, applied=self.applied), self.storage)

    def save(self) -> None:
        if self.applied > self.storage.snapshot().metadata.index:
            self.storage.create_snapshot(self.applied, self.conf_state, b"")


class Chance:
    """One run; of a Ready's messages those in `wait_for_disk` are sent after its entries are written."""

    def __init__(self, seed: int, wait_for_disk: frozenset[MessageType] = AFTER_APPEND) -> None:
        self.random = chance = random.Random(seed)
        self.wait_for_disk = wait_for_disk
        settings = {
            "pre_vote": chance.random() < 0.5,
            "check_quorum": chance.random() < 0.5,
            "step_down_on_removal": chance.random() < 0.5,
            "max_size_per_msg": chance.choice([NO_LIMIT, 40, 100]),
            "max_inflight_msgs": chance.choice([1, 2, 256]),
            "max_committed_size_per_ready": chance.choice([0, 1, 60]),
            "max_uncommitted_entries_size": chance.choice([0, 50]),
        }
        self.machines = {
            id_: Machine(
                Config(id=id_, election_tick=10, heartbeat_tick=1, random=chance.randrange, **settings)
            )
            for id_ in MEMBERS
        }
        self.network: list[Message] = []
        self.cut: set[int] = set()
        self.history: dict[int, Entry] = {}
        self.leaders: dict[int, int] = {}
        self.reads: dict[bytes, int] = {}

    def run(self, steps: int) -> None:
        for number in range(steps):
            id_ = self.random.choice(MEMBERS)
            try:
                self.step(id_, number)
            except (ProposalDropped, StepPeerNotFound):
                continue
            finally:
                self.check()

    def step(self, id_: int, number: int) -> None:
        machine = self.machines[id_]
        what = self.random.choices(
            ("tick", "deliver", "ready", "propose", "change", "read", "crash", "compact", "cut", "other"),
            (25, 28, 35, 7, 1.5, 1, 1, 0.5, 0.3, 1.5),
        )[0]
        if what == "tick":
            machine.node.tick()
        elif what == "deliver" and self.network:
            self.deliver()
        elif what == "ready" and machine.node.has_ready():
            self.handle(machine)
        elif what == "propose":
            machine.node.propose(b"%d" % number)
        elif what == "change":
            machine.node.propose_conf_change(self.any_change())
        elif what == "read":
            self.reads[b"%d" % number] = max(self.history, default=0)
            machine.node.read_index(b"%d" % number)
        elif what == "crash":
            machine.restart()
        elif what == "compact" and machine.applied > machine.storage.first_index() + 3:
            machine.save()
            machine.storage.compact(machine.applied - self.random.randrange(3))
        elif what == "cut":
            self.cut = set() if self.cut else set(self.random.sample(MEMBERS, 2))
        elif what == "other":
            self.other(machine.node)

    def any_change(self) -> ConfChangeV2:
        kinds = (*ConfChangeType, ConfChangeType.ADD_NODE)
        singles = tuple(
            ConfChangeSingle(self.random.choice(kinds), self.random.choice(MEMBERS))
            for _ in range(self.random.choice((0, 1, 1, 2, 3)))
        )
        return ConfChangeV2(self.random.choice(tuple(ConfChangeTransition)), singles)

    def other(self, node: RawNode) -> None:
        who = self.random.choice(MEMBERS)
        self.random.choice(
            (
                lambda: node.transfer_leader(who),
                lambda: node.report_unreachable(who),
                lambda: node.report_snapshot(who, self.random.random() < 0.5),
                node.forget_leader,
            )
        )()

    def deliver(self) -> None:
        message = self.network.pop(self.random.randrange(min(len(self.network), 8)))
        fate = self.random.random()
        if fate < 0.05 or (message.to in self.cut) != (message.from_ in self.cut):
            return
        if fate < 0.08:
            self.network.append(message)
        self.machines[message.to].node.step(message)

    def handle(self, machine: Machine) -> None:
        ready = machine.node.ready()
        self.network += [m for m in ready.messages if m.type not in self.wait_for_disk]
        if self.random.random() < 0.02:
            machine.restart()  # before anything was written
            return
        if ready.snapshot is not None:
            machine.storage.apply_snapshot(ready.snapshot)
            at = ready.snapshot.metadata
            machine.applied, machine.conf_state = at.index, at.conf_state
        machine.storage.append(ready.entries)
        if ready.hard_state is not None:
            machine.storage.set_hard_state(ready.hard_state)
        self.network += [m for m in ready.messages if m.type in self.wait_for_disk]
        for read in ready.read_states:
            if read.index < self.reads[read.context]:
                raise Broken("a stale read")
        for entry in ready.committed_entries:
            self.apply(machine, entry)
        machine.node.advance()

    def apply(self, machine: Machine, entry: Entry) -> None:
        if entry.index != machine.applied + 1 or self.history.setdefault(entry.index, entry) != entry:
            raise Broken(f"two histories at {entry.index}")
        machine.applied = entry.index
        if entry.type != EntryType.NORMAL:
            try:
                machine.conf_state = machine.node.apply_conf_change(decode_entry(entry))
            except ConfChangeRefused:
                return  # by all alike

    def check(self) -> None:
        for id_, machine in self.machines.items():
            raft = machine.node.raft
            if raft.state == Role.LEADER and self.leaders.setdefault(raft.term, id_) != id_:
                raise Broken(f"two leaders in term {raft.term}")
            log = raft.log
            if not log.applied <= log.applying <= log.committed <= log.last_index():
                raise Broken(f"{id_} applied what isn't committed")
        del self.network[:-200]


@pytest.mark.parametrize("seed", range(40))
def test_left_to_chance(seed):
    run = Chance(seed)
    run.run(3000)
    assert run.leaders or run.history == {}


def test_it_goes_on():
    """The runs above would prove nothing if nothing was ever agreed."""
    agreed = 0
    for seed in range(10):
        run = Chance(seed)
        run.run(3000)
        agreed += len(run.history)
    assert agreed > 100


def must_find(wait_for_disk: frozenset[MessageType] = AFTER_APPEND) -> None:
    for seed in range(200):
        Chance(seed, wait_for_disk).run(3000)


def test_answers_before_the_disk_are_found():
    with pytest.raises((Broken, Inconsistent)):
        must_find(frozenset())


def test_votes_for_any_log_are_found(monkeypatch):
    monkeypatch.setattr(RaftLog, "is_up_to_date", lambda self, index, term: True)
    with pytest.raises((Broken, Inconsistent)):
        must_find()


def test_forgotten_votes_are_found(monkeypatch):
    """A vote that isn't written: two leaders in one term."""
    ready = node_module.RawNode.ready

    def forgetful(self):
        made = ready(self)
        return (
            made
            if made.hard_state is None
            else type(made)(
                made.soft_state,
                None,
                made.read_states,
                made.entries,
                made.snapshot,
                made.committed_entries,
                made.messages,
            )
        )

    monkeypatch.setattr(node_module.RawNode, "ready", forgetful)
    with pytest.raises((Broken, Inconsistent)):
        must_find()


def test_a_candidate_needs_both_halves_of_a_joint_membership():
    cluster = led(3)
    cluster.add(2)
    cluster[1].propose_conf_change(v2("-2 -3 +4 +5", ConfChangeTransition.JOINT_EXPLICIT))
    cluster.quiet()
    assert str(cluster[4].status().config) == "voters=(1 4 5)&&(1 2 3)"
    cluster[4].campaign()
    cluster.quiet(4, 5)
    assert cluster[4].status().soft_state.state == Role.CANDIDATE
    cluster.quiet(4, 2)
    assert cluster[4].status().soft_state.state == Role.CANDIDATE
    cluster.quiet(4, 3)
    assert cluster[4].status().soft_state.state == Role.LEADER


def test_ways_that_no_member_takes():
    cluster = led(3)
    with pytest.raises(Inconsistent):
        cluster[2].raft.become_leader()
    for way in (cluster[1].raft.become_candidate, cluster[1].raft.become_pre_candidate):
        with pytest.raises(Inconsistent):
            way()
    cluster[1].campaign()
    assert not cluster[1].has_ready()


def test_a_member_alone_in_its_own_membership():
    cluster = Cluster()
    cluster.add(1)
    cluster[1].campaign()
    for _ in range(20):
        cluster[1].tick()
    assert not cluster[1].has_ready()
    assert cluster[1].apply_conf_change(v2("+1")) == ConfState(voters=(1,))
    cluster[1].campaign()
    cluster.quiet()
    assert cluster[1].status().soft_state.state == Role.LEADER
