"""attach and exec: clients on the streams of processes, in containers of tasks too. Routes for app.py."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from agent.engine import telling
from agent.engine.containers import find
from agent.engine.hijack import Ended, Hijacked
from agent.engine.http import Call, Fields, answer, empty, finish, routes
from agent.engine.singles import size
from agent.runtime.api import Attached, ExecConfig, ExecSession, Status
from agent.single import failures
from agent.single.execs import Exec
from common import detach_keys, errors

_STARTED_S: Final = 10.0


class _Input:
    """A client's input on its way to a process."""

    def __init__(self, to: Attached | ExecSession, closes: bool, keys: bytes | None) -> None:
        self._to = to
        self._closes = closes
        self._watch = detach_keys.Watch(keys) if keys else None
        self.left = asyncio.Event()
        self.by_keys = False

    async def write(self, data: bytes) -> None:
        left = False
        if self._watch is not None:
            data, left = self._watch.feed(data)
        if data:
            await self._to.write(data)
        if left:
            self.by_keys = True
            self.left.set()
            raise ConnectionResetError("the client has left")

    async def close_stdin(self) -> None:
        """The end of the client's input is the process's, or the client's visit ends with it, as in Docker."""
        if self._closes:
            await self._to.close_stdin()
        else:
            self.left.set()


async def _carry(
    hijacked: Hijacked, streams: _Input, output: Any, stdin: bool, wanted: frozenset[str]
) -> None:
    """Until the process has no more to say, or the client leaves by its keys."""
    carrying = asyncio.ensure_future(hijacked.carry(streams, output, stdin, wanted))
    leaving = asyncio.ensure_future(streams.left.wait())
    try:
        await asyncio.wait((carrying, leaving), return_when=asyncio.FIRST_COMPLETED)
        if carrying.done():
            carrying.result()
    finally:
        for task in (carrying, leaving):
            task.cancel()
        await asyncio.wait((carrying, leaving))


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/attach?stdin&stdout&stderr&stream&logs&detachKeys."""
    container = await find(call, call.names["id"])
    if container.status is Status.PAUSED:
        raise errors.Conflict(f"container {container.id} is paused, unpause the container before attach")
    keys = detach_keys.parse(call.text("detachKeys"))
    config = container.config
    tty, takes_input = bool(config and config.tty), bool(config and config.open_stdin)
    record = call.backend.singles.record(container.id)
    stdin = call.flag("stdin") and takes_input
    wanted = frozenset(name for name in ("stdout", "stderr") if call.flag(name))
    attached = await call.backend.runtime.attach(container.id, stdin and call.flag("stream"))
    try:
        hijacked = Hijacked.take(call, tty)
        if call.flag("stream"):
            telling.container(call.backend, container, "attach")
        if call.flag("logs"):
            async for entry in call.backend.runtime.logs(container.id):
                if entry.stream in wanted:
                    await hijacked.send(entry.stream, entry.data)
        if call.flag("stream"):
            closes = not tty and record is not None and record.stdin_once
            streams = _Input(attached, closes, keys if tty else None)
            await _carry(hijacked, streams, attached.output(), stdin, wanted)
            if streams.by_keys:
                telling.container(call.backend, container, "detach")
        await hijacked.finish()
    finally:
        attached.close()
    return Ended()


# ---- exec


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/exec."""
    body = await call.fields("container.ExecOptions")
    words = body.texts("Cmd")
    if not words:
        raise errors.InvalidArgument("No exec command specified")
    container = await find(call, call.names["id"])
    if container.status is Status.PAUSED:
        raise errors.Conflict(f"Container {call.names['id']} is paused, unpause the container before exec")
    if call.backend.singles.restarts.waits(container.id):
        raise errors.Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if container.status is not Status.RUNNING:
        raise errors.Conflict(f"container {container.id} is not running")
    keys = body.text("DetachKeys")
    detach_keys.parse(keys)
    await call.backend.singles.linking.refuse(container.id)
    attach = (body.flag("AttachStdin"), body.flag("AttachStdout"), body.flag("AttachStderr"))
    config = ExecConfig(
        args=words,
        env=body.texts("Env"),
        workdir=body.text("WorkingDir"),
        user=body.text("User"),
        tty=body.flag("Tty"),
        stdin=attach[0],
        privileged=body.flag("Privileged"),
    )
    made = call.backend.execs.create(container.id, config, attach, keys)
    telling.container(call.backend, container, f"exec_create: {' '.join(words)}", execID=made.id)
    return answer({"Id": made.id}, 201)


async def start(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/start: detached, or with the client's connection for its streams."""
    body = await call.fields("container.ExecStartOptions") if call.request.can_read_body else Fields({})
    found = call.backend.execs.find(call.names["id"])
    container = await find(call, found.container_id)
    if container.status is not Status.RUNNING:
        raise errors.Conflict(f"container {container.id} is not running")
    started = f"exec_start: {' '.join(found.config.args)}"
    if body.flag("Detach"):
        telling.container(call.backend, container, started, execID=found.id)
        try:
            await finish(call.backend.execs.start(found.id, attached=False))
        except errors.ShoalError as exc:
            raise failures.of_process(exc) from exc
        return empty(200)
    if found.begun:
        raise errors.Conflict(f"exec command {found.id} has already run")
    telling.container(call.backend, container, started, execID=found.id)
    hijacked = Hijacked.take(call, found.config.tty)
    try:
        await _run(call, found, hijacked)
    finally:
        found.leave()
    return Ended()


async def _run(call: Call, found: Exec, hijacked: Hijacked) -> None:
    try:
        await finish(call.backend.execs.start(found.id, attached=True))
    except errors.ShoalError as exc:  # the client reads it from the stream, as Docker has it
        await hijacked.send("stdout", f"{exc.message}\r\n".encode())
        await hijacked.finish()
        return
    wanted = frozenset(
        name for name, asked in zip(("stdout", "stderr"), found.attach[1:], strict=True) if asked
    )
    if found.session is not None:
        keys = detach_keys.parse(found.detach_keys) if found.config.tty else None
        streams = _Input(found.session, not found.config.tty, keys)
        await _carry(hijacked, streams, found.output(), found.attach[0], wanted)
    await hijacked.finish()


async def inspect(call: Call) -> web.StreamResponse:
    """GET /exec/{id}/json."""
    found = call.backend.execs.find(call.names["id"])
    config = found.config
    shown = {
        "ID": found.id,
        "Running": found.session is not None,
        "ExitCode": found.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": config.args[0],
            "arguments": list(config.args[1:]),
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": found.attach[0],
        "OpenStderr": found.attach[2],
        "OpenStdout": found.attach[1],
        "CanRemove": False,
        "ContainerID": found.container_id,
        "DetachKeys": found.detach_keys,
        "Pid": found.pid,
    }
    return answer(shown)


async def resize(call: Call) -> web.StreamResponse:
    """POST /exec/{id}/resize?h&w: clients send it while the process is being started."""
    height, width = size(call)
    found = call.backend.execs.find(call.names["id"])
    try:
        async with asyncio.timeout(_STARTED_S):
            await found.started.wait()
    except TimeoutError as exc:
        raise errors.DeadlineExceeded(f"exec {found.id} was not started") from exc
    if found.session is not None:
        await found.session.resize(width, height)
    return empty(200)


ROUTES: Final = routes({
    "POST /containers/{id:path}/attach": attach,
    "POST /containers/{id:path}/exec": create,
    "POST /exec/{id}/start": start,
    "GET /exec/{id}/json": inspect,
    "POST /exec/{id}/resize": resize,
})  # fmt: skip
