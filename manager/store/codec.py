"""The store's changes and snapshots as bytes, and how a log index gets into the objects that it wrote.

Used by store.py. Replacing THIS_INDEX happens here, on the protobuf message, so that every manager that applies an
entry makes the same object of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from common import model
from common.pb import objects_pb2
from manager.store.view import THIS_INDEX, StoreObject

FORMAT: Final = 1
KINDS: Final[Mapping[str, type[StoreObject]]] = {
    "cluster": model.Cluster,
    "node": model.Node,
    "service": model.Service,
    "task": model.Task,
    "network": model.Network,
    "secret": model.Secret,
    "config": model.Config,
}
_FIELDS: Final = {kind: field for field, kind in KINDS.items()}
_UPDATE: Final = objects_pb2.StoreChange.UPDATE
_REMOVE: Final = objects_pb2.StoreChange.REMOVE


class CorruptState(Exception):
    """Bytes of the log or of a snapshot that are intact but make no sense: another format, or a defect."""


@dataclass(frozen=True, slots=True)
class Put:
    """An object as an entry writes it."""

    thing: StoreObject


@dataclass(frozen=True, slots=True)
class Remove:
    """The removal of an object."""

    kind: type[StoreObject]
    id: str


def _stamp(message: Any, names: Iterable[str], index: int) -> None:
    for name in names:
        if getattr(message, name) == THIS_INDEX:
            setattr(message, name, index)


def _stamp_task(task: Any, index: int) -> None:
    _stamp(task, ("assigned_index", "endpoint_index", "spec_version"), index)


def _stamp_service(service: Any, index: int) -> None:
    _stamp(service, ("spec_version", "previous_spec_version"), index)


def _stamp_network(network: Any, index: int) -> None:
    for hold in network.held:
        _stamp(hold, ("index",), index)


_STAMPS: Final[Mapping[str, Callable[[Any, int], None]]] = {
    "task": _stamp_task,
    "service": _stamp_service,
    "network": _stamp_network,
}


def encode(changes: Iterable[Put | Remove]) -> bytes:
    """The bytes of one log entry."""
    transaction = objects_pb2.Transaction()
    for change in changes:
        if isinstance(change, Put):
            entry = transaction.changes.add(action=_UPDATE)
            getattr(entry, _FIELDS[type(change.thing)]).CopyFrom(change.thing.to_pb())
        else:
            entry = transaction.changes.add(action=_REMOVE)
            getattr(entry, _FIELDS[change.kind]).id = change.id
    return transaction.SerializeToString()


def decode(data: bytes, index: int) -> list[Put | Remove]:
    """The changes of the entry at `index`, with the index filled in; raises CorruptState."""
    try:
        transaction = objects_pb2.Transaction.FromString(data)
    except DecodeError as exc:
        raise CorruptState(f"log entry {index} is no transaction: {exc}") from exc
    changes: list[Put | Remove] = []
    for entry in transaction.changes:
        field = entry.WhichOneof("object")
        if field is None:
            raise CorruptState(f"log entry {index} changes a kind of object that this version does not know")
        message, kind = getattr(entry, field), KINDS[field]
        if entry.action == _REMOVE:
            changes.append(Remove(kind, message.id))
            continue
        message.version = index
        if stamp := _STAMPS.get(field):
            stamp(message, index)
        changes.append(Put(kind.from_pb(message)))
    return changes


def encode_snapshot(objects: Iterable[StoreObject], index: int, term: int) -> bytes:
    """Every object of the state as of `index`."""
    snapshot = objects_pb2.StoreSnapshot(format=FORMAT, index=index, term=term)
    for thing in objects:
        message: Any = thing.to_pb()
        snapshot.objects.append(objects_pb2.StoreChange(action=_UPDATE, **{_FIELDS[type(thing)]: message}))
    return snapshot.SerializeToString()


def decode_snapshot(data: bytes) -> tuple[list[StoreObject], int, int]:
    """Objects, index and term; raises CorruptState for another format."""
    try:
        snapshot = objects_pb2.StoreSnapshot.FromString(data)
    except DecodeError as exc:
        raise CorruptState(f"the snapshot cannot be decoded: {exc}") from exc
    if snapshot.format != FORMAT:
        raise CorruptState(f"the snapshot has format {snapshot.format}, this version reads {FORMAT}")
    objects: list[StoreObject] = []
    for entry in snapshot.objects:
        field = entry.WhichOneof("object")
        if field is None:
            raise CorruptState("the snapshot holds a kind of object that this version does not know")
        objects.append(KINDS[field].from_pb(getattr(entry, field)))
    return objects, snapshot.index, snapshot.term
