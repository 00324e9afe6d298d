"""The life of containers over containerd: create, start, stop, remove, and knowing how each one ended.

A running container has one supervisor here, a pending wait that outlives restarts of containerd. When the process
ends it notes the exit on disk, frees the shim and wakes everyone who waits. After a restart of the agent `adopt`
finds the containers again; nothing about them changes by it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agent.runtime import fifo, signals
from agent.runtime.api import (
    ContainerConfig,
    ContainerEvent,
    ContainerState,
    ContainerStats,
    EventKind,
    ExitStatus,
    WaitCondition,
)
from agent.runtime.attach import Attachment
from agent.runtime.creation import Creator
from agent.runtime.events import Events
from agent.runtime.folder import Folders, Record
from agent.runtime.live import Live, happens_within, no_such
from agent.runtime.logs import Logs
from agent.runtime.oci import in_runcs_words
from agent.runtime.tail import Tail
from agent.runtime.tasks import Tasks
from common import errors
from common.clock import Clock
from common.pb import containerd_pb2 as pb

log = logging.getLogger("runtime")

STARTS_AT_ONCE = 4  # more at once is no faster on the whole, only slower for each
LOST = 255  # the exit code of a container whose end nobody saw, as Docker gives it
_SIGKILL = 9
_KILL_AGAIN_S = 10.0
_KILLED_S = 10.0  # that a kill waits for the end
_WRITTEN_S = 10.0  # that a reader waits for the last output of what has ended

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Containers:
    """`spawn` runs a supervisor for as long as its container runs."""

    def __init__(
        self,
        creator: Creator,
        tasks: Tasks,
        folders: Folders,
        logs: Logs,
        events: Events,
        clock: Clock,
        spawn: Spawn,
    ) -> None:
        self._creator = creator
        self._tasks = tasks
        self._folders = folders
        self._logs = logs
        self._events = events
        self._clock = clock
        self._spawn = spawn
        self._live: dict[str, Live] = {}
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)

    # ---- finding them again

    async def adopt(self) -> None:
        """Take over what is on the node: supervise what runs, note what ended unseen, drop what is half made."""
        listed = await self._creator.created()
        by_id = {task.id: task for task in await self._tasks.all()}
        for container in listed:
            record = await asyncio.to_thread(self._folders.load, container.id)
            if record is None:
                log.warning("container %s has no record on disk; known by its labels only", container.id[:12])
                config = ContainerConfig(container.id, container.id[:12], container.image)
                record = Record(
                    config=replace(config, labels=dict(container.labels)),
                    image_id="",
                    stop_signal="SIGTERM",
                    created_at=container.created_at.ToNanoseconds(),
                )
            await self._adopt_one(Live(record), by_id.get(container.id))
        known = {container.id for container in listed}
        for id in await asyncio.to_thread(self._folders.ids):
            if id not in known:
                await asyncio.to_thread(self._folders.remove, id)
        running = sum(live.pid != 0 for live in self._live.values())
        log.info("found %d containers, %d of them running", len(self._live), running)

    async def _adopt_one(self, live: Live, task: pb.TaskProcess | None) -> None:
        id = live.id
        self._live[id] = live
        if task is not None and task.status not in (pb.CREATED, pb.UNKNOWN):
            self._logs.collect(id, self._folders.path(id))
            if task.status == pb.STOPPED:
                await self._supervise(live)  # it ended unseen, or its end was seen but not cleared away
            else:
                live.found_running(task.pid, task.status == pb.PAUSED)
                self._spawn(self._supervise(live))
            return
        if live.record.started_at and live.record.exit is None:
            live.record = replace(live.record, exit=ExitStatus(LOST, self._clock.now_ns()))
            await self._keep(live.record)
        if live.record.exit is not None:
            live.ended.set()

    def find(self, id: str) -> ContainerState | None:
        live = self._live.get(id)
        return live.state if live is not None else None

    def all(self) -> list[ContainerState]:
        return [live.state for live in self._live.values()]

    def using(self, image_id: str) -> list[str]:
        return [id for id, live in self._live.items() if live.record.image_id == image_id]

    # ---- making them

    async def create(self, config: ContainerConfig) -> None:
        if config.id in self._live:
            raise errors.AlreadyExists(f"container {config.id} already exists")
        draft = await self._creator.draft(config, self._clock.now_ns())
        live = Live(draft.record)
        self._live[config.id] = live
        try:
            async with self._turns, live.changing:
                await self._creator.create(draft)
        except BaseException as error:
            del self._live[config.id]
            await asyncio.shield(self._undo_create(config.id))
            if isinstance(error, OSError):
                raise _no_room(error) from error
            raise
        self._tell(EventKind.CREATE, live)

    async def _undo_create(self, id: str) -> None:
        await self._creator.delete(id)
        await asyncio.to_thread(self._folders.remove, id)

    # ---- running them

    async def start(self, id: str) -> int:
        """Run it, again if it has run before; one that runs already is left alone."""
        live = self._get(id)
        async with self._turns, live.changing:
            if live.removed:
                raise no_such(id)
            if live.pid:
                return live.pid
            pid = await self._run(live)
            live.has_started(pid, self._clock.now_ns())
            self._spawn(self._supervise(live))
            await self._keep(live.record)
        self._tell(EventKind.START, live)
        return pid

    async def _run(self, live: Live) -> int:
        """The pid of the started process; its output is collected from the first line on."""
        id = live.id
        try:
            stdout, stderr = await asyncio.to_thread(self._logs.prepare, self._folders.path(id))
            stdin = await asyncio.to_thread(self._stdin, live.config)
        except OSError as error:
            raise _no_room(error) from error
        self._logs.collect(id, self._folders.path(id))
        try:
            return await self._tasks.run(live.config, stdin, stdout, stderr)
        except errors.ShoalError as error:
            await self._logs.finish(id)
            words = (*live.config.command, *live.config.args, "")
            raise type(error)(in_runcs_words(error.message, words[0])) from error
        except asyncio.CancelledError:
            await self._logs.finish(id)
            raise

    def _stdin(self, config: ContainerConfig) -> str:
        """Blocking: the pipe of a container that takes input."""
        if not config.open_stdin:
            return ""
        path = str(self._folders.path(config.id) / "stdin")
        fifo.make(path)
        return path

    async def attach(self, id: str, stdin: bool) -> Attachment:
        """Its streams from now on, also before it starts."""
        live = self._get(id)
        try:
            pipe = await asyncio.to_thread(self._stdin, live.config) if stdin else ""
            entry = fifo.Stdin(pipe) if pipe else None
        except OSError as error:
            raise _no_room(error) from error
        # Last: output is held for a reader from here on, and nothing may fail before he has it.
        tail = self._logs.tail(id, self._folders.path(id))

        async def end_input() -> None:
            await self._tasks.end_input(id)

        def gone(tail: Tail) -> None:
            self._logs.let_go(id, tail)

        return Attachment(tail, entry, live.runs, end_input, gone)

    async def readdress(self, id: str, addresses: Sequence[str]) -> None:
        """What its name stands for in /etc/hosts from now on, whether it runs or not."""
        live = self._get(id)
        async with live.changing:
            await self._rewrite(live, replace(live.config, addresses=tuple(addresses)))

    async def relink(self, id: str, hosts: Sequence[str], env: Sequence[str]) -> None:
        """What its links add to /etc/hosts and to the environment, whether it runs or not."""
        live = self._get(id)
        async with live.changing:
            await self._creator.relink(id, env)
            await self._rewrite(live, replace(live.config, linked_hosts=tuple(hosts)))

    async def _rewrite(self, live: Live, config: ContainerConfig) -> None:
        live.record = replace(live.record, config=config)
        try:
            await asyncio.to_thread(self._folders.prepare, live.record)
        except OSError as error:
            raise _no_room(error) from error

    async def _supervise(self, live: Live) -> None:
        """Wait for the end, however often containerd restarts meanwhile; note it, tell it, free the shim."""
        id = live.id
        ended = await self._tasks.end(id)
        async with live.changing:
            live.record = replace(live.record, exit=ended)
            await self._keep(live.record)
            live.has_ended()
            self._tell(EventKind.EXIT, live)
            try:
                await self._tasks.delete(id)  # waits for its output to be written out
            except errors.ShoalError as error:  # start and remove clear it away again
                log.warning("can't delete the ended task of container %s: %s", id[:12], error)
            try:
                await self._logs.finish(id)
            except OSError as error:  # too many open files: of this one alone, the others are supervised on
                log.error("can't take the last output of container %s: %s", id[:12], error)

    async def _keep(self, record: Record) -> None:
        """Note what happened to a container. A full disk loses the note, not the container."""
        try:
            await asyncio.to_thread(self._folders.save, record)
        except OSError as error:
            log.error("can't keep the record of container %s: %s", record.config.id[:12], error)

    # ---- while they run, and ending them

    async def kill(self, id: str, signal: str) -> None:
        live = self._get(id)
        number = signals.parse(signal)
        ended = live.next_end  # of this run
        if not live.pid or not await self._signal(live, number):
            raise errors.Conflict(f"cannot kill container: {id}: container {id} is not running")
        if number != _SIGKILL:
            return
        if await happens_within(ended, _KILLED_S):
            await live.settled()  # as in Docker, it has ended when this returns
        elif live.paused:
            await self.resume(id)

    async def pause(self, id: str) -> None:
        """Its processes stand still, whatever they are at."""
        live = self._get(id)
        async with live.changing:
            if live.pid and not live.paused:
                await self._tasks.pause(id)
                live.paused = True

    async def resume(self, id: str) -> None:
        """They go on."""
        live = self._get(id)
        async with live.changing:
            if live.pid and live.paused:
                await self._tasks.resume(id)
                live.paused = False

    async def rename(self, id: str, name: str) -> None:
        live = self._get(id)
        async with live.changing:
            live.record = replace(live.record, config=replace(live.config, name=name))
            await self._keep(live.record)

    async def _signal(self, live: Live, number: int) -> bool:
        """False if there is no process to hear it."""
        self._tell(EventKind.KILL, live, number)
        return await self._tasks.signal(live.id, number)

    async def stop(self, id: str, signal: str, grace_s: float | None) -> ExitStatus:
        live = self._get(id)
        if live.pid:
            ended = live.next_end  # of this run: somebody may start it again at once
            await self._signal(live, signals.parse(signal or live.record.stop_signal))
            await self.resume(id)  # what stands still hears nothing
            grace = live.config.stop_grace_ns / 1e9 if grace_s is None else grace_s
            if not await happens_within(ended, grace):
                log.info("container %s didn't stop within %g s: killed", live.config.name, grace)
                await self._signal(live, _SIGKILL)
                while not await happens_within(ended, _KILL_AGAIN_S):
                    await self._signal(live, _SIGKILL)
            await live.settled()
        return live.record.exit or ExitStatus(0)

    async def wait(self, id: str, condition: WaitCondition = "not-running") -> ExitStatus:
        return await self._get(id).wait(condition)

    async def written_out(self, id: str) -> None:
        """Returns when all that a container has written can be read, if it has ended: its last output comes after its end, and
        whoever has waited for that one must find it. Where containerd keeps us waiting, what is there has to do."""
        live = self._live.get(id)
        if live is None or live.pid:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_WRITTEN_S):
                await live.settled()

    async def remove(self, id: str, force: bool) -> None:
        live = self._live.get(id)
        if live is None:
            return
        if live.pid and not force:
            raise errors.Conflict(
                f"cannot remove container {id}: container is running: stop the container before removing "
                "or force remove"
            )
        if live.pid:
            await self.stop(id, "SIGKILL", _KILL_AGAIN_S)
        async with live.changing:
            if live.removed:
                return
            await self._tasks.delete(id)
            await self._creator.delete(id)
            await self._logs.drop(id)
            await asyncio.to_thread(self._folders.remove, id)
            live.removed = True
            del self._live[id]
        live.is_gone()
        self._tell(EventKind.REMOVE, live)

    # ---- looking into them

    async def stats(self, id: str) -> ContainerStats:
        return await self._tasks.stats(id)

    async def processes(self, id: str) -> list[int]:
        return await self._tasks.processes(id)

    async def resize(self, id: str, width: int, height: int) -> None:
        await self._tasks.resize(id, width, height)

    def _get(self, id: str) -> Live:
        live = self._live.get(id)
        if live is None:
            raise no_such(id)
        return live

    def _tell(self, kind: EventKind, live: Live, signal: int = 0) -> None:
        at, record = self._clock.now_ns(), live.record
        self._events.publish(
            ContainerEvent(kind, live.id, at, live.pid, record.exit, live.config, record.started_at, signal)
        )


def _no_room(error: OSError) -> errors.Internal:
    """A file of the container couldn't be written, mostly for want of space."""
    return errors.Internal(f"{(error.strerror or str(error)).lower()}: {error.filename}")
