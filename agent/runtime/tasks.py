"""containerd's tasks: the process of a container, set up, let go, held, looked into and cleared away. Called by the containers' life.

containerd, or this agent, may die at any moment of a start. What it leaves then (a task, a record of runc's, a folder of the shim's)
is known by the error of the next attempt, and cleared away once.
"""

import asyncio
import logging
import re
import shutil
from collections.abc import Sequence
from typing import Final

from agent.runtime import client as c
from agent.runtime.api import ContainerConfig, ContainerStats, ExitStatus
from agent.runtime.content import Content
from agent.runtime.metrics import read_stats
from agent.runtime.oci import OciRuntime
from common import errors
from common.clock import Clock
from common.pb import containerd_pb2 as pb

log = logging.getLogger("runtime")

# Or somebody clears away meanwhile: what containerd does for an agent that died in its call takes the next one's folder along.
_LEFTOVER = re.compile("already exists|file exists|getwd: no such file or directory")
_BUNDLE = re.compile("mkdir (/[^ :]+): file exists")
_CREATE_ATTEMPTS = 4
_CUT_OFF = "cannot start a stopped process"
_DYING_S = 10.0
_AGAIN_S = 0.2  # between two tries to wait for an end
_NO_PROCESS: Final = (errors.NotFound, errors.FailedPrecondition)  # containerd's words for one that has ended
_START_S = 15.0  # the process is there already and is only let go; a call that crossed a crash may get no answer at all


class Tasks:
    def __init__(self, containerd: c.Containerd, content: Content, oci: OciRuntime, clock: Clock) -> None:
        self._containerd = containerd
        self._content = content
        self._oci = oci
        self._clock = clock

    # ---- their beginning

    async def run(self, config: ContainerConfig, stdin: str, stdout: str, stderr: str) -> int:
        """Set the process up and let it go, with its input from a pipe ("" for none) and its output into these files; a
        failure leaves nothing behind."""
        key = pb.TaskKey(container_id=config.id)
        for last in (False, True):
            pid = await self._create(config, stdin, stdout, stderr)
            try:
                await self._containerd.call(c.TASK_START, key, timeout=_START_S)
            except (errors.ShoalError, asyncio.CancelledError) as error:
                task = await asyncio.shield(self.get(config.id))
                if isinstance(error, errors.ShoalError) and task is not None:
                    if task.status == pb.RUNNING or (task.status == pb.STOPPED and not task.exit_status):
                        return pid  # a crash of containerd hid that it had started
                    if isinstance(error, errors.DeadlineExceeded) and task.status == pb.CREATED and not last:
                        continue
                    if _CUT_OFF in error.message and not last:
                        await self.delete(config.id)  # the crash took the process with it, half started
                        continue
                await asyncio.shield(self.delete(config.id))
                raise
            return pid
        raise AssertionError("the last attempt returns or raises")

    async def _create(self, config: ContainerConfig, stdin: str, stdout: str, stderr: str) -> int:
        """Let the shim set the process up. What an interrupted attempt left is taken over or cleared away."""
        request = pb.TaskCreate(
            container_id=config.id,
            rootfs=await self._content.mounts(config.id),
            stdin=stdin,
            stdout=stdout,
            stderr="" if config.tty else stderr,
            terminal=config.tty,
        )
        for attempt in range(_CREATE_ATTEMPTS):
            try:
                return (await self._containerd.call(c.TASK_CREATE, request)).pid
            except errors.ShoalError as error:
                if attempt + 1 == _CREATE_ATTEMPTS or _LEFTOVER.search(error.message) is None:
                    raise
                log.info("container %s: %s; clearing that away", config.id[:12], error.message)
                bundle = _BUNDLE.search(error.message)
            found = await self.get(config.id)
            if found is not None and found.status == pb.CREATED:
                return found.pid
            await self.delete(config.id)
            await self._oci.forget(config.id)
            if bundle is not None and bundle[1].endswith(f"/{self._oci.namespace}/{config.id}"):
                await asyncio.to_thread(shutil.rmtree, bundle[1], ignore_errors=True)
        raise AssertionError("the last attempt returns or raises")

    # ---- while they run

    async def all(self) -> Sequence[pb.TaskProcess]:
        """Those of all containers."""
        return (await self._containerd.call(c.TASK_LIST, pb.TaskListRequest())).tasks

    async def get(self, id: str) -> pb.TaskProcess | None:
        key = pb.TaskKey(container_id=id)
        found = await c.tolerate(self._containerd.call(c.TASK_GET, key), errors.NotFound)
        return found.process if found is not None else None

    async def signal(self, id: str, number: int) -> bool:
        """False if there is no process to hear it."""
        request = pb.TaskKill(container_id=id, signal=number)
        return await c.tolerate(self._containerd.call(c.TASK_KILL, request), *_NO_PROCESS) is not None

    async def pause(self, id: str) -> None:
        await self._containerd.call(c.TASK_PAUSE, pb.TaskKey(container_id=id))

    async def resume(self, id: str) -> None:
        """One that has ended meanwhile is fine."""
        key = pb.TaskKey(container_id=id)
        await c.tolerate(self._containerd.call(c.TASK_RESUME, key), errors.NotFound)

    async def end_input(self, id: str) -> None:
        """The process sees the end of its input, once it has read what was written."""
        request = pb.TaskCloseIO(container_id=id, stdin=True)
        await c.tolerate(self._containerd.call(c.TASK_CLOSE_IO, request), *_NO_PROCESS)

    async def resize(self, id: str, width: int, height: int) -> None:
        """Of its terminal."""
        await self._containerd.call(c.TASK_RESIZE, pb.TaskResize(container_id=id, width=width, height=height))

    async def stats(self, id: str) -> ContainerStats:
        answer = await self._containerd.call(c.TASK_METRICS, c.filters([f"id=={id}"]))
        if not answer.metrics:
            raise errors.Conflict(f"container {id} is not running")
        return read_stats(answer.metrics[0], self._clock.now_ns())

    async def processes(self, id: str) -> list[int]:
        """The pids in it, as the node sees them."""
        answer = await self._containerd.call(c.TASK_PIDS, pb.TaskKey(container_id=id))
        return [process.pid for process in answer.processes]

    # ---- their end

    async def end(self, id: str) -> ExitStatus:
        """Waits for it, however often containerd restarts meanwhile."""
        key = pb.TaskKey(container_id=id)
        while True:
            try:
                waited = await self._containerd.call(c.TASK_WAIT, key, timeout=None)
            except errors.NotFound:  # its shim died, and containerd has cleaned up
                return ExitStatus(137, self._clock.now_ns())
            except errors.ShoalError as error:  # its shim is dying
                log.info("waiting for container %s was cut off: %s", id[:12], error)
                await asyncio.sleep(_AGAIN_S)
                continue
            oom = await self._was_oom_killed(id)
            return ExitStatus(waited.exit_status, waited.exited_at.ToNanoseconds(), oom)

    async def _was_oom_killed(self, id: str) -> bool:
        try:
            return (await self.stats(id)).oom_kills > 0
        except errors.ShoalError as error:
            log.debug("no metrics of container %s: %s", id[:12], error)
            return False

    async def delete(self, id: str) -> None:
        """Away with its process, running or not; done already is fine."""
        key = pb.TaskKey(container_id=id)
        kill = pb.TaskKill(container_id=id, signal=9, all=True)
        if await c.tolerate(self._containerd.call(c.TASK_KILL, kill), *_NO_PROCESS) is not None:
            await c.tolerate(self._containerd.call(c.TASK_WAIT, key, timeout=_DYING_S), *_NO_PROCESS)
        await c.tolerate(self._containerd.call(c.TASK_DELETE, key), *_NO_PROCESS)
