"""The life of containers over containerd: create, start, stop, remove, and knowing how each one ended.

A running container has one supervisor here, a pending wait that outlives restarts of containerd. When the process
ends it notes the exit on disk, frees the shim and wakes everyone who waits. After a restart of the agent `adopt`
finds the containers again; nothing about them changes by it.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.runtime import client as c
from agent.runtime import facts, fifo, signals, spec, users
from agent.runtime.api import (
    ContainerConfig,
    ContainerEvent,
    ContainerState,
    ContainerStats,
    EventKind,
    ExitStatus,
    Status,
    WaitCondition,
)
from agent.runtime.attach import Attachment
from agent.runtime.content import SNAPSHOTTER, Content
from agent.runtime.events import Events
from agent.runtime.folder import Folders, Record
from agent.runtime.images import Images, missing
from agent.runtime.logs import Logs
from agent.runtime.manifest import chain_ids
from agent.runtime.metrics import read_stats
from agent.runtime.oci import OciRuntime, in_runcs_words
from agent.runtime.tail import Tail
from agent.runtime.tasks import Tasks
from common import errors
from common.clock import Clock
from common.pb import containerd_pb2 as pb

log = logging.getLogger("runtime")

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
OPTIONS_TYPE = "containerd.runc.v1.Options"
SHIM = "io.containerd.runc.v2"
STARTS_AT_ONCE = 4  # more at once is no faster on the whole, only slower for each
LOST = 255  # the exit code of a container whose end nobody saw, as Docker gives it
_SIGKILL = 9
_KILL_AGAIN_S = 10.0
_KILL = 9
_KILLED_S = 10.0  # that a kill waits for the end

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


@dataclass(slots=True)
class _Live:
    """One container as it is now."""

    record: Record
    pid: int = 0
    paused: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    runs: asyncio.Event = field(default_factory=asyncio.Event)
    next_end: asyncio.Event = field(default_factory=asyncio.Event)  # replaced at every end
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    removed: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one start or removal at a time

    @property
    def status(self) -> Status:
        if self.pid:
            return Status.PAUSED if self.paused else Status.RUNNING
        return Status.STOPPED if self.record.exit is not None else Status.CREATED


class Containers:
    def __init__(
        self,
        containerd: c.Containerd,
        content: Content,
        images: Images,
        folders: Folders,
        logs: Logs,
        events: Events,
        clock: Clock,
        host: spec.HostFacts,
        oci: OciRuntime,
        spawn: Spawn,
    ) -> None:
        self._containerd = containerd
        self._content = content
        self._images = images
        self._folders = folders
        self._logs = logs
        self._events = events
        self._clock = clock
        self._host = host
        self._oci = oci
        self._tasks = Tasks(containerd, content, oci)
        self._spawn = spawn
        self._live: dict[str, _Live] = {}
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)

    # ---- finding them again

    async def adopt(self) -> None:
        """Take over what is on the node: supervise what runs, note what ended unseen, drop what is half made."""
        listed = (await self._containerd.call(c.CONTAINER_LIST, pb.Filters())).containers
        tasks = (await self._containerd.call(c.TASK_LIST, pb.TaskListRequest())).tasks
        by_id = {task.id: task for task in tasks}
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
            await self._adopt_one(_Live(record), by_id.get(container.id))
        known = {container.id for container in listed}
        for id in await asyncio.to_thread(self._folders.ids):
            if id not in known:
                await asyncio.to_thread(self._folders.remove, id)
        running = sum(live.pid != 0 for live in self._live.values())
        log.info("found %d containers, %d of them running", len(self._live), running)

    async def _adopt_one(self, live: _Live, task: pb.TaskProcess | None) -> None:
        id = live.record.config.id
        self._live[id] = live
        if task is not None and task.status not in (pb.CREATED, pb.UNKNOWN):
            self._logs.collect(id, self._folders.path(id))
            if task.status == pb.STOPPED:
                await self._supervise(live)  # it ended unseen, or its end was seen but not cleared away
            else:
                live.record = replace(live.record, exit=None)
                live.pid, live.paused = task.pid, task.status == pb.PAUSED
                live.runs.set()
                self._spawn(self._supervise(live))
            return
        if live.record.started_at and live.record.exit is None:
            live.record = replace(live.record, exit=ExitStatus(LOST, self._clock.now_ns()))
            await self._keep(live.record)
        if live.record.exit is not None:
            live.ended.set()

    def find(self, id: str) -> ContainerState | None:
        live = self._live.get(id)
        return self._state(live) if live is not None else None

    def all(self) -> list[ContainerState]:
        return [self._state(live) for live in self._live.values()]

    def using(self, image_id: str) -> list[str]:
        return [id for id, live in self._live.items() if live.record.image_id == image_id]

    def record(self, id: str) -> Record:
        return self._get(id).record

    # ---- making them

    async def create(self, config: ContainerConfig) -> None:
        if config.id in self._live:
            raise errors.AlreadyExists(f"container {config.id} already exists")
        info = await self._images.find(config.image)
        if info is None:
            raise missing(config.image)
        signals.parse(config.stop_signal or info.config.stop_signal or "SIGTERM")
        record = Record(
            config=config,
            image_id=info.id,
            stop_signal=config.stop_signal or info.config.stop_signal or "SIGTERM",
            created_at=self._clock.now_ns(),
        )
        await asyncio.to_thread(facts.check_sources, config.mounts)
        devices = await asyncio.to_thread(facts.look_up_devices, config.devices)
        live = _Live(record)
        self._live[config.id] = live
        try:
            async with self._turns, live.changing, self._containerd.lease("create") as lease:
                mounts = await self._root_file_system(config.id, info.target.digest, lease)
                user = await asyncio.to_thread(_find_user, config, info.config.user, mounts)
                files = await asyncio.to_thread(self._folders.prepare, record)
                runtime_spec = spec.build(config, info.config, user, files, self._host, devices)
                container = self._container(config, runtime_spec)
                await c.tolerate(
                    self._containerd.call(
                        c.CONTAINER_CREATE, pb.ContainerBox(container=container), lease=lease
                    ),
                    errors.AlreadyExists,
                )
        except BaseException as error:
            del self._live[config.id]
            await asyncio.shield(self._undo_create(config.id))
            if isinstance(error, OSError):
                raise _no_room(error) from error
            raise
        self._tell(EventKind.CREATE, live)

    async def _undo_create(self, id: str) -> None:
        await c.tolerate(self._containerd.call(c.CONTAINER_DELETE, pb.Id(id=id)), errors.NotFound)
        await self._content.drop_snapshot(id)
        await asyncio.to_thread(self._folders.remove, id)

    async def _root_file_system(self, id: str, manifest_digest: str, lease: str) -> Sequence[pb.Mount]:
        """A writable layer on the image's; unpacks the image again if its snapshots have gone."""
        await self._content.drop_snapshot(id)  # of an attempt that a crash cut off
        manifest, configuration = await self._images.manifest_of(manifest_digest)
        top = chain_ids(configuration.diff_ids)[-1] if configuration.diff_ids else ""
        try:
            return await self._content.prepare(id, top, lease)
        except errors.NotFound:
            await self._content.unpack(manifest, configuration, lease)
            return await self._content.prepare(id, top, lease)

    def _container(self, config: ContainerConfig, runtime_spec: Mapping[str, Any]) -> pb.Container:
        options = pb.RuncOptions(binary_name=self._oci.binary)
        return pb.Container(
            id=config.id,
            labels={"shoal.name": config.name},
            image=config.image,
            runtime=pb.Container.Runtime(
                name=SHIM, options=c.packed(OPTIONS_TYPE, options.SerializeToString())
            ),
            spec=c.packed(SPEC_TYPE, json.dumps(runtime_spec).encode()),
            snapshotter=SNAPSHOTTER,
            snapshot_key=config.id,
        )

    # ---- running them

    async def start(self, id: str) -> int:
        """Run it, again if it has run before; one that runs already is left alone."""
        live = self._get(id)
        async with self._turns, live.changing:
            if live.removed:
                raise _no_such(id)
            if live.pid:
                return live.pid
            pid = await self._run(live)
            live.ended.clear()
            live.runs.set()
            live.pid = pid
            live.record = replace(live.record, started_at=self._clock.now_ns(), exit=None)
            self._spawn(self._supervise(live))
            await self._keep(live.record)
        self._tell(EventKind.START, live)
        return pid

    async def _run(self, live: _Live) -> int:
        """The pid of the started process; its output is collected from the first line on."""
        id = live.record.config.id
        try:
            stdout, stderr = await asyncio.to_thread(self._logs.prepare, self._folders.path(id))
            stdin = await asyncio.to_thread(self._stdin, live.record.config)
        except OSError as error:
            raise _no_room(error) from error
        self._logs.collect(id, self._folders.path(id))
        try:
            return await self._tasks.run(live.record.config, stdin, stdout, stderr)
        except errors.ShoalError as error:
            await self._logs.finish(id)
            words = (*live.record.config.command, *live.record.config.args, "")
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
            pipe = await asyncio.to_thread(self._stdin, live.record.config) if stdin else ""
            entry = fifo.Stdin(pipe) if pipe else None
        except OSError as error:
            raise _no_room(error) from error
        # Last: output is held for a reader from here on, and nothing may fail before he has it.
        tail = self._logs.tail(id, self._folders.path(id))

        async def end_input() -> None:
            request = pb.TaskCloseIO(container_id=id, stdin=True)
            await c.tolerate(
                self._containerd.call(c.TASK_CLOSE_IO, request), errors.NotFound, errors.FailedPrecondition
            )

        def gone(tail: Tail) -> None:
            self._logs.let_go(id, tail)

        return Attachment(tail, entry, live.runs, end_input, gone)

    async def readdress(self, id: str, addresses: Sequence[str]) -> None:
        """The addresses that a container which isn't running will have: they stand in its /etc/hosts."""
        live = self._get(id)
        async with live.changing:
            config = replace(live.record.config, addresses=tuple(addresses))
            live.record = replace(live.record, config=config)
            try:
                await asyncio.to_thread(self._folders.prepare, live.record)
            except OSError as error:
                raise _no_room(error) from error

    async def _supervise(self, live: _Live) -> None:
        """Wait for the end, however often containerd restarts meanwhile; note it, tell it, free the shim."""
        id = live.record.config.id
        ended = await self._await_exit(id)
        async with live.changing:
            live.record = replace(live.record, exit=ended)
            await self._keep(live.record)
            live.pid, live.paused = 0, False
            live.runs.clear()
            live.ended.set()
            ended_now, live.next_end = live.next_end, asyncio.Event()
            ended_now.set()
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

    async def _await_exit(self, id: str) -> ExitStatus:
        key = pb.TaskKey(container_id=id)
        while True:
            try:
                waited = await self._containerd.call(c.TASK_WAIT, key, timeout=None)
            except errors.NotFound:  # its shim died, and containerd has cleaned up
                return ExitStatus(137, self._clock.now_ns())
            except errors.ShoalError as error:  # its shim is dying
                log.info("waiting for container %s was cut off: %s", id[:12], error)
                await asyncio.sleep(0.2)
                continue
            oom = await self._was_oom_killed(id)
            return ExitStatus(waited.exit_status, waited.exited_at.ToNanoseconds(), oom)

    async def _was_oom_killed(self, id: str) -> bool:
        try:
            return (await self.stats(id)).oom_kills > 0
        except errors.ShoalError as error:
            log.debug("no metrics of container %s: %s", id[:12], error)
            return False

    async def kill(self, id: str, signal: str) -> None:
        live = self._get(id)
        number = signals.parse(signal)
        ended = live.next_end  # of this run
        if not live.pid or not await self._signal(live, number):
            raise errors.Conflict(f"cannot kill container: {id}: container {id} is not running")
        if number == _KILL and await _within(ended, _KILLED_S):
            async with live.changing:  # as in Docker, it has ended when this returns
                pass
        if number == _SIGKILL and live.paused:
            await self.resume(id)

    async def pause(self, id: str) -> None:
        """Its processes stand still, whatever they are at."""
        live = self._get(id)
        async with live.changing:
            if live.pid and not live.paused:
                await self._containerd.call(c.TASK_PAUSE, pb.TaskKey(container_id=id))
                live.paused = True

    async def resume(self, id: str) -> None:
        """They go on."""
        live = self._get(id)
        async with live.changing:
            if live.pid and live.paused:
                key = pb.TaskKey(container_id=id)
                await c.tolerate(self._containerd.call(c.TASK_RESUME, key), errors.NotFound)
                live.paused = False

    async def rename(self, id: str, name: str) -> None:
        live = self._get(id)
        async with live.changing:
            live.record = replace(live.record, config=replace(live.record.config, name=name))
            await self._keep(live.record)

    async def _signal(self, live: _Live, number: int) -> bool:
        """False if there is no process to hear it."""
        self._tell(EventKind.KILL, live, number)
        request = pb.TaskKill(container_id=live.record.config.id, signal=number)
        answer = await c.tolerate(
            self._containerd.call(c.TASK_KILL, request), errors.NotFound, errors.FailedPrecondition
        )
        return answer is not None

    async def stop(self, id: str, signal: str, grace_s: float | None) -> ExitStatus:
        live = self._get(id)
        if live.pid:
            ended = live.next_end  # of this run: somebody may start it again at once
            await self._signal(live, signals.parse(signal or live.record.stop_signal))
            await self.resume(id)  # what stands still hears nothing
            grace = live.record.config.stop_grace_ns / 1e9 if grace_s is None else grace_s
            if not await _within(ended, grace):
                log.info("container %s didn't stop within %g s: killed", live.record.config.name, grace)
                await self._signal(live, 9)
                while not await _within(ended, _KILL_AGAIN_S):
                    await self._signal(live, 9)
            async with live.changing:  # until its last words are written down
                pass
        return live.record.exit or ExitStatus(0)

    async def wait(self, id: str, condition: WaitCondition = "not-running") -> ExitStatus:
        live = self._get(id)
        if condition == "removed":
            await live.gone.wait()
            return live.record.exit or ExitStatus(0)
        await (live.next_end if condition == "next-exit" else live.ended).wait()
        if live.record.exit is None:
            raise _no_such(id)
        return live.record.exit

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
            await c.tolerate(self._containerd.call(c.CONTAINER_DELETE, pb.Id(id=id)), errors.NotFound)
            await self._content.drop_snapshot(id)
            await self._logs.drop(id)
            await asyncio.to_thread(self._folders.remove, id)
            live.removed = True
            del self._live[id]
        for event in (live.ended, live.next_end, live.gone):
            event.set()
        self._tell(EventKind.REMOVE, live)

    # ---- looking into them

    async def stats(self, id: str) -> ContainerStats:
        answer = await self._containerd.call(c.TASK_METRICS, c.filters([f"id=={id}"]))
        if not answer.metrics:
            raise errors.Conflict(f"container {id} is not running")
        metric = answer.metrics[0]
        return read_stats(metric, self._clock.now_ns())

    async def processes(self, id: str) -> list[int]:
        answer = await self._containerd.call(c.TASK_PIDS, pb.TaskKey(container_id=id))
        return [process.pid for process in answer.processes]

    async def resize(self, id: str, width: int, height: int) -> None:
        await self._containerd.call(c.TASK_RESIZE, pb.TaskResize(container_id=id, width=width, height=height))

    def _get(self, id: str) -> _Live:
        live = self._live.get(id)
        if live is None:
            raise _no_such(id)
        return live

    def _state(self, live: _Live) -> ContainerState:
        record = live.record
        return ContainerState(
            id=record.config.id,
            name=record.config.name,
            image=record.config.image,
            labels=record.config.labels,
            status=live.status,
            pid=live.pid,
            created_at=record.created_at,
            started_at=record.started_at,
            exit=record.exit if not live.pid else None,
            config=record.config,
        )

    def _tell(self, kind: EventKind, live: _Live, signal: int = 0) -> None:
        config, at = live.record.config, self._clock.now_ns()
        self._events.publish(
            ContainerEvent(
                kind, config.id, at, live.pid, live.record.exit, config, live.record.started_at, signal
            )
        )


def _find_user(config: ContainerConfig, image_user: str, mounts: Sequence[pb.Mount]) -> users.User:
    """Blocking: reads the image's account files."""
    root = mounts[0]
    folders = users.layer_folders(root.type, root.source, root.options)
    return users.lookup(
        config.user or image_user,
        config.groups,
        users.read_image_file(folders, "etc/passwd"),
        users.read_image_file(folders, "etc/group"),
    )


def _no_such(id: str) -> errors.NotFound:
    return errors.NotFound(f"No such container: {id}")


def _no_room(error: OSError) -> errors.Internal:
    """A file of the container couldn't be written, mostly for want of space."""
    return errors.Internal(f"{(error.strerror or str(error)).lower()}: {error.filename}")


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
