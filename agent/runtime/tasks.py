"""containerd's tasks: the process of a container, set up, let go and cleared away. Called by the containers' life.

containerd may die at any moment of a start. What it leaves then (a task, a record of runc's, a folder of the shim's)
is known by the error of the next attempt, and cleared away once.
"""

import asyncio
import logging
import os
import re
import shutil
import signal
from pathlib import Path

from agent.runtime import client as c
from agent.runtime.api import ContainerConfig
from agent.runtime.content import Content
from agent.runtime.oci import OciRuntime
from common import errors
from common.pb import containerd_pb2 as pb

log = logging.getLogger("runtime")

_LEFTOVER = re.compile("already exists|file exists")
_BUNDLE = re.compile("mkdir (/[^ :]+): file exists")
_CREATE_ATTEMPTS = 4
_CUT_OFF = re.compile(
    "cannot start a (stopped|running) process|cannot start an already running container|context deadline exceeded"
)
_START_ATTEMPTS = 3
_ANSWER_S = 15.0  # a start takes a tenth of a second, on a busy node some seconds


class Tasks:
    def __init__(self, containerd: c.Containerd, content: Content, oci: OciRuntime) -> None:
        self._containerd = containerd
        self._content = content
        self._oci = oci

    async def run(self, config: ContainerConfig, stdout: str, stderr: str) -> int:
        """Set the process up and let it go, with its output into these files; a failure leaves nothing behind."""
        for attempt in range(_START_ATTEMPTS):
            pid = await self._create(config, stdout, stderr)
            try:
                key = pb.TaskKey(container_id=config.id)
                await self._containerd.call(c.TASK_START, key, timeout=_ANSWER_S)
            except (errors.ShoalError, asyncio.CancelledError) as error:
                task = await asyncio.shield(self.get(config.id))
                if isinstance(error, errors.ShoalError) and _has_started(task):
                    return pid  # a crash of containerd hid it
                await asyncio.shield(self.delete(config.id))
                if not _is_cut_off(error) or attempt + 1 == _START_ATTEMPTS:
                    raise
                log.info("container %s: %s; starting it again", config.id[:12], error)
            else:
                return pid
        raise AssertionError("the last attempt returns or raises")

    async def _create(self, config: ContainerConfig, stdout: str, stderr: str) -> int:
        """Let the shim set the process up. What an interrupted attempt left is taken over or cleared away."""
        request = pb.TaskCreate(
            container_id=config.id,
            rootfs=await self._content.mounts(config.id),
            stdin="",
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
        try:
            await self._delete(id)
        except errors.DeadlineExceeded:
            log.warning("the shim of container %s doesn't answer: ended", id[:12])
            await asyncio.to_thread(end_shim, id)
            await self._delete(id)  # containerd clears away after a shim that has died
            await self._oci.forget(id)

    async def _delete(self, id: str) -> None:
        key = pb.TaskKey(container_id=id)
        gone = (errors.NotFound, errors.FailedPrecondition)
        kill = pb.TaskKill(container_id=id, signal=9, all=True)
        call = self._containerd.call
        if await c.tolerate(call(c.TASK_KILL, kill, timeout=_ANSWER_S), *gone) is not None:
            await c.tolerate(call(c.TASK_WAIT, key, timeout=_ANSWER_S), *gone)
        await c.tolerate(call(c.TASK_DELETE, key, timeout=_ANSWER_S), *gone)


def _has_started(task: pb.TaskProcess | None) -> bool:
    if task is None:
        return False
    return task.status == pb.RUNNING or (task.status == pb.STOPPED and not task.exit_status)


def _is_cut_off(error: BaseException) -> bool:
    """Is this what a start sees that a crash of containerd interrupted? One may also never be answered again."""
    if isinstance(error, errors.DeadlineExceeded):
        return True
    return isinstance(error, errors.ShoalError) and _CUT_OFF.search(error.message) is not None


def end_shim(id: str) -> None:
    """Blocking: kill the shim of a container, by its command line."""
    wanted = f"\0-id\0{id}\0".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            line = (folder / "cmdline").read_bytes()
            if b"containerd-shim" in line.split(b"\0", 1)[0] and wanted in line:
                os.kill(int(folder.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue
