"""Single containers of this node: made, started with their network, stopped, removed, and found again after a restart.

The engine calls it; `run` belongs to agent/daemon.py. A container gets its network when it starts and gives it back
when it has ended, as in Docker: its address may be another the next time. The way to its namespace is a link in its own
folder, so that nothing of the container itself changes with it. The runtime keeps the container, the agent's database a
record of what was asked for; everything here may be broken off at any point and is put right by `run`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from agent.network.api import Network, Sandbox
from agent.runtime.api import ContainerConfig, ContainerState, EventKind, ExitStatus, Runtime, Status
from agent.single.record import BRIDGE, OWN, SingleRecord
from common import errors

log = logging.getLogger("single")

_NETNS: Final = "netns"


class Memory(Protocol):
    """agent/database.py."""

    async def put_single(self, record: SingleRecord) -> None: ...
    async def drop_single(self, container_id: str) -> None: ...


class Attachments(Protocol):
    """The way into networks of the swarm (agent/single/attachments.py)."""

    async def acquire(self, record: SingleRecord) -> str:
        """A place in the container's networks; answers with the attachment's id, once this node knows of it."""
        ...

    def started(self, attachment_id: str, container_id: str, pid: int) -> None:
        """The container runs."""

    def keep(self, records: Iterable[SingleRecord]) -> None:
        """Those that there are at the agent's start."""

    def release(self, attachment_id: str) -> None:
        """The place isn't needed any more."""


class Singles:
    """See the module's text."""

    def __init__(
        self, runtime: Runtime, network: Network, memory: Memory, attachments: Attachments,
        records: Mapping[str, SingleRecord],
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._network = network
        self._memory = memory
        self._attachments = attachments
        self._records = dict(records)
        self._locks: dict[str, asyncio.Lock] = {}
        self._names: set[str] = set()  # of containers that are being made
        attachments.keep(self._records.values())

    # ---- looking

    def record(self, container_id: str) -> SingleRecord | None:
        """None for the container of a task, or one whose record is lost."""
        return self._records.get(container_id)

    def sandboxes(self) -> dict[str, str]:
        """Container ids by what the network knows their namespaces by."""
        return {r.sandbox: r.container_id for r in self._records.values() if r.sandbox}

    def short_ids(self) -> dict[str, str]:
        """The short ids of those that have a place in the swarm's networks, by that: names that DNS knows."""
        return {r.sandbox: r.container_id[:12] for r in self._records.values() if r.sandbox and r.legs}

    # ---- the life of one

    async def create(self, config: ContainerConfig, record: SingleRecord) -> None:
        """Raises errors.Conflict for a name that is taken, errors.NotFound for an image that isn't here."""
        for other in await self._runtime.containers():
            if other.name == config.name:
                raise _taken(config.name, other.id)
        if config.name in self._names:
            raise _taken(config.name, "")
        self._names.add(config.name)
        try:
            if record.network_mode == BRIDGE or record.network_mode not in OWN:
                namespace = str(Path(self._runtime.folder(config.id)) / _NETNS)
                config = replace(config, network_namespace=namespace)
            await self._runtime.create(config)
            await self._keep(record)
        finally:
            self._names.discard(config.name)

    async def start(self, container_id: str) -> bool:
        """Says whether there was anything to do."""
        async with self._lock(container_id):
            state = await self._state(container_id)
            if state.status in (Status.RUNNING, Status.PAUSED):
                return False
            record = self._records.get(container_id) or _guessed(state)
            try:
                record = await self._connect(record)
                pid = await self._runtime.start_container(container_id)
                if record.sandbox and record.legs:
                    self._attachments.started(record.sandbox, container_id, pid)
            except BaseException:
                await asyncio.shield(self._fallen(container_id))
                raise
            return True

    async def stop(self, container_id: str, signal: str = "", grace_s: float | None = None) -> bool:
        """Says whether there was anything to do; its network is given back by `run`."""
        state = await self._state(container_id)
        if state.status not in (Status.RUNNING, Status.PAUSED):
            return False
        await self._runtime.stop(container_id, signal, grace_s)
        return True

    async def remove(self, container_id: str, force: bool = False) -> None:
        """Away with it; errors.Conflict for one that runs, unless `force`."""
        async with self._lock(container_id):
            state = await self._runtime.container(container_id)
            if state is not None and state.status in (Status.RUNNING, Status.PAUSED):
                if not force:
                    raise errors.Conflict(
                        f"You cannot remove a running container {container_id}. "
                        "Stop the container before attempting removal or force remove"
                    )
                await self._runtime.kill(container_id)
                await self._runtime.wait(container_id)
            await self._remove(container_id)

    async def _remove(self, container_id: str) -> None:
        if (record := self._records.get(container_id)) is not None:
            await self._disconnect(record)
        await self._runtime.remove(container_id, force=True)
        if self._records.pop(container_id, None) is not None:
            await self._memory.drop_single(container_id)
        self._locks.pop(container_id, None)

    async def _fallen(self, container_id: str) -> None:
        """A start that failed leaves no network behind, and no container that was to remove itself."""
        state = await self._runtime.container(container_id)
        if state is not None and state.status is Status.RUNNING:
            return
        record = self._records.get(container_id)
        if record is not None and record.auto_remove:
            await self._remove(container_id)
        elif record is not None:
            await self._disconnect(record)

    # ---- its network

    async def _connect(self, record: SingleRecord) -> SingleRecord:
        await self._disconnect(record)
        if record.network_mode in OWN and record.network_mode != BRIDGE:
            return record
        if record.network_mode == BRIDGE:
            record = await self._keep(replace(record, sandbox=record.container_id))
            sandbox = await self._network.attach_local(record.container_id)
        else:
            record = await self._keep(replace(record, sandbox=await self._attachments.acquire(record)))
            sandbox = await self._network.attach(record.sandbox)
        await asyncio.to_thread(_link, self._runtime.folder(record.container_id), sandbox)
        own = sandbox.addresses or ((sandbox.gateway_address,) if sandbox.gateway_address else ())
        await self._runtime.readdress(record.container_id, own)
        return record

    async def _disconnect(self, record: SingleRecord) -> None:
        if not record.sandbox:
            return
        await self._network.detach(record.sandbox)
        if record.legs:
            self._attachments.release(record.sandbox)
        await self._keep(replace(record, sandbox=""))

    # ---- what happens by itself

    async def run(self) -> None:
        """Until cancelled: ended containers give back their network, and go if they were made to."""
        async for event in self._runtime.watch():
            if event.kind is EventKind.RESYNC:
                await self._look_at(list(self._records))
                await self._sweep()
            elif event.kind is EventKind.EXIT and event.id in self._records:
                await self._look_at([event.id])

    async def _look_at(self, ids: Sequence[str]) -> None:
        for container_id in ids:
            try:
                async with self._lock(container_id):
                    await self._settle(container_id)
            except errors.ShoalError as exc:
                log.warning("single container %s: %s", container_id[:12], exc.message)

    async def _settle(self, container_id: str) -> None:
        record = self._records.get(container_id)
        if record is None:
            return
        state = await self._runtime.container(container_id)
        if state is None:
            await self._remove(container_id)  # half made, or gone while nobody looked
        elif state.status is Status.STOPPED and record.auto_remove:
            await self._remove(container_id)
        elif state.status not in (Status.RUNNING, Status.PAUSED):
            await self._disconnect(record)
        elif record.legs and record.sandbox:
            self._attachments.started(record.sandbox, container_id, state.pid)

    async def _sweep(self) -> None:
        """Namespaces on this node's own bridge that belong to no container."""
        for sandbox in set(self._network.local) - self.sandboxes().keys():
            async with self._lock(sandbox):
                if self.sandboxes().get(sandbox) is None:
                    await self._network.detach(sandbox)

    # ---- small things

    def _lock(self, container_id: str) -> asyncio.Lock:
        return self._locks.setdefault(container_id, asyncio.Lock())

    async def _keep(self, record: SingleRecord) -> SingleRecord:
        self._records[record.container_id] = record
        await self._memory.put_single(record)
        return record

    async def _state(self, container_id: str) -> ContainerState:
        state = await self._runtime.container(container_id)
        if state is None:
            raise errors.NotFound(f"No such container: {container_id}")
        return state


def exit_of(state: ContainerState) -> ExitStatus:
    """How a container that isn't running ended; one that never ran has ended well."""
    return state.exit or ExitStatus(0)


def _link(folder: str, sandbox: Sandbox) -> None:
    """Blocking: the container's way to its namespace."""
    path = Path(folder) / _NETNS
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    os.symlink(sandbox.netns_path, fresh)
    fresh.replace(path)


def _guessed(state: ContainerState) -> SingleRecord:
    """For a container whose record was lost with the database: its networks are not known any more."""
    mode = "host" if state.config is not None and state.config.host_network else "none"
    if state.config is not None and state.config.network_namespace:
        mode = BRIDGE
    return SingleRecord(state.id, state.name, mode)


def _taken(name: str, container_id: str) -> errors.Conflict:
    return errors.Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
