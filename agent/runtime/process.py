"""Further processes in a running container: `docker exec`, and health probes. Called by the runtime's facade.

Input and output go through FIFOs in a folder of their own, which ends with the session.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from agent.runtime import client as c
from agent.runtime import signals, spec, users
from agent.runtime.api import ExecConfig, LogStream
from agent.runtime.fifo import Stdin, make
from agent.runtime.oci import in_runcs_words
from common import errors
from common.cancellation import to_the_end
from common.pb import containerd_pb2 as pb

PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_AFTER_EXIT_S = 1.0  # how long output may come after the end, from children that hold the pipe


class Exec:
    """One started process."""

    def __init__(self, containerd: c.Containerd, container: str, id: str, folder: Path) -> None:
        self.id = id
        self.pid = 0
        self._containerd = containerd
        self._key = pb.TaskKey(container_id=container, exec_id=id)
        self._folder = folder
        self._stdin: Stdin | None = None
        self._chunks: asyncio.Queue[tuple[LogStream, bytes] | None] = asyncio.Queue(64)
        self._pumps: list[asyncio.Task[None]] = []
        self._transports: list[asyncio.ReadTransport] = []
        self._passing = self._passed = 0  # pieces on their way to who reads them, and those that are through
        self._code: int | None = None
        self._created = False

    async def start(self, config: ExecConfig, process: Mapping[str, Any]) -> None:
        """Make the FIFOs, open our ends, then let the shim run it. What fails, or is cancelled, leaves nothing behind."""
        streams: tuple[LogStream, ...] = ("stdout",) if config.tty else ("stdout", "stderr")
        paths = {name: str(self._folder / name) for name in (*streams, *(("stdin",) if config.stdin else ()))}
        try:
            self._folder.mkdir(mode=0o700, parents=True)
            for path in paths.values():
                make(path)
            if config.stdin:
                self._stdin = Stdin(paths["stdin"])
            for name in streams:
                await self._open_output(name, paths[name])
            request = pb.TaskExec(
                container_id=self._key.container_id,
                exec_id=self.id,
                stdin=paths.get("stdin", ""),
                stdout=paths["stdout"],
                stderr=paths.get("stderr", ""),
                terminal=config.tty,
                spec=c.packed(PROCESS_TYPE, json.dumps(process).encode()),
            )
            await to_the_end(self._run(request))
        except errors.ShoalError as error:
            await to_the_end(self.close())
            raise type(error)(in_runcs_words(error.message, config.args[0])) from error
        except OSError as error:
            await to_the_end(self.close())
            text = f"{(error.strerror or str(error)).lower()}: {error.filename}"
            raise errors.Internal(text) from error
        except asyncio.CancelledError:
            await to_the_end(self.close())
            raise

    async def _run(self, request: pb.TaskExec) -> None:
        """To its end even for one who is cancelled: a process that runs is known then, and can be ended."""
        await self._containerd.call(c.TASK_EXEC, request)
        self._created = True
        self.pid = (await self._containerd.call(c.TASK_START, self._key)).pid

    async def _open_output(self, name: LogStream, path: str) -> None:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        self._transports.append(transport)
        self._pumps.append(asyncio.create_task(self._pump(name, reader)))

    async def _pump(self, name: LogStream, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self._passing += 1
            await self._chunks.put((name, data))
            self._passing -= 1
            self._passed += 1

    async def output(self) -> AsyncIterator[tuple[LogStream, bytes]]:
        """Until both streams end, or shortly after the process has."""
        ended = asyncio.create_task(self._all_ended())
        try:
            while not (ended.done() and self._chunks.empty()):
                get = asyncio.create_task(self._chunks.get())
                await asyncio.wait((get, ended), return_when=asyncio.FIRST_COMPLETED)
                if not get.done():
                    get.cancel()
                    continue
                item = get.result()
                if item is not None:
                    yield item
        finally:
            ended.cancel()

    async def _all_ended(self) -> None:
        exited = asyncio.create_task(self._exited())
        try:
            await asyncio.wait((*self._pumps, exited), return_when=asyncio.ALL_COMPLETED)
        finally:
            exited.cancel()

    async def _exited(self) -> None:
        """The process has, and nothing has come for a moment; one who reads slowly has all the time."""
        await self.wait()
        before = -1
        while self._passing or self._passed != before:
            before = self._passed
            _, pending = await asyncio.wait(self._pumps, timeout=_AFTER_EXIT_S)
            if not pending:
                return
        for pump in self._pumps:
            pump.cancel()

    async def write(self, data: bytes) -> None:
        if self._stdin is None:
            raise errors.InvalidArgument("the process has no standard input")
        await self._stdin.write(data)

    async def close_stdin(self) -> None:
        if self._stdin is not None and self._stdin.open:
            self._stdin.close()
            close = pb.TaskCloseIO(container_id=self._key.container_id, exec_id=self.id, stdin=True)
            await c.tolerate(
                self._containerd.call(c.TASK_CLOSE_IO, close), errors.NotFound, errors.FailedPrecondition
            )

    async def resize(self, width: int, height: int) -> None:
        request = pb.TaskResize(
            container_id=self._key.container_id, exec_id=self.id, width=width, height=height
        )
        await self._containerd.call(c.TASK_RESIZE, request)

    async def kill(self, signal: str) -> None:
        request = pb.TaskKill(
            container_id=self._key.container_id, exec_id=self.id, signal=signals.parse(signal)
        )
        await c.tolerate(
            self._containerd.call(c.TASK_KILL, request), errors.NotFound, errors.FailedPrecondition
        )

    async def wait(self) -> int:
        if self._code is None:
            try:
                waited = await self._containerd.call(c.TASK_WAIT, self._key, timeout=None)
                self._code = waited.exit_status
            except errors.NotFound:  # the whole container has gone
                self._code = 137
        return self._code

    async def close(self) -> None:
        """End the process if it runs, and the session."""
        if self.pid and self._code is None:
            await self.kill("SIGKILL")
        if self._stdin is not None:
            self._stdin.close()
        for pump in self._pumps:
            pump.cancel()
        for transport in self._transports:
            transport.close()
        if self.pid:
            await self.wait()
        if self._created:
            await c.tolerate(
                self._containerd.call(c.TASK_DELETE_PROCESS, self._key),
                errors.NotFound,
                errors.FailedPrecondition,
            )
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def begin(
    containerd: c.Containerd, container: str, folder: Path, root: str, config: ExecConfig
) -> Exec:
    """Start a process; `root` is the way to the container's root from the node, for its account files."""
    box = await containerd.call(c.CONTAINER_GET, pb.Id(id=container))
    runtime_spec: Mapping[str, Any] = json.loads(box.container.spec.value)
    user = await asyncio.to_thread(_user, config, runtime_spec, root)
    session = Exec(containerd, container, os.urandom(32).hex(), folder / f"exec-{os.urandom(8).hex()}")
    await session.start(config, spec.exec_process(config, runtime_spec, user))
    return session


def _user(config: ExecConfig, runtime_spec: Mapping[str, Any], root: str) -> users.User:
    if not config.user:
        said = runtime_spec["process"]["user"]
        return users.User(said["uid"], said["gid"], tuple(said.get("additionalGids", ())))
    passwd = users.read_image_file([root], "etc/passwd")
    return users.lookup(config.user, (), passwd, users.read_image_file([root], "etc/group"))
