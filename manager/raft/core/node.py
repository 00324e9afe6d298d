"""One member as its runner sees it: what goes in, and the Ready that comes out.

The runner's loop: `tick` and `step`; while `has_ready`: take `ready()`, write its snapshot, entries and hard state
(synced if `must_sync`), send its messages, apply its committed entries (`apply_conf_change` for changes of
membership), `advance()`. A snapshot in it is applied before its committed entries.
"""

from __future__ import annotations

from dataclasses import dataclass

from manager.raft.core.config import Config
from manager.raft.core.errors import Inconsistent, Malformed, StepLocal, StepPeerNotFound
from manager.raft.core.messages import (
    LOCAL_MESSAGES,
    RESPONSES,
    WITHOUT_TERM,
    AnyConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    ReadState,
    Role,
    Snapshot,
    SoftState,
    encode,
    entries_size,
    entry_type,
)
from manager.raft.core.progress import ProgressMap, TrackerConfig
from manager.raft.core.raft import Raft
from manager.raft.core.storage import Storage


@dataclass(frozen=True, slots=True)
class Ready:
    """What is to be done now, in this order: save, then send, then apply, then advance. States that are None haven't
    changed. Messages that aren't in AFTER_APPEND may be sent while the rest is still being saved."""

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    read_states: tuple[ReadState, ...] = ()
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed_entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    must_sync: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """How a member stands; it knows the others' progress only as leader."""

    id: int
    hard_state: HardState
    soft_state: SoftState
    applied: int
    lead_transferee: int
    config: TrackerConfig
    progress: ProgressMap


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What a Ready has handed out, to be acknowledged when it is done."""

    term: int
    to_self: tuple[Message, ...]
    last: tuple[int, int] | None  # index and term of the last entry, if any wasn't stable
    snapshot_index: int
    applied: tuple[Entry, ...]
    applied_size: int


class RawNode:
    """A member; not safe for threads."""

    __slots__ = ("_accepted", "_hard_state", "_soft_state", "raft")

    def __init__(self, config: Config, storage: Storage) -> None:
        self.raft = Raft(config, storage)
        self._soft_state = self.raft.soft_state()
        self._hard_state = self.raft.hard_state()
        self._accepted: _Accepted | None = None

    # -- in ------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time goes on by one tick."""
        self.raft.tick()

    def campaign(self) -> None:
        """Stands for election now."""
        self.raft.step(Message(MessageType.HUP))

    def step(self, message: Message) -> None:
        """Takes a message of another member; raises StepLocal, StepPeerNotFound, ProposalDropped, Malformed."""
        if message.type in LOCAL_MESSAGES:
            raise StepLocal(f"{message.type.name} is not for the network")
        if message.type in RESPONSES and message.from_ not in self.raft.tracker.progress:
            raise StepPeerNotFound(f"{message.from_:x} has no part in this")
        _check(message)
        self.raft.step(message)

    def propose(self, data: bytes) -> None:
        """Proposes an entry, or passes it to the leader; raises ProposalDropped."""
        self.raft.step(Message(MessageType.PROP, from_=self.raft.id, entries=(Entry(data=data),)))

    def propose_conf_change(self, change: AnyConfChange) -> None:
        """Proposes a change of membership; raises ProposalDropped. One that can't be made now becomes an empty entry."""
        entry = Entry(type=entry_type(change), data=encode(change))
        self.raft.step(Message(MessageType.PROP, entries=(entry,)))

    def apply_conf_change(self, change: AnyConfChange) -> ConfState:
        """Takes a committed change into effect, before `advance`; raises ConfChangeRefused. An application that doesn't
        want the change applies one whose nodes are all 0."""
        return self.raft.apply_conf_change(change.to_v2())

    def read_index(self, context: bytes) -> None:
        """Asks for an index to read at; the answer comes as a ReadState with the same context, or never."""
        self.raft.step(Message(MessageType.READ_INDEX, entries=(Entry(data=context),)))

    def transfer_leader(self, transferee: int) -> None:
        """Asks the leader to hand over to a voter."""
        self.raft.step(Message(MessageType.TRANSFER_LEADER, from_=transferee))

    def forget_leader(self) -> None:
        """A follower forgets its leader, so that it may vote for another one."""
        self.raft.step(Message(MessageType.FORGET_LEADER))

    def report_unreachable(self, id_: int) -> None:
        """A message to that member could not be delivered."""
        self.raft.step(Message(MessageType.UNREACHABLE, from_=id_))

    def report_snapshot(self, id_: int, ok: bool) -> None:
        """A snapshot to that member was delivered, or not."""
        self.raft.step(Message(MessageType.SNAP_STATUS, from_=id_, reject=not ok))

    def set_randomized_election_timeout(self, ticks: int) -> None:
        """For tests: stands for election after so many ticks, until chance decides again."""
        self.raft.randomized_election_timeout = ticks

    # -- out -----------------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether ready() would say anything."""
        raft = self.raft
        log = raft.log
        if raft.messages or raft.after_append or raft.read_states:
            return True
        if (
            log.unstable.has_next_entries()
            or log.unstable.next_snapshot() is not None
            or log.has_next_committed()
        ):
            return True
        return raft.soft_state() != self._soft_state or raft.hard_state() != self._hard_state

    def ready(self) -> Ready:
        """What is to be done; must be followed by advance() once it is done."""
        if self._accepted is not None:
            raise Inconsistent("the last Ready has not been advanced")
        raft = self.raft
        unstable = raft.log.unstable
        soft_state, hard_state = raft.soft_state(), raft.hard_state()
        entries = tuple(unstable.next_entries())
        before = self._hard_state
        others = [message for message in raft.after_append if message.to != raft.id]
        made = Ready(
            soft_state if soft_state != self._soft_state else None,
            hard_state if hard_state != before else None,
            tuple(raft.read_states),
            entries,
            unstable.next_snapshot(),
            tuple(raft.log.next_committed()),
            (*raft.messages, *others),
            bool(entries) or hard_state.term != before.term or hard_state.vote != before.vote,
        )
        self._soft_state, self._hard_state = soft_state, hard_state
        self._accept(made)
        return made

    def _accept(self, made: Ready) -> None:
        """What is in it isn't handed out again."""
        raft = self.raft
        log = raft.log
        size = entries_size(made.committed_entries)
        self._accepted = _Accepted(
            raft.term,
            tuple(message for message in raft.after_append if message.to == raft.id),
            (log.last_index(), log.last_term()) if log.unstable.entries else None,
            made.snapshot.metadata.index if made.snapshot is not None else 0,
            made.committed_entries,
            size,
        )
        raft.read_states = []
        raft.messages = []
        raft.after_append = []
        log.unstable.accept()
        if made.committed_entries:
            log.accept_applying(made.committed_entries[-1].index, size)

    def advance(self) -> None:
        """The last Ready is saved and its committed entries are applied."""
        accepted, self._accepted = self._accepted, None
        if accepted is None:
            return
        raft = self.raft
        for message in accepted.to_self:
            raft.step(message)
        if accepted.last is not None:
            raft.entries_stable(accepted.term, *accepted.last)
        if accepted.snapshot_index:
            raft.snapshot_stable(accepted.snapshot_index)
        if accepted.applied:
            raft.entries_applied(accepted.applied, accepted.applied_size)

    def status(self) -> Status:
        """How it stands, as copies."""
        raft = self.raft
        progress = raft.tracker.progress if raft.state == Role.LEADER else {}
        return Status(
            raft.id,
            raft.hard_state(),
            raft.soft_state(),
            raft.log.applied,
            raft.lead_transferee,
            raft.tracker.config,
            {id_: progress[id_].clone(progress[id_].inflights.clone()) for id_ in sorted(progress)},
        )


def _check(message: Message) -> None:
    """Raises Malformed for what no member says."""
    type_ = message.type
    if not message.term and type_ not in WITHOUT_TERM:
        raise Malformed(f"{type_.name} without a term")
    entries = message.entries
    if type_ == MessageType.APP:
        if any(entry.index != index for index, entry in enumerate(entries, message.index + 1)):
            raise Malformed(f"entries that don't follow on {message.index}")
    elif not entries and type_ in (MessageType.PROP, MessageType.READ_INDEX):
        raise Malformed(f"{type_.name} without entries")
