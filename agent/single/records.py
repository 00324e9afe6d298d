"""The records of this node's single containers: the one place that changes them. For containers.py and wiring.py.

A change is a function of what the record is at that moment, not of what somebody has read before he waited for something: so no
change undoes another. It counts at once, and is on disk when the call returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from agent.single.record import SingleRecord
from common import errors


class Memory(Protocol):
    """agent/database.py: it writes in the order of the calls."""

    async def put_single(self, record: SingleRecord) -> None: ...
    async def drop_single(self, container_id: str) -> None: ...


Change = Callable[[SingleRecord], SingleRecord]


class Records(Mapping[str, SingleRecord]):
    """See the module's text; to be read like a table, by the container's id."""

    def __init__(self, memory: Memory, known: Mapping[str, SingleRecord]) -> None:
        self._memory = memory
        self._known = dict(known)
        self._linking = {id for id, record in known.items() if record.links}

    def __getitem__(self, container_id: str) -> SingleRecord:
        return self._known[container_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def sandboxes(self) -> dict[str, str]:
        """Container ids by what others know them by: their namespaces, their places in overlays."""
        found = {r.sandbox: r.container_id for r in self._known.values() if r.sandbox}
        places = {place: r.container_id for r in self._known.values() for place in r.attachments}
        return {**found, **places}

    def short_ids(self) -> dict[str, str]:
        """The short ids of those that have a place in the swarm's networks, by that."""
        return {place: r.container_id[:12] for r in self._known.values() for place in r.attachments}

    def linking(self) -> list[SingleRecord]:
        """Those that have names for others on the default bridge."""
        return [self._known[id] for id in self._linking]

    async def add(self, record: SingleRecord) -> None:
        """A new one."""
        self._note(record)
        await self._memory.put_single(record)

    async def change(self, container_id: str, how: Change) -> SingleRecord:
        """Answers with the record as it is afterwards; errors.NotFound where there is none (any more)."""
        before = self._known.get(container_id)
        if before is None:
            raise errors.NotFound(f"No such container: {container_id}")
        after = how(before)
        if after != before:
            self._note(after)
            await self._memory.put_single(after)
        return self._known.get(container_id, after)

    async def drop(self, container_id: str) -> None:
        """The container has gone."""
        self._linking.discard(container_id)
        if self._known.pop(container_id, None) is not None:
            await self._memory.drop_single(container_id)

    def _note(self, record: SingleRecord) -> None:
        self._known[record.container_id] = record
        (self._linking.add if record.links else self._linking.discard)(record.container_id)
