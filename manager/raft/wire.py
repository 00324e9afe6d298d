"""Raft's messages as the wire has them, and back. Used by transport.py and service.py.

A snapshot message carries no content on the wire: it goes by InstallSnapshot, in chunks, with the message in front.
"""

from __future__ import annotations

from common import model
from manager.raft.core.messages import Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata
from manager.raft.members import conf_state

CHUNK: int = 1 << 20


def to_wire(message: Message) -> model.RaftMessage:
    """For RaftBatch."""
    meta = message.snapshot.metadata if message.snapshot is not None else None
    return model.RaftMessage(
        message.type,
        message.to,
        message.from_,
        message.term,
        message.log_term,
        message.index,
        tuple(model.RaftEntry(e.index, e.term, e.type, e.data) for e in message.entries),
        message.commit,
        message.vote,
        message.reject,
        message.reject_hint,
        message.context,
        meta.index if meta else 0,
        meta.term if meta else 0,
    )


def from_wire(wire: model.RaftMessage, snapshot: bytes = b"") -> Message:
    """The message; `snapshot` is a RaftSnapshot's bytes. Raises ValueError for a type that does not exist."""
    return Message(
        MessageType(wire.type),
        wire.receiver,
        wire.sender,
        wire.term,
        wire.log_term,
        wire.index,
        tuple(Entry(e.index, e.term, EntryType(e.type), e.data) for e in wire.entries),
        wire.commit,
        wire.vote,
        core_snapshot(snapshot) if snapshot else None,
        wire.reject,
        wire.reject_hint,
        wire.context,
    )


def core_snapshot(data: bytes) -> Snapshot:
    """What the core sees of a RaftSnapshot; its bytes ride along."""
    found = model.RaftSnapshot.from_bytes(data)
    return Snapshot(SnapshotMetadata(conf_state(found.conf_state), found.index, found.term), data)
