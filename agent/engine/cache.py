"""Encoded store objects, kept by id and version: the docker CLI asks for the same ones five times a second.

What is filled in for an answer only (a service's status, a manager's leadership, a task's networks) does not raise the
version, so it is part of what must be equal. Used by the noun modules.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from common import apijson, model

CAPACITY: Final = 2048

StoreObject = (
    model.Cluster | model.Node | model.Service | model.Task | model.Network | model.Secret | model.Config
)


class EncodedObjects:
    """JSON of store objects; the least used ones go first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[type, str, object], tuple[object, bytes]] = OrderedDict()

    def one(self, obj: StoreObject, variant: object = None) -> bytes:
        """The object's JSON; `variant` keeps apart answers that are made differently (insertDefaults)."""
        if not obj.version:
            return apijson.dumps(_shown(obj))
        key = (type(obj), obj.id, variant)
        state = (obj.version, _filled_in(obj))
        kept = self._kept.get(key)
        if kept is not None and kept[0] == state:
            self._kept.move_to_end(key)
            return kept[1]
        data = apijson.dumps(_shown(obj))
        self._kept[key] = (state, data)
        self._kept.move_to_end(key)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return data

    def many(self, objects: Iterable[StoreObject]) -> bytes:
        """A JSON list of them."""
        return b"[" + b",".join([self.one(obj) for obj in objects]) + b"]"


def _shown(obj: StoreObject) -> StoreObject:
    """Docker says of services which runtime their tasks have, but not of tasks."""
    if isinstance(obj, model.Task) and obj.spec.runtime:
        return replace(obj, spec=replace(obj.spec, runtime=""))
    return obj


def _filled_in(obj: StoreObject) -> object:
    """What an answer shows beside the stored object."""
    if isinstance(obj, model.Node):
        return obj.manager_status, obj.status
    if isinstance(obj, model.Service):
        return obj.status
    if isinstance(obj, model.Task):
        return [(a.network.id, a.network.version) if a.network else None for a in obj.networks]
    return None
