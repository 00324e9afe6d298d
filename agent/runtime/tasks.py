"""containerd's tasks: the process of a container, set up, let go and cleared away. Called by the containers' life.

containerd, or this agent, may die at any moment of a start. What it leaves then (a task, a record of runc's, a folder of the shim's)
is known by the error of the next attempt, and cleared away once.
"""

import asyncio
import logging
import re
import shutil

from agent.runtime import client as c
from agent.runtime.api import ContainerConfig
from agent.runtime.content import Content
from agent.runtime.oci import OciRuntime
from common import errors
from common.pb import containerd_pb2 as pb

log = logging.getLogger("runtime")

# Or somebody clears away meanwhile: what containerd does for an agent that died in its call takes the next one's folder along.
_LEFTOVER = re.compile("already exists|file exists|getwd: no such file or directory")
_BUNDLE = re.compile("mkdir (/[^ :]+): file exists")
_CREATE_ATTEMPTS = 4
_CUT_OFF = "cannot start a stopped process"
_DYING_S = 10.0
_START_S = 15.0  # the process is there already and is only let go; a call that crossed a crash may get no answer at all


class Tasks:
    def __init__(self, containerd: c.Containerd, content: Content, oci: OciRuntime) -> None:
        self._containerd = containerd
        self._content = content
        self._oci = oci

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

    async def get(self, id: str) -> pb.TaskProcess | None:
        key = pb.TaskKey(container_id=id)
        found = await c.tolerate(self._containerd.call(c.TASK_GET, key), errors.NotFound)
        return found.process if found is not None else None

    async def delete(self, id: str) -> None:
        """Away with its process, running or not; done already is fine."""
        key = pb.TaskKey(container_id=id)
        gone = (errors.NotFound, errors.FailedPrecondition)
        kill = pb.TaskKill(container_id=id, signal=9, all=True)
        if await c.tolerate(self._containerd.call(c.TASK_KILL, kill), *gone) is not None:
            await c.tolerate(self._containerd.call(c.TASK_WAIT, key, timeout=_DYING_S), *gone)
        await c.tolerate(self._containerd.call(c.TASK_DELETE, key), *gone)
