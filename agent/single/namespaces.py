"""A container's way into its network: a namespace of its own, another container's, the machine's, or none. For containers.py.

The way is a link in the container's own folder, which its settings name: each start finds there what is meant that time.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from agent.runtime.api import ContainerState, Runtime, Status
from agent.single.failures import in_words
from agent.single.linking import Linking
from agent.single.record import HOST, JOINED, NONE, Leg, SingleRecord
from agent.single.records import Records
from agent.single.wiring import Attachments, Wiring
from common import errors

_NETNS: Final = "netns"


def way_to(folder: str) -> str:
    """The link, in a container's folder."""
    return str(Path(folder) / _NETNS)


class Namespaces:
    """See the module's text. Whoever calls has the container's turn (turns.py)."""

    def __init__(
        self, runtime: Runtime, wiring: Wiring, attachments: Attachments, records: Records, linking: Linking
    ) -> None:
        self._runtime = runtime
        self._linking = linking
        self._wiring = wiring
        self._attachments = attachments
        self._records = records

    async def open(self, container_id: str) -> SingleRecord:
        """For a container that is to be started; what an earlier run has left is cleared away first."""
        await self.close(container_id)
        record = self._records[container_id]
        if record.network_mode in (HOST, NONE):
            return record
        if record.network_mode.startswith(JOINED):
            await self._share(record)
            return record
        record, sandbox = await self._wiring.plug(container_id)
        await asyncio.to_thread(_link, self._runtime.folder(container_id), sandbox.netns_path)
        await self._readdress(record)
        with in_words():
            await self._linking.give(container_id)
            await self._linking.moved(container_id)
        return self._records[container_id]

    async def close(self, container_id: str) -> None:
        """For one that has ended. Done already: nothing happens."""
        record = self._records.get(container_id)
        if record is not None and record.sandbox:
            await self._wiring.unplug(container_id)

    async def join(self, state: ContainerState, leg: Leg) -> None:
        """One network more."""
        before = self._records[state.id]
        after = await self._wiring.connect(state.id, leg)
        if after.sandbox:
            for place in set(after.attachments) - set(before.attachments):
                self._attachments.started(place, state.id, state.pid)
            await self._readdress(after)
            await self._linking.changed(state.id)

    async def leave(self, state: ContainerState, leg: Leg) -> None:
        """One network less."""
        after = await self._wiring.disconnect(state.id, leg)
        if after.sandbox:
            await self._readdress(after)
            await self._linking.changed(state.id)

    async def _share(self, record: SingleRecord) -> None:
        """The namespace of another container, and its files of names."""
        ref = record.network_mode.removeprefix(JOINED)
        everything = await self._runtime.containers()
        found = [c for c in everything if c.name == ref] or [c for c in everything if c.id.startswith(ref)]
        if not found:
            raise errors.NotFound(f"No such container: {ref}")
        other = found[0]
        if other.id == record.container_id:
            raise errors.Conflict("cannot join own network")
        if other.status not in (Status.RUNNING, Status.PAUSED):
            raise errors.Conflict(f"cannot join network of a non running container: {other.id}")
        source, target = self._runtime.folder(other.id), self._runtime.folder(record.container_id)
        await self._runtime.readdress(record.container_id, ())
        await asyncio.to_thread(_link, target, f"/proc/{other.pid}/ns/net")
        await asyncio.to_thread(_copy_names, source, target)

    async def _readdress(self, record: SingleRecord) -> None:
        with in_words():
            await self._runtime.readdress(record.container_id, self._wiring.addresses(record))


def _link(folder: str, namespace: str) -> None:
    """Blocking: the container's way to its namespace."""
    path = Path(folder) / _NETNS
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    os.symlink(namespace, fresh)
    fresh.replace(path)


def _copy_names(source: str, target: str) -> None:
    """Blocking: who shares a container's network has its /etc/hosts and resolver, too."""
    for name in ("hosts", "resolv.conf", "hostname"):
        if (Path(source) / name).exists():
            (Path(target) / name).write_bytes((Path(source) / name).read_bytes())
