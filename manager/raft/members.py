"""Who takes part in the agreement: raft id, node id and address of every manager. Pure.

Changed by committed configuration entries only, so every member has the same table at the same index; a part of every
snapshot. An entry's context is a RaftMember. An id that was removed never comes back. Used by replica.py.

The epoch tells one agreement from another of the same swarm: a restore and `--force-new-cluster` begin a new one
(origin.py), and nothing changes it after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from common import model
from manager.raft.core.messages import AnyConfChange, ConfChange, ConfChangeType, ConfState

_ADDING: Final = (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE)


@dataclass(frozen=True, slots=True)
class Members:
    """The table at one index."""

    by_id: Mapping[int, model.RaftMember] = field(default_factory=dict)
    removed: frozenset[int] = frozenset()
    epoch: int = 0
    """0 while it is not known: at a member that has no snapshot yet."""

    def named(self, node_id: str) -> model.RaftMember | None:
        """The member that runs on a node."""
        return next((m for m in self.by_id.values() if m.node_id == node_id), None)

    def allows(self, change: AnyConfChange) -> bool:
        """Whether the change can be taken: no id comes back, and a node has one id."""
        member = _member(change.context)
        for single in change.to_v2().changes:
            if single.type not in _ADDING:
                continue
            if single.node_id in self.removed:
                return False
            other = self.named(member.node_id) if member else None
            if other is not None and other.raft_id != single.node_id:
                return False
        return True

    def after(self, change: AnyConfChange) -> Members:
        """The table once the change is taken."""
        by_id, removed, member = dict(self.by_id), set(self.removed), _member(change.context)
        for single in change.to_v2().changes:
            if single.type in _ADDING:
                if member is not None and member.raft_id == single.node_id:
                    by_id[single.node_id] = member
            elif single.type == ConfChangeType.REMOVE_NODE:
                by_id.pop(single.node_id, None)
                removed.add(single.node_id)
            elif member is not None and single.node_id in by_id:
                by_id[single.node_id] = member
        return Members(by_id, frozenset(removed), self.epoch)


def _member(context: bytes) -> model.RaftMember | None:
    return model.RaftMember.from_bytes(context) if context else None


def change(kind: ConfChangeType, member: model.RaftMember) -> ConfChange:
    """The configuration entry that adds, updates or removes `member`."""
    return ConfChange(kind, member.raft_id, member.to_bytes())


def from_snapshot(snapshot: model.RaftSnapshot) -> Members:
    """The table that a snapshot carries."""
    return Members({m.raft_id: m for m in snapshot.members}, frozenset(snapshot.removed), snapshot.epoch)


def conf_state(wire: model.RaftConfState) -> ConfState:
    """The core's membership from a snapshot's."""
    return ConfState(
        tuple(wire.voters),
        tuple(wire.learners),
        tuple(wire.voters_outgoing),
        tuple(wire.learners_next),
        wire.auto_leave,
    )


def wire_conf_state(state: ConfState) -> model.RaftConfState:
    """The opposite of conf_state."""
    return model.RaftConfState(
        state.voters, state.learners, state.voters_outgoing, state.learners_next, state.auto_leave
    )


def first_snapshot(
    index: int, term: int, member: model.RaftMember, data: bytes, epoch: int
) -> model.RaftSnapshot:
    """The state of a swarm whose only manager is `member`."""
    voters = model.RaftConfState(voters=(member.raft_id,))
    return model.RaftSnapshot(index, term, voters, (member,), (), data, epoch)
