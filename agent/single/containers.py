"""Single containers of this node: made, started with their network, stopped, removed, and found again after a restart.

The engine calls it; `run` belongs to agent/daemon.py. A container gets its network when it starts and gives it back
when it has ended, as in Docker: its address may be another the next time. The way to its namespace is a link in its own
folder, so that nothing of the container itself changes with it. The runtime keeps the container, the agent's database a
record of what was asked for; everything here may be broken off at any point and is put right by `run`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from agent.network.api import Network
from agent.runtime import signals
from agent.runtime.api import (
    ContainerConfig,
    ContainerState,
    EventKind,
    ExitStatus,
    Runtime,
    Status,
    WaitCondition,
)
from agent.single import failures, restarting
from agent.single.failures import FAILURES, in_words
from agent.single.linking import Linking
from agent.single.names import Names
from agent.single.namespaces import Namespaces, way_to
from agent.single.networks import LocalNetworks
from agent.single.record import BRIDGE, HOST, NONE, Leg, LocalNetwork, SingleRecord
from agent.single.records import Memory, Records
from agent.single.restarting import Restarts
from agent.single.settling import Settling
from agent.single.wiring import Attachments, Wiring
from agent.turns import Turns
from common import errors
from common.cancellation import to_the_end

_RUNNING: Final = (Status.RUNNING, Status.PAUSED)
_ENDING: Final = ("KILL", "TERM")  # who sends these wants a container to stay ended; or its own stop signal
_KILLED_S: Final = 20.0  # until it is said that one cannot be ended


class Singles:
    """See the module's text."""

    def __init__(
        self, runtime: Runtime, network: Network, memory: Memory, attachments: Attachments,
        records: Mapping[str, SingleRecord], networks: LocalNetworks,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._network = network
        self._attachments = attachments
        self._records = Records(memory, records)
        self._turns = Turns()
        self._names = Names(runtime)
        self._restarting: Counter[str] = Counter()  # ended only to be started again
        self._stops: Counter[str] = Counter()  # how often somebody has stopped it
        self._fresh = True  # nobody has looked at the containers yet
        self.restarts: Final = Restarts(self._start_again)
        self.settling: Final = Settling(self._settle)
        self.networks: Final = networks
        self.wiring: Final = Wiring(network, attachments, networks, self._records)
        self.linking: Final = Linking(runtime, self._records, self._turns)
        self._namespaces = Namespaces(runtime, self.wiring, attachments, self._records, self.linking)
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
        return self._records.sandboxes()

    def short_ids(self) -> dict[str, str]:
        """The short ids of those that have a place in the swarm's networks, by that: names that DNS knows."""
        return self._records.short_ids()

    # ---- the life of one

    async def create(self, config: ContainerConfig, record: SingleRecord) -> None:
        """Raises errors.Conflict for a name that is taken, errors.NotFound for an image that isn't here."""
        if record.network_mode not in (HOST, NONE):
            config = replace(config, network_namespace=way_to(self._runtime.folder(config.id)))
        async with self._names.given(config.name, config.id), self._turns.of(config.id):
            await self._records.add(record)  # first: what is half made then is known, and goes
            try:
                with in_words():
                    await self._runtime.create(config)
            except BaseException:
                await to_the_end(self._records.drop(config.id))
                raise

    async def start(self, container_id: str) -> bool:
        """Says whether there was anything to do."""
        async with self._turns.of(container_id):
            return await self._start(container_id)

    async def _start(self, container_id: str) -> bool:
        state = await self._state(container_id)
        if state.status is Status.PAUSED:
            raise errors.Conflict("cannot start a paused container, try unpause instead")
        if state.status is Status.RUNNING:
            return False
        record = self._records.get(container_id)
        if record is None:
            await self._records.add(_guessed(state))
        elif record.removing:
            raise errors.Conflict("container is marked for removal and cannot be started")
        self.restarts.cancel(container_id)
        await self._records.change(container_id, lambda now: replace(now, stopped=False, restarts=0))
        await self._bring_up(container_id)
        return True

    async def _start_again(self, container_id: str) -> None:
        """By its policy; raises errors.ShoalError where it cannot be now. Who doesn't want it any more has the turn before this
        one, and has cancelled it."""
        async with self._turns.of(container_id):
            state = await self._runtime.container(container_id)
            record = self._records.get(container_id)
            if record is None or record.removing or restarting.spent(record):
                return
            if state is None or state.status is not Status.STOPPED:
                return
            await self._records.change(
                container_id, lambda now: replace(now, stopped=False, restarts=now.restarts + 1)
            )
            await self._bring_up(container_id)

    async def _bring_up(self, container_id: str) -> None:
        """Network, then process. What fails leaves its text and an exit code, as in Docker."""
        runs = False
        try:
            with in_words():
                record = await self._namespaces.open(container_id)
                runs = True
                pid = await self._runtime.start_container(container_id)
        except errors.ShoalError as exc:
            error = failures.of_process(exc) if runs else exc
            await to_the_end(self._fallen(container_id, error, runs))
            raise failures.of_start(error) from exc
        except BaseException:
            await to_the_end(self._fallen(container_id))
            raise
        if record.error:
            await self._records.change(container_id, lambda now: replace(now, error="", exit_code=0))
        for place in record.attachments:
            self._attachments.started(place, container_id, pid)

    async def stop(self, container_id: str, signal: str = "", grace_s: float | None = None) -> bool:
        """Says whether there was anything to do; its network is given back when this returns. A start that is under way comes to
        its end first, and is what is stopped then."""
        self._stops[container_id] += 1
        return await self._end(container_id, signal, grace_s)

    async def _end(self, container_id: str, signal: str, grace_s: float | None) -> bool:
        async with self._turns.of(container_id):
            waited = self.restarts.waits(container_id)
            await self._note_stopped(container_id)
            if (await self._state(container_id)).status not in _RUNNING:
                return waited
        # Without the turn: it may take long, and meanwhile others kill it. The call is for the run that there is now.
        await self._runtime.stop(container_id, signal, grace_s)
        await self.settling.now(container_id)
        return True

    async def restart(self, container_id: str, signal: str = "", grace_s: float | None = None) -> None:
        """Ended and started again; one that goes with its end stays meanwhile. Who stops it meanwhile has the last word."""
        self._restarting[container_id] += 1
        stops, begun = self._stops[container_id], False
        try:
            await self._end(container_id, signal, grace_s)
            async with self._turns.of(container_id):
                if begun := (self._stops[container_id] == stops):
                    await self._start(container_id)
        finally:
            self._restarting -= Counter((container_id,))
            if not begun:
                await to_the_end(self.settling.now(container_id))

    async def kill(self, container_id: str, signal: str, known_as: str = "") -> None:
        """Signals its first process, also of a task's; `known_as`: how the user calls it."""
        number = signals.parse(signal)
        async with self._turns.of(container_id):
            state = await self._state(container_id)
            if state.status not in _RUNNING:
                ref = known_as or container_id
                raise errors.Conflict(
                    f"cannot kill container: {ref}: container {container_id} is not running"
                )
            await self._runtime.kill(container_id, signal)
            own = state.config.stop_signal if state.config is not None else ""
            if number in map(signals.parse, filter(None, (*_ENDING, own))):
                await self._note_stopped(container_id)

    async def _note_stopped(self, container_id: str) -> None:
        """Somebody ends it: its policy starts it again no more."""
        self.restarts.cancel(container_id)
        if container_id in self._records:
            await self._records.change(container_id, lambda now: replace(now, stopped=True))

    async def ended(self, container_id: str, condition: WaitCondition) -> ExitStatus:
        """As the runtime's `wait`, also for a task's; an end that its policy makes a new start of is none, as in Docker."""
        how = await self._runtime.wait(container_id, condition)
        while condition != "removed" and restarting.has_policy(self._records.get(container_id)):
            await self.settling.now(container_id)
            if self.restarts.waits(container_id):
                await self.restarts.over(container_id)
                continue  # that start may have come to its end, too
            state, record = await self._runtime.container(container_id), self._records.get(container_id)
            if state is None or record is None:
                break
            if state.status not in _RUNNING:
                return state.exit or how
            if not record.restarts:
                break  # it runs because somebody has started it
            how = await self._runtime.wait(container_id)
        return how

    async def rename(self, container_id: str, name: str) -> None:
        """Its name is known in all its networks at once, and the old one nowhere."""
        async with self._turns.of(container_id), self._names.given(name, container_id):
            await self._runtime.rename(container_id, name)
            if container_id in self._records:
                await self._name(container_id, name)

    async def _name(self, container_id: str, name: str) -> None:
        self._attachments.renamed(
            await self._records.change(container_id, lambda now: replace(now, name=name))
        )
        self.wiring.wire()

    async def remove(self, container_id: str, force: bool = False) -> None:
        """Away with it; errors.Conflict for one that runs, unless `force`. Once begun it is brought to its end, by the next agent
        too."""
        async with self._turns.of(container_id):
            state = await self._runtime.container(container_id)
            runs = state is not None and state.status in _RUNNING
            if not force and (runs or self.restarts.waits(container_id)):
                raise errors.Conflict(
                    f"You cannot remove a running container {container_id}. "
                    "Stop the container before attempting removal or force remove"
                )
            self.restarts.cancel(container_id)
            if container_id in self._records:
                await self._records.change(container_id, lambda now: replace(now, removing=True))
            try:
                await self._take_away(container_id)
            except FAILURES as exc:
                self.settling.later(container_id, exc)
                raise

    async def _take_away(self, container_id: str) -> None:
        """With its process, its network and all that is known of it."""
        state = await self._runtime.container(container_id)
        if state is not None and state.status in _RUNNING:
            with suppress(errors.Conflict):  # it has just ended by itself
                await self._runtime.kill(container_id)
            try:
                async with asyncio.timeout(_KILLED_S):
                    await self._runtime.wait(container_id)
            except TimeoutError as exc:
                raise errors.ShoalError(
                    f"could not kill container {container_id}: "
                    "tried to kill container, but did not receive an exit event"
                ) from exc
        await self._namespaces.close(container_id)
        with in_words():
            await self._runtime.remove(container_id, force=True)
        await self._records.drop(container_id)
        self._stops.pop(container_id, None)

    async def _fallen(
        self, container_id: str, error: errors.ShoalError | None = None, of_process: bool = False
    ) -> None:
        """A start that failed leaves no network behind, and no container that was to remove itself."""
        state = await self._runtime.container(container_id)
        record = self._records.get(container_id)
        if record is None or (state is not None and state.status is Status.RUNNING):
            return
        if error is not None:
            before = record.exit_code or (state.exit.code if state and state.exit else 0)
            code = failures.exit_code(error.message) if of_process else before or failures.UNKNOWN
            message = error.message
            await self._records.change(container_id, lambda now: replace(now, error=message, exit_code=code))
        try:
            if record.auto_remove:
                await self._take_away(container_id)
            else:
                await self._namespaces.close(container_id)
        except FAILURES as exc:  # the first cause is the one to tell
            self.settling.later(container_id, exc)

    # ---- its networks

    async def connect(self, container_id: str, leg: Leg) -> None:
        """One network more; errors.PermissionDenied and errors.Conflict with Docker's texts."""
        async with self._turns.of(container_id):
            await self._namespaces.join(await self._of_networks(container_id), leg)

    async def disconnect(self, container_id: str, leg: Leg) -> None:
        """One network less."""
        async with self._turns.of(container_id):
            await self._namespaces.leave(await self._of_networks(container_id), leg)

    async def _of_networks(self, container_id: str) -> ContainerState:
        state = await self._state(container_id)
        if container_id not in self._records:
            raise errors.NotFound(f"No such container: {container_id}")
        return state

    # ---- this node's own networks

    async def begin(self, now: int) -> None:
        """The default bridge is there from the first start on; its interface from its first container on."""
        await self.wiring.begin(now)

    async def add_network(self, network: LocalNetwork) -> LocalNetwork:
        """Makes one; its bridge stands when this returns."""
        return await self.wiring.add_network(network)

    async def drop_network(self, network: LocalNetwork) -> None:
        """Takes one away; errors.PermissionDenied where containers are on it."""
        await self.wiring.drop_network(network)

    # ---- what happens by itself

    async def run(self) -> None:
        """Until cancelled: ended containers give back their network, and go, or start again, if they were made to."""
        async with asyncio.TaskGroup() as group:
            self.restarts.within(group)
            self.settling.within(group)
            try:
                await self._watch(group)
            finally:
                self.restarts.within(None)
                self.settling.within(None)

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        """One container whose start takes long keeps no other waiting."""
        fresh, self._fresh = self._fresh, False
        async for event in self._runtime.watch():
            if event.kind is EventKind.RESYNC:
                for container_id in (*self._records, ""):
                    group.create_task(self.settling.now(container_id, fresh))
                fresh = False
            elif event.kind is EventKind.EXIT and event.id in self._records:
                group.create_task(self.settling.now(event.id))

    async def _settle(self, container_id: str, fresh: bool) -> None:
        """What a container needs that has ended, or was found so. Without an id: what belongs to none."""
        if not container_id:
            await self._sweep()
            return
        async with self._turns.of(container_id):
            record = self._records.get(container_id)
            if record is None:
                return
            state = await self._runtime.container(container_id)
            if state is None or record.removing:
                await self._take_away(container_id)  # half made or half removed, or gone while nobody looked
                return
            if state.name != record.name:
                await self._name(container_id, state.name)
            if state.status in _RUNNING:
                for place in record.attachments:
                    self._attachments.started(place, container_id, state.pid)
            else:
                await self._settle_ended(state, fresh)

    async def _settle_ended(self, state: ContainerState, fresh: bool) -> None:
        record = self._records[state.id]
        ended = state.status is Status.STOPPED
        held = state.id in self._restarting
        if ended and record.auto_remove and not held:
            await self._take_away(state.id)
            return
        await self._namespaces.close(state.id)
        how = exit_of(state)
        fresh = fresh and not self._stops[state.id]  # somebody may have been faster than this look
        if ended and not held and restarting.wanted(record, how.code, fresh):
            self.restarts.after(state.id, (how.exited_at - state.started_at) / 1e9)

    async def _sweep(self) -> None:
        """Namespaces that belong to no container."""
        for sandbox in set(self._network.local) - self.sandboxes().keys():
            async with self._turns.of(sandbox):
                if self.sandboxes().get(sandbox) is None:
                    await self._network.detach(sandbox)

    # ---- small things

    async def _state(self, container_id: str) -> ContainerState:
        state = await self._runtime.container(container_id)
        if state is None:
            raise errors.NotFound(f"No such container: {container_id}")
        return state


def exit_of(state: ContainerState) -> ExitStatus:
    """How a container that isn't running ended; one that never ran has ended well."""
    return state.exit or ExitStatus(0)


def _guessed(state: ContainerState) -> SingleRecord:
    """For a container whose record was lost with the database: its networks are not known any more."""
    mode = "host" if state.config is not None and state.config.host_network else "none"
    if state.config is not None and state.config.network_namespace:
        mode = BRIDGE
    return SingleRecord(state.id, state.name, mode, (Leg(BRIDGE),) if mode == BRIDGE else ())
