"""One member without I/O: the core, its log in memory, the membership table, and what waits for an index.

The runner (group.py on the wire, the simulator in virtual time) calls `tick`, `step`, `propose`, `read`, `change`, and
while `busy`: takes `work()`, saves it, sends its messages, hands on what is committed, and calls `done(work)`. Messages in
`Work.early` promise nothing and may leave before the save. What the machine above holds is told by `applied`. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from manager.raft.core.config import Config
from manager.raft.core.errors import (
    ConfChangeRefused,
    Inconsistent,
    ProposalDropped,
    RaftError,
)
from manager.raft.core.messages import (
    AnyConfChange,
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Role,
    Snapshot,
    decode,
    entry_type,
)
from manager.raft.core.node import RawNode, Ready
from manager.raft.members import Members
from manager.raft.stable import StableLog

_EARLY: Final = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
KEEP_ENTRIES: Final = 500
"""Entries kept behind a snapshot for followers that are a little late."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How a member behaves, in ticks and bytes."""

    election_ticks: int = 10
    heartbeat_ticks: int = 4
    message_bytes: int = 64 << 10
    inflight_messages: int = 256
    uncommitted_bytes: int = 64 << 20
    snapshot_interval: int = 10_000
    keep_entries: int = KEEP_ENTRIES


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Start:
    """What a member begins with: what its disk holds."""

    raft_id: int
    state: HardState = field(default_factory=HardState)
    entries: tuple[Entry, ...] = ()
    index: int = 0  # of the snapshot
    term: int = 0
    conf_state: ConfState = field(default_factory=ConfState)
    members: Members = field(default_factory=Members)


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry that somebody waits for: `token` comes back with its fate."""

    token: Any
    term: int
    type: EntryType = EntryType.NORMAL


@dataclass(frozen=True, slots=True)
class Committed:
    """An entry to be applied, and the proposal that made it, if that was ours. `change` says that membership changed."""

    entry: Entry
    token: Any = None
    change: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, in this order: early messages, save, messages, committed, reads."""

    state: HardState | None
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    early: tuple[Message, ...]
    messages: tuple[Message, ...]
    committed: tuple[Committed, ...]
    reads: tuple[ReadState, ...]
    lost: tuple[Any, ...]  # tokens of proposals whose fate this member can't tell any more
    must_sync: bool

    @property
    def saves(self) -> bool:
        """Whether there is anything for the disk."""
        return self.state is not None or bool(self.entries) or self.snapshot is not None


class Refused(Exception):
    """A proposal or change that this member can't take now; nothing was written. The text says why."""


class NotLeading(Refused):
    """The same: the leader could take it, or this member in a moment."""


class Replica:
    """See the module's text. Not safe for threads."""

    def __init__(
        self,
        start: Start,
        random: Callable[[int], int],
        limits: Limits = DEFAULT_LIMITS,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.raft_id: Final = start.raft_id
        self.limits: Final = limits
        self.members = start.members
        self.conf_state = start.conf_state
        self._storage = StableLog(start.conf_state, start.index, start.term, start.entries, start.state)
        self._node = RawNode(_config(start, random, limits, log), self._storage)
        self._waiting: dict[int, Proposal] = {}
        self._history: deque[tuple[int, ConfState, Members]] = deque(
            [(start.index, start.conf_state, start.members)]
        )
        self._lead = 0
        self._role = Role.FOLLOWER
        self._parting = 0  # ticks
        self._lost: list[Any] = []
        self._taken = False  # a Ready is under way
        self._held: list[Callable[[], None]] = []  # reads that came before the leader's own first entry
        self.handed = start.index  # the last entry that was handed on to be applied

    # ---- what it is

    @property
    def term(self) -> int:
        return self._node.raft.term

    @property
    def lead(self) -> int:
        """Raft id of the leader it knows, 0 without one."""
        return self._lead

    @property
    def is_leader(self) -> bool:
        return self._role is Role.LEADER

    @property
    def alone(self) -> bool:
        """Whether it is the only member, so that it needs nobody to go on."""
        state = self.conf_state
        return state.voters == (self.raft_id,) and not state.learners and not state.voters_outgoing

    @property
    def last_index(self) -> int:
        return self._node.raft.log.last_index()

    @property
    def hard_state(self) -> HardState:
        return self._node.raft.hard_state()

    def match(self, raft_id: int) -> int:
        """Up to where that member's log is known to agree; 0 where this one does not lead."""
        progress = self._node.raft.tracker.progress.get(raft_id)
        return progress.match if progress is not None else 0

    def abandon(self) -> tuple[Any, ...]:
        """Tokens of the proposals under way; nobody will be told of their fate any more."""
        tokens = tuple(p.token for p in self._waiting.values())
        self._waiting.clear()
        return tokens

    # ---- what comes in

    def tick(self) -> None:
        """A leader that is no voter any more goes on for one election timeout, to tell the others: it may be the only one
        that knows that its removal is agreed on, and they would wait for its vote for ever."""
        self._node.tick()
        state = self.conf_state
        votes = self.raft_id in state.voters or self.raft_id in state.voters_outgoing
        self._parting = self._parting + 1 if self.is_leader and not votes else 0
        if self._parting > self.limits.election_ticks:
            self._node.raft.become_follower(self.term, 0)

    def campaign(self) -> None:
        self._node.campaign()

    def step(self, message: Message) -> None:
        """Takes a message; one that makes no sense here is dropped. Raises Inconsistent when the log contradicts what was
        agreed: the member must stop."""
        if message.to != self.raft_id or message.from_ in self.members.removed:
            return
        if message.type is MessageType.READ_INDEX and self._must_wait():
            self._held.append(lambda: self.step(message))
            return
        try:
            self._node.step(message)
        except Inconsistent:
            raise
        except RaftError:
            return

    def propose(self, data: bytes, token: Any) -> None:
        """Appends an entry if this member leads; `token` comes back in Work.committed or Work.lost. Raises Refused."""
        self._append(lambda: self._node.propose(data), token, EntryType.NORMAL)

    def change(self, change: AnyConfChange, token: Any) -> None:
        """The same for a change of membership."""
        if not self.members.allows(change):
            raise Refused("this id was removed from the swarm, or the node is a manager already")
        if not self.settled:
            raise Refused("another change of the managers is under way")
        self._append(lambda: self._node.propose_conf_change(change), token, entry_type(change))

    @property
    def settled(self) -> bool:
        """Whether no change of membership is under way."""
        raft = self._node.raft
        return raft.pending_conf_index <= raft.log.applied and not self.conf_state.voters_outgoing

    def _append(self, propose: Callable[[], None], token: Any, type_: EntryType) -> None:
        if not self.is_leader:
            raise NotLeading("this manager does not lead")
        log = self._node.raft.log
        before = log.last_index()
        try:
            propose()
        except ProposalDropped as exc:
            raise NotLeading(str(exc)) from exc
        except RaftError as exc:
            raise Refused(str(exc)) from exc
        index = log.last_index()
        if index == before:
            raise NotLeading("the entry was not taken")
        self._waiting[index] = Proposal(token, self.term, type_)

    def read(self, context: bytes) -> None:
        """Asks for an index to read at; it comes in Work.reads, or never.

        A leader must have committed an entry of its own term first: a sole voter that has just started may have
        forgotten how far its log was committed. The core waits with that only where there are others to be asked.
        """
        if self._must_wait():
            self._held.append(lambda: self.read(context))
            return
        try:
            self._node.read_index(context)
        except RaftError:
            return

    def _must_wait(self) -> bool:
        return self.is_leader and not self._node.raft.committed_in_term()

    def transfer(self, raft_id: int) -> None:
        """Asks the leader to hand over."""
        self._node.transfer_leader(raft_id)

    def unreachable(self, raft_id: int) -> None:
        """Messages to that member could not be delivered."""
        self._node.report_unreachable(raft_id)

    def snapshot_sent(self, raft_id: int, ok: bool) -> None:
        """A snapshot reached that member, or did not."""
        self._node.report_snapshot(raft_id, ok)

    # ---- what goes out

    @property
    def busy(self) -> bool:
        return bool(self._lost) or self._node.has_ready()

    def work(self) -> Work:
        """The next batch; `done` must follow before the next one."""
        if not self._node.has_ready():
            return Work(None, (), None, (), (), (), (), self._take_lost(), False)
        ready, self._taken = self._node.ready(), True
        if ready.soft_state is not None:
            self._lead = ready.soft_state.lead
            self._became(ready.soft_state.state)
        leads = self.is_leader
        early = tuple(m for m in ready.messages if leads and m.type in _EARLY)
        messages = tuple(m for m in ready.messages if not (leads and m.type in _EARLY))
        self._store(ready)
        # The commit is saved with every entry, also if it was known before: a commit alone is not synced. A change of
        # membership is safe only if whoever holds it knows, even after a crash, that the one before it is committed.
        state = self._node.raft.hard_state() if ready.entries else ready.hard_state
        committed = tuple(self._committed(e) for e in ready.committed_entries)
        return Work(
            state, ready.entries, ready.snapshot, early, messages, committed, ready.read_states,
            self._take_lost(), ready.must_sync,
        )  # fmt: skip

    def done(self, work: Work) -> None:
        """`work` was saved, sent and handed on."""
        if work.committed:
            self.handed = work.committed[-1].entry.index
        if self._taken:
            self._taken = False
            self._node.advance()
        if self._held and not self._must_wait():
            held, self._held = self._held, []
            for again in held:
                again()

    def _became(self, role: Role) -> None:
        if self._role is Role.LEADER and role is not Role.LEADER:
            self._lost.extend(p.token for p in self._waiting.values())
            self._waiting.clear()
        self._role = role

    def _take_lost(self) -> tuple[Any, ...]:
        lost, self._lost = tuple(self._lost), []
        return lost

    def _store(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            meta = ready.snapshot.metadata
            self._storage.apply_snapshot(Snapshot(meta))
            self.conf_state = meta.conf_state
            self.handed = meta.index
        if ready.entries:
            self._storage.append(ready.entries)
        if ready.hard_state is not None:
            self._storage.set_hard_state(ready.hard_state)

    def restored(self, members: Members) -> None:
        """The membership table of a snapshot that has just come in."""
        self.members = members
        self._history = deque([(self.handed, self.conf_state, members)])

    def _committed(self, entry: Entry) -> Committed:
        token = None
        if (proposal := self._waiting.pop(entry.index, None)) is not None:
            if proposal.term == entry.term and proposal.type is entry.type:
                token = proposal.token
            else:
                self._lost.append(proposal.token)
        if entry.type is EntryType.NORMAL:
            return Committed(entry, token)
        self._take_change(entry)
        return Committed(entry, token, change=True)

    def _take_change(self, entry: Entry) -> None:
        change = decode(entry.type, entry.data)
        if isinstance(change, ConfChange | ConfChangeV2) and not self.members.allows(change):
            change = ConfChange(ConfChangeType.UPDATE_NODE, self.raft_id)  # the same on every member: nothing
        try:
            self.conf_state = self._node.apply_conf_change(change)
        except ConfChangeRefused:
            return
        self.members = self.members.after(change)
        self._history.append((entry.index, self.conf_state, self.members))
        self._storage.changed_at = entry.index

    # ---- snapshots

    @property
    def snapshot_due(self) -> bool:
        """Whether it is time for another one: so many entries were handed on since, or a member waits for one."""
        since = self.handed - self._storage.snapshot_index
        return since >= self.limits.snapshot_interval or (self._storage.wanted and since > 0)

    @property
    def snapshot_index(self) -> int:
        """Where the newest snapshot stands."""
        return self._storage.snapshot_index

    def at(self, index: int) -> tuple[int, ConfState, Members]:
        """Term and membership at an index that is applied and not compacted."""
        state, members = next((s, m) for i, s, m in reversed(self._history) if i <= index)
        return self._storage.term(index), state, members

    def snapshot_saved(self, index: int) -> int:
        """A snapshot of the state at `index` is on the disk; returns the index up to which the log may go."""
        self._storage.wanted = False
        if index > self._storage.snapshot_index:
            _, state, _ = self.at(index)
            self._storage.create_snapshot(index, state, b"")
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.popleft()
        keep = index - self.limits.keep_entries
        if keep >= self._storage.first_index():
            self._storage.compact(keep)
        return self._storage.first_index() - 1


def _config(
    start: Start, random: Callable[[int], int], limits: Limits, log: Callable[[str], None] | None
) -> Config:
    return Config(
        id=start.raft_id,
        election_tick=limits.election_ticks,
        heartbeat_tick=limits.heartbeat_ticks,
        random=random,
        applied=start.index,
        max_size_per_msg=limits.message_bytes,
        max_inflight_msgs=limits.inflight_messages,
        max_uncommitted_entries_size=limits.uncommitted_bytes,
        check_quorum=True,
        pre_vote=True,
        disable_proposal_forwarding=True,
        step_down_on_removal=False,  # a little later: see Replica.tick
        log=log,
    )
