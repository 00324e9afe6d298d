"""The seam between the store and whatever agrees on its log: propose, committed, applied.

member.py builds one (group.py) and gives `propose` to the store. Entries and snapshots come back through `StateMachine`,
in log order, in the event loop of the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from common import errors, model

NOT_PROCESSED: Final = "raft: failed to process the request"
"""What an error begins with that says that a write may not have come to be."""


class NotLeader(errors.ShoalError):
    """This member does not lead. What it was asked for was not begun and never will be: the leader may be asked."""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One manager as this member sees it."""

    member: model.RaftMember
    voter: bool
    leader: bool
    reachable: (
        bool  # it answered within the last election timeout; without a leader's knowledge, only oneself is
    )


class Captured(Protocol):
    """The state machine's state at one index, not yet encoded."""

    @property
    def index(self) -> int:
        """Index of the last entry that is in it."""

    @property
    def term(self) -> int:
        """Term of that entry."""

    def encode(self) -> bytes:
        """The bytes of the snapshot; called in a thread."""


class StateMachine(Protocol):
    """What agreed entries are applied to: the store."""

    def apply(self, index: int, term: int, data: bytes, /) -> None:
        """Takes the entry at `index`."""

    def capture(self) -> Captured:
        """The state as it is now."""

    def restore(self, data: bytes, /) -> None:
        """Replaces the state by a snapshot."""


class Consensus(Protocol):
    """One member's part in the agreement."""

    @property
    def term(self) -> int:
        """The term this member is in; a new leader has a higher one."""

    @property
    def leader(self) -> bool:
        """Whether this member may propose."""

    @property
    def applied(self) -> int:
        """Index of the last applied entry."""

    async def propose(self, data: bytes) -> int:
        """Returns the entry's index once it is committed and applied here; raises an error of common/errors.py."""

    async def read_index(self) -> int:
        """Returns once the state machine holds every write that was acknowledged before the call."""

    async def start(self) -> None:
        """Loads state from disk into the state machine."""

    async def run(self) -> None:
        """Serves until it is cancelled; raises when the storage fails."""

    async def stop(self) -> None:
        """Lets go of the storage, after run has ended."""


class Replicated(Consensus, Protocol):
    """One member of several."""

    @property
    def leader_id(self) -> str:
        """Node id of the leader that this member follows or is; empty without one."""

    def members(self) -> tuple[MemberStatus, ...]:
        """Every manager in the agreement, learners too."""

    @property
    def removed(self) -> bool:
        """Whether this member was removed from the agreement."""

    async def changed(self) -> None:
        """Returns when anything of `leader`, `leader_id`, `members()` or `removed` has changed since the call."""

    async def leading(self, leads: bool) -> None:
        """Returns once `leader` is `leads`."""

    async def add(self, member: model.RaftMember) -> None:
        """Takes a manager in: as a learner, and as a voter once it has caught up. Returns when it is a learner."""

    async def remove(self, node_id: str) -> None:
        """Ends a membership; raises FailedPrecondition where the rest would have no quorum."""

    async def transfer(self, node_id: str = "") -> None:
        """Hands leadership to a manager (the one that is furthest, if none is named); returns once this one leads no more."""
