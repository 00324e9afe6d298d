"""One member as its runner sees it."""

from __future__ import annotations

from dataclasses import dataclass

from manager.raft.core.config import Config
from manager.raft.core.messages import (
    AnyConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    ReadState,
    Snapshot,
    SoftState,
)
from manager.raft.core.storage import Storage


@dataclass(frozen=True, slots=True)
class Ready:
    """What is to be done now, in this order: save, then send, then apply, then advance."""

    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    read_states: tuple[ReadState, ...] = ()
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed_entries: tuple[Entry, ...] = ()
    messages: tuple[Message, ...] = ()
    must_sync: bool = False


class RawNode:
    """A member; not safe for threads."""

    def __init__(self, config: Config, storage: Storage) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        """Time goes on by one tick."""
        raise NotImplementedError

    def campaign(self) -> None:
        """Stands for election now."""
        raise NotImplementedError

    def step(self, message: Message) -> None:
        """Takes a message of another member; raises StepLocal, StepPeerNotFound, ProposalDropped."""
        raise NotImplementedError

    def propose(self, data: bytes) -> None:
        """Proposes an entry, or passes it to the leader; raises ProposalDropped."""
        raise NotImplementedError

    def propose_conf_change(self, change: AnyConfChange) -> None:
        """Proposes a change of membership; raises ProposalDropped."""
        raise NotImplementedError

    def apply_conf_change(self, change: AnyConfChange) -> ConfState:
        """Takes a committed change into effect, before `advance`; raises ConfChangeRefused."""
        raise NotImplementedError

    def has_ready(self) -> bool:
        """Whether ready() would say anything."""
        raise NotImplementedError

    def ready(self) -> Ready:
        """What is to be done; must be followed by advance() once it is done."""
        raise NotImplementedError

    def advance(self) -> None:
        """The last Ready is saved and its committed entries are applied."""
        raise NotImplementedError

    def read_index(self, context: bytes) -> None:
        """Asks for an index to read at; the answer comes as a ReadState with the same context, or never."""
        raise NotImplementedError

    def transfer_leader(self, transferee: int) -> None:
        """Asks the leader to hand over to a voter."""
        raise NotImplementedError

    def forget_leader(self) -> None:
        """A follower forgets its leader, so that it may vote for another one."""
        raise NotImplementedError

    def report_unreachable(self, id_: int) -> None:
        """A message to that member could not be delivered."""
        raise NotImplementedError

    def report_snapshot(self, id_: int, ok: bool) -> None:
        """A snapshot to that member was delivered, or not."""
        raise NotImplementedError
