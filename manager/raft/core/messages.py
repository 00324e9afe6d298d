"""What a member of the agreement says, keeps and decides: entries, messages, states, changes of membership.

Plain values without behaviour. The numbers of the enums and the bytes of membership changes are those of the
protobuf schema raftpb, so that messages can be carried and compared field by field. Everything in this package uses
them; the durable log, the transport and the runner above it do too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

from manager.raft.core.errors import Malformed
from manager.raft.core.fields import as_bytes, as_int, fields, number, string

NOBODY: Final = 0
"""Not an id of a member: no leader, no vote."""

NO_LIMIT: Final = (1 << 64) - 1

TRANSFER: Final = b"CampaignTransfer"
"""Context of a vote request that the leader itself has asked for: it is heard although a leader is alive."""


class EntryType(IntEnum):
    """What the data of an entry is."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the log; without data it only marks a new leader."""

    index: int = 0
    term: int = 0
    type: EntryType = EntryType.NORMAL
    data: bytes = b""


class MessageType(IntEnum):
    """19 to 22 are taken by storage threads that this core hasn't."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    FORGET_LEADER = 23


LOCAL_MESSAGES: Final = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.SNAP_STATUS,
        MessageType.CHECK_QUORUM,
    }
)
"""Said by a member to itself; never accepted from the network."""

RESPONSES: Final = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.UNREACHABLE,
        MessageType.READ_INDEX_RESP,
        MessageType.PRE_VOTE_RESP,
    }
)

AFTER_APPEND: Final = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP})
"""They promise something that must be stable first; all others may be sent while the disk still writes."""

WITHOUT_TERM: Final = frozenset(
    {MessageType.PROP, MessageType.READ_INDEX, MessageType.TRANSFER_LEADER, MessageType.FORGET_LEADER}
)
"""Requests that may come without a term; everything else that a member says to another has one."""


@dataclass(frozen=True, slots=True)
class ConfState:
    """Who takes part: what snapshots carry and what the storage gives back at a start.

    `voters_outgoing`, `learners_next` and `auto_leave` are only set while the membership is in a joint state.
    """

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotMetadata:
    """Where in the log a snapshot stands, and the membership there."""

    conf_state: ConfState = ConfState()
    index: int = 0
    term: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The application's state at one index; index 0 means none."""

    metadata: SnapshotMetadata = SnapshotMetadata()
    data: bytes = field(default=b"", repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is no snapshot."""
        return self.metadata.index == 0


@dataclass(frozen=True, slots=True)
class HardState:
    """What a member must not forget: its term, whom it voted for, how far it knows the log to be committed."""

    term: int = 0
    vote: int = NOBODY
    commit: int = 0


class Role(IntEnum):
    """What a member is in its term."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


@dataclass(frozen=True, slots=True)
class SoftState:
    """What a member may forget."""

    lead: int = NOBODY
    state: Role = Role.FOLLOWER


@dataclass(frozen=True, slots=True)
class ReadState:
    """A read asked for with `context` is linearizable once `index` is applied."""

    index: int
    context: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """From one member to another; which fields mean something depends on the type."""

    type: MessageType
    to: int = NOBODY
    from_: int = NOBODY
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    vote: int = NOBODY
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""


# -- sizes ----------------------------------------------------------------------------------------------------------


def _varint_size(value: int) -> int:
    return (value.bit_length() + 6) // 7 or 1


def entry_size(entry: Entry) -> int:
    """Bytes of the encoded entry; what limits on messages and batches are counted in."""
    length = len(entry.data)
    size = 5 + _varint_size(entry.term) + _varint_size(entry.index) - 1
    return size + 1 + length + _varint_size(length) if length else size


def entries_size(entries: Sequence[Entry]) -> int:
    """Bytes of all of them, encoded."""
    return sum(map(entry_size, entries))


def payloads_size(entries: Sequence[Entry]) -> int:
    """Bytes of their data alone; what the limit on uncommitted entries is counted in."""
    return sum(len(entry.data) for entry in entries)


E = TypeVar("E", bound=Sequence[Entry])


def limit_size(entries: E, max_size: int) -> Sequence[Entry]:
    """The longest beginning that isn't larger than `max_size`, but one entry at least."""
    if max_size >= NO_LIMIT or not entries:
        return entries
    size = 0
    for count, entry in enumerate(entries):
        size += entry_size(entry)
        if count and size > max_size:
            return entries[:count]
    return entries


# -- changes of membership ------------------------------------------------------------------------------------------


class ConfChangeType(IntEnum):
    """What happens to one node; UPDATE_NODE changes nothing here, it only tells the application."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class ConfChangeTransition(IntEnum):
    """How to get to the new membership: AUTO is joint only if it must be; the explicit one waits to be left."""

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class ConfChangeSingle:
    """One node's part of a change."""

    type: ConfChangeType
    node_id: int


@dataclass(frozen=True, slots=True)
class ConfChangeV2:
    """Several changes at once; one without changes leaves a joint state."""

    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""

    def to_v2(self) -> ConfChangeV2:
        """Itself."""
        return self

    @property
    def enters_joint(self) -> bool:
        """Whether it goes through a joint state."""
        return self.transition != ConfChangeTransition.AUTO or len(self.changes) > 1

    @property
    def auto_leave(self) -> bool:
        """Whether the leader leaves the joint state by itself."""
        return self.enters_joint and self.transition != ConfChangeTransition.JOINT_EXPLICIT

    @property
    def leaves_joint(self) -> bool:
        """Whether it is the way out of a joint state."""
        return self.transition == ConfChangeTransition.AUTO and not self.changes


@dataclass(frozen=True, slots=True)
class ConfChange:
    """One node added or removed, in the older form."""

    type: ConfChangeType = ConfChangeType.ADD_NODE
    node_id: int = NOBODY
    context: bytes = b""
    id: int = 0

    def to_v2(self) -> ConfChangeV2:
        """The same in the newer form."""
        return ConfChangeV2(changes=(ConfChangeSingle(self.type, self.node_id),), context=self.context)


AnyConfChange = ConfChange | ConfChangeV2


def entry_type(change: AnyConfChange) -> EntryType:
    """The type of the entry that carries it."""
    return EntryType.CONF_CHANGE if isinstance(change, ConfChange) else EntryType.CONF_CHANGE_V2


def encode(change: AnyConfChange) -> bytes:
    """As protobuf bytes; numbers are written even if zero."""
    if isinstance(change, ConfChange):
        head = number(1, change.id) + number(2, change.type) + number(3, change.node_id)
        return head + (string(4, change.context) if change.context else b"")
    singles = (number(1, single.type) + number(2, single.node_id) for single in change.changes)
    body = number(1, change.transition) + b"".join(string(2, single) for single in singles)
    return body + (string(3, change.context) if change.context else b"")


def decode(type_: EntryType, data: bytes) -> AnyConfChange:
    """What `encode` made, unknown fields left out; raises Malformed."""
    try:
        if type_ == EntryType.CONF_CHANGE:
            return _decode_v1(data)
        return _decode_v2(data)
    except (IndexError, ValueError, TypeError) as exc:
        raise Malformed(f"not a change of membership: {exc}") from exc


def decode_entry(entry: Entry) -> AnyConfChange:
    """The change that an entry carries; raises Malformed."""
    return decode(entry.type, entry.data)


def _decode_v1(data: bytes) -> ConfChange:
    numbers = {1: 0, 2: 0, 3: 0}
    context = b""
    for key, value in fields(data):
        if key == 4:
            context = as_bytes(value)
        elif key in numbers:
            numbers[key] = as_int(value)
    return ConfChange(ConfChangeType(numbers[2]), numbers[3], context, numbers[1])


def _decode_v2(data: bytes) -> ConfChangeV2:
    transition = 0
    changes: list[ConfChangeSingle] = []
    context = b""
    for key, value in fields(data):
        if key == 1:
            transition = as_int(value)
        elif key == 2:
            single = {1: 0, 2: 0}
            single.update((inner, as_int(part)) for inner, part in fields(as_bytes(value)) if inner in single)
            changes.append(ConfChangeSingle(ConfChangeType(single[1]), single[2]))
        elif key == 3:
            context = as_bytes(value)
    return ConfChangeV2(ConfChangeTransition(transition), tuple(changes), context)
