"""A few members in one place: messages wait until they are delivered, and every step is told in short lines.

A line of a message: `1>2 APP t1 @1/11 [1/12:x] c11` is from 1 to 2 in term 1, after entry 11 of term 1, with entry 12
of term 1 and data x, 11 committed. A line of a Ready: `1: leader lead=1 | t1 v1 c11 sync | save 1/12 | apply 1/11`,
its messages indented below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from textwrap import dedent

from manager.raft.core.config import Config
from manager.raft.core.errors import Compacted, RaftError
from manager.raft.core.messages import (
    AnyConfChange,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Message,
    Snapshot,
    SnapshotMetadata,
    decode_entry,
)
from manager.raft.core.node import RawNode, Ready
from manager.raft.core.progress import describe_progress
from manager.raft.core.storage import MemoryStorage

SIGNS = {
    "+": ConfChangeType.ADD_NODE,
    "-": ConfChangeType.REMOVE_NODE,
    "~": ConfChangeType.UPDATE_NODE,
    "l": ConfChangeType.ADD_LEARNER_NODE,
}


def singles(text: str) -> tuple[ConfChangeSingle, ...]:
    """`+1 -2 l3` as changes."""
    return tuple(ConfChangeSingle(SIGNS[word[0]], int(word[1:])) for word in text.split())


def v1(text: str) -> ConfChange:
    """One change in the older form."""
    (single,) = singles(text)
    return ConfChange(single.type, single.node_id)


def v2(text: str, transition: ConfChangeTransition = ConfChangeTransition.AUTO) -> ConfChangeV2:
    """Several in the newer one."""
    return ConfChangeV2(transition, singles(text))


def show_change(change: AnyConfChange) -> str:
    signs = {kind: sign for sign, kind in SIGNS.items()}
    newer = change.to_v2()
    form = "v1" if isinstance(change, ConfChange) else "v2"
    return " ".join([form, *(f"{signs[single.type]}{single.node_id}" for single in newer.changes)])


def show_entry(entry: Entry) -> str:
    text = f"{entry.term}/{entry.index}"
    if entry.type != EntryType.NORMAL:
        return f"{text}:({show_change(decode_entry(entry))})"
    return f"{text}:{entry.data.decode()}" if entry.data else text


def show_entries(entries: Iterable[Entry]) -> str:
    return " ".join(map(show_entry, entries))


def show_message(m: Message) -> str:
    text = f"{m.from_}>{m.to} {m.type.name} t{m.term} @{m.log_term}/{m.index}"
    if m.reject:
        text += f" refused, try {m.reject_hint}" if m.reject_hint else " refused"
    if m.entries:
        text += f" [{show_entries(m.entries)}]"
    if m.commit:
        text += f" c{m.commit}"
    if m.snapshot is not None:
        at = m.snapshot.metadata
        text += f" snapshot {at.term}/{at.index} of {' '.join(map(str, at.conf_state.voters))}"
    if m.context:
        text += f" '{m.context.decode()}'"
    return text


def show_ready(id_: int, ready: Ready) -> list[str]:
    parts = []
    if ready.soft_state is not None:
        parts.append(f"{ready.soft_state.state.name.lower()} lead={ready.soft_state.lead}")
    if ready.hard_state is not None:
        hard = ready.hard_state
        parts.append(f"t{hard.term} v{hard.vote} c{hard.commit}" + (" sync" if ready.must_sync else ""))
    elif ready.must_sync:
        parts.append("sync")
    if ready.snapshot is not None:
        at = ready.snapshot.metadata
        parts.append(f"snapshot {at.term}/{at.index}")
    if ready.read_states:
        parts.append(
            "read " + " ".join(f"{read.context.decode()}@{read.index}" for read in ready.read_states)
        )
    if ready.entries:
        parts.append(f"save {show_entries(ready.entries)}")
    if ready.committed_entries:
        parts.append(f"apply {show_entries(ready.committed_entries)}")
    return [f"{id_}: {' | '.join(parts)}".rstrip(), *("  " + show_message(m) for m in ready.messages)]


class FreshStorage(MemoryStorage):
    """A storage whose snapshot is always the state that is applied now."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        return self.fresh or super().snapshot()


class Member:
    """A member with its storage, and what it has applied."""

    def __init__(self, config: Config, storage: FreshStorage) -> None:
        self.storage = storage
        self.node = RawNode(config, storage)
        self.applied: list[Entry] = []
        self.conf_state = storage.snapshot().metadata.conf_state


class Cluster:
    """Members 1 to n, and the messages between them, in the order in which they were sent."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings
        self.members: dict[int, Member] = {}
        self.messages: list[Message] = []
        self.told: list[str] = []

    def add(
        self,
        count: int,
        voters: tuple[int, ...] = (),
        learners: tuple[int, ...] = (),
        index: int = 0,
        **settings: object,
    ) -> None:
        """Adds members that begin with a snapshot at `index`, of term 1."""
        for _ in range(count):
            id_ = len(self.members) + 1
            storage = FreshStorage()
            if index:
                state = ConfState(voters=voters, learners=learners)
                storage.apply_snapshot(Snapshot(SnapshotMetadata(state, index, 1)))
            given = {
                "election_tick": 3,
                "heartbeat_tick": 1,
                "random": lambda n: 0,
                "max_inflight_msgs": 1 << 30,
            }
            config = Config(id=id_, applied=index, **{**given, **self.settings, **settings})  # type: ignore[arg-type]
            self.members[id_] = Member(config, storage)

    def __getitem__(self, id_: int) -> RawNode:
        return self.members[id_].node

    def tell(self) -> list[str]:
        """What happened since the last time."""
        told, self.told = self.told, []
        return told

    def attempt(self, call: Callable[[], None]) -> None:
        """Does something that may be refused."""
        try:
            call()
        except RaftError as exc:
            self.told.append(f"! {type(exc).__name__}")

    def handle(self, id_: int) -> None:
        """One Ready of a member."""
        member = self.members[id_]
        node, storage = member.node, member.storage
        ready = node.ready()
        self.told += show_ready(id_, ready)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        if ready.snapshot is not None:
            storage.apply_snapshot(ready.snapshot)
            storage.fresh = ready.snapshot
            member.conf_state = ready.snapshot.metadata.conf_state
        storage.append(ready.entries)
        for entry in ready.committed_entries:
            member.applied.append(entry)
            if entry.type != EntryType.NORMAL:
                member.conf_state = node.apply_conf_change(decode_entry(entry))
                self.told.append(f"  {id_} in {node.raft.tracker.config}")
            metadata = SnapshotMetadata(member.conf_state, entry.index, entry.term)
            storage.fresh = Snapshot(metadata, b"state")
        self.messages += ready.messages
        node.advance()

    def deliver(self, id_: int, *, drop: bool = False) -> None:
        """Everything that waits for a member."""
        waiting = [m for m in self.messages if m.to == id_]
        self.messages = [m for m in self.messages if m.to != id_]
        for message in waiting:
            if not drop and id_ in self.members:
                self.attempt(partial(self[id_].step, message))

    def settle(self, *ids: int) -> list[str]:
        """Until these members (all, if none is named) have nothing to do; tells what happened."""
        chosen = ids or tuple(self.members)
        for _ in range(1000):
            busy = False
            for id_ in chosen:
                if self[id_].has_ready():
                    busy = True
                    self.handle(id_)
            for id_ in chosen:
                if any(m.to == id_ for m in self.messages):
                    busy = True
                    self.deliver(id_)
            if not busy:
                return self.tell()
        raise AssertionError("they never settle")

    def quiet(self, *ids: int) -> None:
        """Settles without a word."""
        self.settle(*ids)

    def compact(self, id_: int, index: int) -> None:
        """The storage forgets entries, without a snapshot."""
        try:
            self.members[id_].storage.compact(index)
        except Compacted:
            self.told.append("! Compacted")

    def progress(self, id_: int) -> list[str]:
        """A leader's view."""
        return describe_progress(self[id_].status().progress).splitlines()

    def log(self, id_: int) -> str:
        """What a member's storage holds."""
        storage = self.members[id_].storage
        first, last = storage.first_index(), storage.last_index()
        return show_entries(storage.entries(first, last + 1, 1 << 60)) if first <= last else ""

    def roles(self) -> list[str]:
        """Role, term and leader of each."""
        return [
            f"{id_} {s.soft_state.state.name.lower()} t{s.hard_state.term} lead={s.soft_state.lead}"
            for id_, s in ((i, m.node.status()) for i, m in self.members.items())
        ]

    def rewrite(self, change: Callable[[Message], bool]) -> None:
        """Loses the messages for which `change` is true."""
        self.messages = [m for m in self.messages if not change(m)]


def lines(text: str) -> list[str]:
    """What a test expects, as indented text."""
    return dedent(text).strip("\n").splitlines()


def led(count: int, index: int = 2, **settings: object) -> Cluster:
    """So many voters, of whom 1 leads in term 1."""
    cluster = Cluster(**settings)
    cluster.add(count, tuple(range(1, count + 1)), index=index)
    cluster[1].campaign()
    cluster.quiet()
    return cluster
