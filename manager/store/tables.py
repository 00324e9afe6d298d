"""Tables in memory and transactions laid over them: the two places where a view's rows can be.

Used by store.py; `view_of` also by tests. Objects are immutable, so a table only swaps references.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from common import model
from manager.store.view import (
    Configs,
    Networks,
    Nodes,
    Rows,
    Secrets,
    Services,
    StoreObject,
    Tasks,
)

T = TypeVar("T", bound=StoreObject)
Index = Mapping[str, Callable[[Any], Hashable]]


def _name(thing: Any) -> Hashable:
    return str(thing.spec.name).lower()


INDEXES: Final[Mapping[type[StoreObject], Index]] = {
    model.Cluster: {},
    model.Node: {"hostname": lambda n: n.description.hostname.lower()},
    model.Service: {"name": _name},
    model.Task: {
        "service": lambda t: t.service_id,
        "node": lambda t: t.node_id,
    },
    model.Network: {"name": _name},
    model.Secret: {"name": _name},
    model.Config: {"name": _name},
}


class MemoryRows(Generic[T]):
    """Objects by id, and by each key of each index."""

    __slots__ = ("_by", "_keys", "_objects")

    def __init__(self, keys: Index) -> None:
        self._keys = keys
        self._objects: dict[str, T] = {}
        self._by: dict[str, dict[Hashable, dict[str, T]]] = {name: {} for name in keys}

    def get(self, key: str, /) -> T | None:
        return self._objects.get(key)

    def all(self) -> Iterable[T]:
        return self._objects.values()

    def by(self, index: str, key: Hashable, /) -> Sequence[T]:
        found = self._by[index].get(key)
        return tuple(found.values()) if found else ()

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, thing: T) -> T | None:
        """Stores `thing`; returns what it replaces."""
        old = self._objects.get(thing.id)
        self._objects[thing.id] = thing
        for name, key_of in self._keys.items():
            index, key = self._by[name], key_of(thing)
            if old is not None and (before := key_of(old)) != key:
                self._unlink(index, before, thing.id)
            index.setdefault(key, {})[thing.id] = thing
        return old

    def remove(self, key: str) -> T | None:
        """Forgets the object with this id; returns it."""
        old = self._objects.pop(key, None)
        if old is not None:
            for name, key_of in self._keys.items():
                self._unlink(self._by[name], key_of(old), key)
        return old

    @staticmethod
    def _unlink(index: dict[Hashable, dict[str, T]], key: Hashable, thing_id: str) -> None:
        entry = index[key]
        del entry[thing_id]
        if not entry:
            del index[key]


class OverlayRows(Generic[T]):
    """A transaction's writes in front of what is below; None marks a removed object."""

    __slots__ = ("_below", "_keys", "changed")

    def __init__(self, below: Rows[T], keys: Index) -> None:
        self._below = below
        self._keys = keys
        self.changed: dict[str, T | None] = {}

    def get(self, key: str, /) -> T | None:
        return self.changed[key] if key in self.changed else self._below.get(key)

    def all(self) -> Iterable[T]:
        if not self.changed:
            return self._below.all()
        return self._merged(self._below.all(), lambda _: True)

    def by(self, index: str, key: Hashable, /) -> Sequence[T]:
        below = self._below.by(index, key)
        if not self.changed:
            return below
        key_of = self._keys[index]
        return self._merged(below, lambda thing: key_of(thing) == key)

    def _merged(self, below: Iterable[T], fits: Callable[[T], bool]) -> list[T]:
        kept = [thing for thing in below if thing.id not in self.changed]
        kept.extend(thing for thing in self.changed.values() if thing is not None and fits(thing))
        return kept

    def __len__(self) -> int:
        count = len(self._below)
        for key, thing in self.changed.items():
            count += (thing is not None) - (self._below.get(key) is not None)
        return count


class View:
    """A ReadView over rows of each kind."""

    __slots__ = ("configs", "index", "networks", "nodes", "rows", "secrets", "services", "tasks")

    def __init__(self, rows: Mapping[type[Any], Any], index: int = 0) -> None:
        self.replace(rows, index)

    def replace(self, rows: Mapping[type[Any], Any], index: int) -> None:
        """Shows other rows from now on."""
        self.rows = rows
        self.index = index
        self.nodes = Nodes(rows[model.Node])
        self.services = Services(rows[model.Service])
        self.tasks = Tasks(rows[model.Task])
        self.networks = Networks(rows[model.Network])
        self.secrets = Secrets(rows[model.Secret])
        self.configs = Configs(rows[model.Config])

    @property
    def cluster(self) -> model.Cluster:
        for cluster in self.rows[model.Cluster].all():
            return cast(model.Cluster, cluster)
        return _NO_CLUSTER


_NO_CLUSTER: Final = model.Cluster()


def memory() -> dict[type[Any], MemoryRows[Any]]:
    """Empty tables of every kind."""
    return {kind: MemoryRows(keys) for kind, keys in INDEXES.items()}


def overlay(below: Mapping[type[Any], Any]) -> dict[type[Any], OverlayRows[Any]]:
    """A transaction over `below`."""
    return {kind: OverlayRows(below[kind], keys) for kind, keys in INDEXES.items()}


def view_of(objects: Iterable[StoreObject], index: int = 0) -> View:
    """A view of just these objects."""
    rows = memory()
    for thing in objects:
        rows[type(thing)].put(thing)
    return View(rows, index)
