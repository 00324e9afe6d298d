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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from agent.network.api import Network
from agent.runtime.api import ContainerConfig, ContainerState, EventKind, ExitStatus, Runtime, Status
from agent.single import restarting
from agent.single.networks import LocalNetworks
from agent.single.record import BRIDGE, HOST, JOINED, NONE, Leg, LocalNetwork, SingleRecord
from agent.single.restarting import Restarts
from agent.single.wiring import Attachments, Wiring
from common import errors

log = logging.getLogger("single")

_NETNS: Final = "netns"


class Memory(Protocol):
    """agent/database.py."""

    async def put_single(self, record: SingleRecord) -> None: ...
    async def drop_single(self, container_id: str) -> None: ...


class Singles:
    """See the module's text."""

    def __init__(
        self, runtime: Runtime, network: Network, memory: Memory, attachments: Attachments,
        records: Mapping[str, SingleRecord], networks: LocalNetworks,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._network = network
        self._memory = memory
        self._attachments = attachments
        self._records = dict(records)
        self._locks: dict[str, asyncio.Lock] = {}
        self._names: set[str] = set()  # of containers that are being made
        self.restarts: Final = Restarts(self._start_again)
        self._restarting: set[str] = set()  # ended only to be started again
        self._fresh = True  # nobody has looked at the containers yet
        self.networks: Final = networks
        self.wiring: Final = Wiring(network, attachments, networks, self._records, self._keep)
        attachments.keep(self._records.values())

    # ---- looking

    def record(self, container_id: str) -> SingleRecord | None:
        """None for the container of a task, or one whose record is lost."""
        return self._records.get(container_id)

    def records(self) -> Mapping[str, SingleRecord]:
        """All that there are, by id."""
        return self._records

    def sandboxes(self) -> dict[str, str]:
        """Container ids by what others know them by: their namespaces, their places in overlays."""
        found = {r.sandbox: r.container_id for r in self._records.values() if r.sandbox}
        places = {place: r.container_id for r in self._records.values() for place in r.attachments}
        return {**found, **places}

    def short_ids(self) -> dict[str, str]:
        """The short ids of those that have a place in the swarm's networks, by that: names that DNS knows."""
        return {place: r.container_id[:12] for r in self._records.values() for place in r.attachments}

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
            if record.network_mode not in (HOST, NONE):
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
            self.restarts.cancel(container_id)
            record = self._records.get(container_id) or _guessed(state)
            await self._started(replace(record, stopped=False, restarts=0))
            return True

    async def _start_again(self, container_id: str) -> None:
        """By its policy; raises errors.ShoalError where it cannot be now."""
        async with self._lock(container_id):
            state = await self._runtime.container(container_id)
            record = self._records.get(container_id)
            if record is None or state is None or state.status is not Status.STOPPED:
                return
            await self._started(replace(record, stopped=False, restarts=record.restarts + 1))

    async def _started(self, record: SingleRecord) -> None:
        container_id = record.container_id
        record = await self._keep(record)
        try:
            record = await self._connect(record)
            pid = await self._runtime.start_container(container_id)
            for place in record.attachments:
                self._attachments.started(place, container_id, pid)
        except BaseException:
            await asyncio.shield(self._fallen(container_id))
            raise

    async def stop(self, container_id: str, signal: str = "", grace_s: float | None = None) -> bool:
        """Says whether there was anything to do; its network is given back when this returns."""
        waited = self.restarts.waits(container_id)
        await self.note_stopped(container_id)
        state = await self._state(container_id)
        if state.status not in (Status.RUNNING, Status.PAUSED):
            return waited
        await self._runtime.stop(container_id, signal, grace_s)
        await self._look_at([container_id])
        return True

    async def restart(self, container_id: str, signal: str = "", grace_s: float | None = None) -> None:
        """Ended and started again; one that goes with its end stays meanwhile."""
        self._restarting.add(container_id)
        try:
            await self.stop(container_id, signal, grace_s)
            await self.start(container_id)
        finally:
            self._restarting.discard(container_id)

    async def note_stopped(self, container_id: str) -> None:
        """Somebody ends it: its policy starts it again no more."""
        self.restarts.cancel(container_id)
        if (record := self._records.get(container_id)) is not None:
            await self._keep(replace(record, stopped=True))

    async def rename(self, container_id: str, name: str) -> None:
        """Its name, in the networks of this node at once, in overlays from the next start on."""
        async with self._lock(container_id):
            for other in await self._runtime.containers():
                if other.name == name:
                    raise _taken(name, other.id)
            if name in self._names:
                raise _taken(name, "")
            await self._runtime.rename(container_id, name)
            if (record := self._records.get(container_id)) is not None:
                await self._keep(replace(record, name=name))
                self.wiring.wire()

    async def remove(self, container_id: str, force: bool = False) -> None:
        """Away with it; errors.Conflict for one that runs, unless `force`."""
        async with self._lock(container_id):
            state = await self._runtime.container(container_id)
            runs = state is not None and state.status in (Status.RUNNING, Status.PAUSED)
            if not force and (runs or self.restarts.waits(container_id)):
                raise errors.Conflict(
                    f"You cannot remove a running container {container_id}. "
                    "Stop the container before attempting removal or force remove"
                )
            self.restarts.cancel(container_id)
            if runs:
                with suppress(errors.Conflict):  # it has just ended by itself
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
        record = self._records.get(record.container_id, record)
        if record.network_mode in (HOST, NONE):
            return record
        if record.network_mode.startswith(JOINED):
            await self._join(record)
            return record
        record, sandbox = await self.wiring.plug(record)
        folder = self._runtime.folder(record.container_id)
        await asyncio.to_thread(_link, folder, sandbox.netns_path)
        await self._runtime.readdress(record.container_id, self.wiring.addresses(record))
        return record

    async def _join(self, record: SingleRecord) -> None:
        """The namespace of another container, and its files of names."""
        ref = record.network_mode.removeprefix(JOINED)
        everything = await self._runtime.containers()
        found = [c for c in everything if c.name == ref or c.id.startswith(ref)]
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

    async def _disconnect(self, record: SingleRecord) -> None:
        if record.sandbox:
            await self.wiring.unplug(record)

    async def connect(self, container_id: str, leg: Leg) -> None:
        """One network more; errors.PermissionDenied and errors.Conflict with Docker's texts."""
        async with self._lock(container_id):
            state, record = await self._of_networks(container_id)
            shown = await self.wiring.connect(record, leg)
            if shown.sandbox:
                for place in set(shown.attachments) - set(record.attachments):
                    self._attachments.started(place, container_id, state.pid)
                await self._readdress(shown)

    async def disconnect(self, container_id: str, leg: Leg) -> None:
        """One network less."""
        async with self._lock(container_id):
            _, record = await self._of_networks(container_id)
            left = await self.wiring.disconnect(record, leg)
            if left.sandbox:
                await self._readdress(left)

    async def _of_networks(self, container_id: str) -> tuple[ContainerState, SingleRecord]:
        state = await self._state(container_id)
        record = self._records.get(container_id)
        if record is None:
            raise errors.NotFound(f"No such container: {container_id}")
        return state, record

    async def _readdress(self, record: SingleRecord) -> None:
        await self._runtime.readdress(record.container_id, self.wiring.addresses(record))

    # ---- this node's own networks

    async def begin(self, now: int) -> None:
        """The default bridge is there from the first start on; its interface from its first container on."""
        await self.networks.begin(now, await self._network.routes())
        self.wiring.wire()

    async def add_network(self, network: LocalNetwork) -> LocalNetwork:
        """Makes one; its bridge stands when this returns."""
        made = await self.networks.add(network, await self._network.routes())
        self.wiring.wire()
        try:
            await self._network.bridge()
        except errors.ShoalError:
            await self.networks.drop(made.id)
            self.wiring.wire()
            raise
        return made

    async def drop_network(self, network: LocalNetwork) -> None:
        """Takes one away; errors.PermissionDenied where containers are on it."""
        if self.wiring.members(network.id):
            raise errors.PermissionDenied(
                f"error while removing network: network {network.name} id {network.id} has active endpoints"
            )
        await self.networks.drop(network.id)
        self.wiring.wire()
        await self._network.bridge()

    # ---- what happens by itself

    async def run(self) -> None:
        """Until cancelled: ended containers give back their network, and go, or start again, if they were made to."""
        async with asyncio.TaskGroup() as group:
            self.restarts.within(group)
            try:
                await self._watch()
            finally:
                self.restarts.within(None)

    async def _watch(self) -> None:
        fresh, self._fresh = self._fresh, False
        async for event in self._runtime.watch():
            if event.kind is EventKind.RESYNC:
                await self._look_at(list(self._records), fresh)
                await self._sweep()
                fresh = False
            elif event.kind is EventKind.EXIT and event.id in self._records:
                await self._look_at([event.id])

    async def _look_at(self, ids: Sequence[str], fresh: bool = False) -> None:
        for container_id in ids:
            try:
                async with self._lock(container_id):
                    await self._settle(container_id, fresh)
            except errors.ShoalError as exc:
                log.warning("single container %s: %s", container_id[:12], exc.message)

    async def _settle(self, container_id: str, fresh: bool) -> None:
        record = self._records.get(container_id)
        if record is None:
            return
        state = await self._runtime.container(container_id)
        if state is None:
            await self._remove(container_id)  # half made, or gone while nobody looked
        elif state.status is Status.STOPPED and record.auto_remove and container_id not in self._restarting:
            await self._remove(container_id)
        elif state.status not in (Status.RUNNING, Status.PAUSED):
            await self._disconnect(record)
            ended = exit_of(state)
            if state.status is Status.STOPPED and restarting.wanted(record, ended.code, fresh):
                self.restarts.after(container_id, (ended.exited_at - state.started_at) / 1e9)
        else:
            for place in record.attachments:
                self._attachments.started(place, container_id, state.pid)

    async def _sweep(self) -> None:
        """Namespaces that belong to no container."""
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


def _guessed(state: ContainerState) -> SingleRecord:
    """For a container whose record was lost with the database: its networks are not known any more."""
    mode = "host" if state.config is not None and state.config.host_network else "none"
    if state.config is not None and state.config.network_namespace:
        mode = BRIDGE
    return SingleRecord(state.id, state.name, mode, (Leg(BRIDGE),) if mode == BRIDGE else ())


def _taken(name: str, container_id: str) -> errors.Conflict:
    return errors.Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
