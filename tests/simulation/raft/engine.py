"""The core with the face of a Replica, and settings that no manager has: what runs inside a simulated member.

Half of the seeded runs use manager/raft/replica.py itself, as managers do. The others, and all directed scenarios, use
`Core`: without PreVote and CheckQuorum, with joint states that wait to be left, and other things that Replica rules out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from manager.raft.core.config import Config
from manager.raft.core.errors import ProposalDropped, StepPeerNotFound
from manager.raft.core.messages import (
    AnyConfChange,
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
from manager.raft.members import Members
from manager.raft.replica import Committed, NotLeading, Start, Work

_EARLY = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
"""What a leader may send while its own disk still syncs."""


class Engine(Protocol):
    """What a member needs of a Replica, or of `Core`."""

    handed: int

    @property
    def conf_state(self) -> ConfState: ...
    @property
    def term(self) -> int: ...
    @property
    def lead(self) -> int: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def last_index(self) -> int: ...
    @property
    def busy(self) -> bool: ...
    @property
    def snapshot_due(self) -> bool: ...
    def tick(self) -> None: ...
    def campaign(self) -> None: ...
    def step(self, message: Message) -> None: ...
    def propose(self, data: bytes, token: Any) -> None: ...
    def change(self, change: AnyConfChange, token: Any) -> None: ...
    def read(self, context: bytes) -> None: ...
    def transfer(self, raft_id: int) -> None: ...
    def unreachable(self, raft_id: int) -> None: ...
    def snapshot_sent(self, raft_id: int, ok: bool) -> None: ...
    def work(self) -> Work: ...
    def done(self, work: Work) -> None: ...
    def restored(self, members: Members) -> None: ...
    def at(self, index: int) -> tuple[int, ConfState, Members]: ...
    def snapshot_saved(self, index: int) -> int: ...


class Core:
    """A RawNode and its log in memory."""

    def __init__(
        self,
        start: Start,
        random: Callable[[int], int],
        options: dict[str, Any],
        snapshot_every: int,
        keep: int,
    ) -> None:
        self.storage = MemoryStorage()
        if start.index:
            self.storage.apply_snapshot(_without_data(start.index, start.term, start.conf_state))
        self.storage.append(start.entries)
        self.storage.set_hard_state(start.state)
        self.node = RawNode(Config(start.raft_id, random=random, **options), self.storage)
        self.conf_state = start.conf_state
        self.handed = start.index
        self._history: deque[tuple[int, ConfState]] = deque([(start.index, start.conf_state)])
        self._snapshot_every = snapshot_every
        self._keep = keep
        self._role = Role.FOLLOWER
        self._tokens: dict[bytes, Any] = {}

    @property
    def term(self) -> int:
        return self.node.raft.term

    @property
    def lead(self) -> int:
        return self.node.raft.lead

    @property
    def is_leader(self) -> bool:
        return self._role == Role.LEADER

    @property
    def last_index(self) -> int:
        return self.node.raft.log.last_index()

    # -- in ---------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        self.node.tick()

    def campaign(self) -> None:
        self.node.campaign()

    def step(self, message: Message) -> None:
        if message.type == MessageType.READ_INDEX and self._has_forgotten():
            return
        try:
            self.node.step(message)
        except (StepPeerNotFound, ProposalDropped):
            return

    def propose(self, data: bytes, token: Any) -> None:
        """Only where it leads; each data is its own."""
        if self.node.raft.state != Role.LEADER:
            raise NotLeading("it doesn't lead")
        try:
            self.node.propose(data)
        except ProposalDropped as exc:
            raise NotLeading(str(exc)) from exc
        self._tokens[data] = token

    def change(self, change: AnyConfChange, token: Any) -> None:
        """Also while another one is under way: then the core makes it an empty entry."""
        if self.node.raft.state != Role.LEADER:
            raise NotLeading("it doesn't lead")
        try:
            self.node.propose_conf_change(change)
        except ProposalDropped as exc:
            raise NotLeading(str(exc)) from exc

    def read(self, context: bytes) -> None:
        if not self._has_forgotten():
            self.node.read_index(context)

    def _has_forgotten(self) -> bool:
        """Whether it believes to decide alone, and must not: it has only just begun its term, and what it knows to be
        committed may be old; or it was removed, and didn't step down."""
        raft = self.node.raft
        if raft.state != Role.LEADER or not raft.tracker.singleton():
            return False
        return not raft.committed_in_term() or raft.id not in self.conf_state.voters

    def transfer(self, raft_id: int) -> None:
        self.node.transfer_leader(raft_id)

    def forget(self) -> None:
        """Forgets its leader."""
        self.node.forget_leader()

    def unreachable(self, raft_id: int) -> None:
        self.node.report_unreachable(raft_id)

    def snapshot_sent(self, raft_id: int, ok: bool) -> None:
        self.node.report_snapshot(raft_id, ok)

    # -- out --------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self.node.has_ready()

    def work(self) -> Work:
        ready = self.node.ready()
        if ready.soft_state is not None:
            self._role = ready.soft_state.state
        leads = self._role == Role.LEADER
        if ready.snapshot is not None:
            meta = ready.snapshot.metadata
            self.storage.apply_snapshot(_without_data(meta.index, meta.term, meta.conf_state))
            self.conf_state = meta.conf_state
            self.handed = meta.index
            self._history = deque([(meta.index, meta.conf_state)])
        self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.storage.set_hard_state(ready.hard_state)
        return Work(
            self.node.raft.hard_state()
            if ready.entries
            else ready.hard_state,  # as Replica does, and says why
            ready.entries,
            ready.snapshot,
            tuple(m for m in ready.messages if leads and m.type in _EARLY),
            tuple(m for m in ready.messages if not leads or m.type not in _EARLY),
            tuple([self._committed(entry) for entry in ready.committed_entries]),
            ready.read_states,
            (),
            ready.must_sync,
        )

    def _committed(self, entry: Entry) -> Committed:
        if entry.type == EntryType.NORMAL:
            return Committed(entry, self._tokens.pop(entry.data, None))
        self.conf_state = self.node.apply_conf_change(decode_entry(entry))
        self._history.append((entry.index, self.conf_state))
        return Committed(entry, change=True)

    def done(self, work: Work) -> None:
        if work.committed:
            self.handed = work.committed[-1].entry.index
        self.node.advance()

    # -- snapshots --------------------------------------------------------------------------------------------------

    def restored(self, members: Members) -> None:
        """Nothing here has a table of members."""

    @property
    def snapshot_due(self) -> bool:
        last = self.storage.snapshot().metadata
        if self.handed == last.index:
            return False
        # A snapshot from before a member was there can't be given to that member.
        return self.handed - last.index >= self._snapshot_every or not everybody(
            self.conf_state
        ) <= everybody(last.conf_state)

    def at(self, index: int) -> tuple[int, ConfState, Members]:
        conf = next(conf for place, conf in reversed(self._history) if place <= index)
        return self.storage.term(index), conf, Members()

    def snapshot_saved(self, index: int) -> int:
        _, conf, _ = self.at(index)
        if index > self.storage.snapshot().metadata.index:
            self.storage.create_snapshot(index, conf, b"")
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.popleft()
        if index - self._keep >= self.storage.first_index():
            self.storage.compact(index - self._keep)
        return self.storage.first_index() - 1


def _without_data(index: int, term: int, conf: ConfState) -> Snapshot:
    """A snapshot as the log in memory knows it: the transport adds what the disk holds."""
    return Snapshot(SnapshotMetadata(conf, index, term))


def everybody(conf: ConfState) -> frozenset[int]:
    """Everybody who takes part in any way."""
    return frozenset((*conf.voters, *conf.learners, *conf.voters_outgoing, *conf.learners_next))
