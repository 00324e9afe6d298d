"""The Engine API's server: finds the handler, checks the API version, turns errors into answers, listens.

Made by agent/daemon.py: `async with serve(Engine(backend), …)`. It is an aiohttp low-level server: the routes are
Docker's own kind (any path with and without /vX.Y), and hijacked connections need the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import socket
from asyncio import Task, get_running_loop
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.streams import StreamReader

from agent.engine import (
    attaching,
    backups,
    configs,
    containers,
    distribution,
    events,
    images,
    networks,
    nodes,
    processes,
    services,
    singles,
    swarm,
    system,
    tasks,
    telling,
    unbuilt,
)
from agent.engine.backend import Backend
from agent.engine.cache import EncodedObjects
from agent.engine.http import HEADERS, Call, Handler, answer, empty, failure
from agent.engine.router import Router, cleaned, split_version
from common import errors, logs, version

log = logging.getLogger("engine")

_MODULES: Final = (
    system, swarm, backups, nodes, services, tasks, networks, configs, images, distribution, containers,
    singles, processes, attaching, events, unbuilt,
)  # fmt: skip
_BODY_LIMIT: Final = 16 << 20
_HEADER_LIMIT: Final = 64 << 10  # credentials of registries are tokens of several kilobytes
_SERIOUS: Final = (500, 503)  # what goes to the log; the other errors are the client's own
_SHUTDOWN: Final = 2.0
_LONGEST_VERSION: Final = 64


def parse_version(text: str) -> tuple[int, ...]:
    """(1, 50) from "1.50"; what is no number counts as 0, as in Docker."""
    parts = [int(part) if part.isdecimal() else 0 for part in text[:_LONGEST_VERSION].split(".")]
    while len(parts) > 2 and not parts[-1]:
        del parts[-1]
    return tuple(parts)


_NEWEST: Final = parse_version(version.API)
_OLDEST: Final = parse_version(version.API_MINIMUM)


def check_version(text: str) -> tuple[int, ...]:
    """The version that a request's path asks for ("" is the newest), refused when this engine can't speak it."""
    if not text:
        return _NEWEST
    asked = parse_version(text)
    if asked > _NEWEST:
        raise errors.InvalidArgument(
            f"client version {text} is too new. Maximum supported API version is {version.API}"
        )
    if asked < _OLDEST:
        raise errors.InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is {version.API_MINIMUM}, "
            "please upgrade your client to a newer version"
        )
    return asked


class Engine:
    """Answers requests; one per agent."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._encoded = EncodedObjects()
        self._router: Router[Handler] = Router(route for module in _MODULES for route in module.ROUTES)

    async def watch(self) -> None:
        """Until cancelled: what happens to containers goes into the journal."""
        await telling.watch(self._backend)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request. Raises only when nothing can be answered any more: the connection ends then."""
        call = Call(request, self._backend, self._encoded)
        try:
            if request.headers.get("Expect", "").lower() == "100-continue":
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            return await self._answer(call)
        except errors.ShoalError as exc:
            level = logging.INFO if exc.status in _SERIOUS else logging.DEBUG
            log.log(
                level, "%s %s: %s", request.method, logs.shown(request.path), logs.shown(exc.message, 1000)
            )
            if call.started:
                raise
            return failure(exc)
        except ConnectionError:
            raise
        except web.RequestPayloadError as exc:  # the body breaks off, or is not what its headers say
            if call.started:
                raise
            return failure(errors.InvalidArgument(f"error reading the request's body: {exc}"))
        except UnicodeEncodeError as exc:  # half a character, in a header or escaped in JSON
            if call.started:
                raise
            return failure(errors.InvalidArgument(f"what is asked for is not UTF-8: {exc.reason}"))
        except web.HTTPException as exc:
            return answer({"message": exc.reason}, exc.status)
        except Exception as exc:  # a handler's mistake must reach the client and the log
            log.exception("%s %s failed", request.method, logs.shown(request.path))
            if call.started:
                raise
            return failure(errors.Internal(f"{type(exc).__name__}: {exc}"))

    async def _answer(self, call: Call) -> web.StreamResponse:
        if call.request.method == "OPTIONS":  # of any path, as in Docker
            return empty()
        if (clean := cleaned(call.request.path)) != call.request.path:
            query = call.request.rel_url.raw_query_string
            place = quote(clean, errors="surrogateescape") + (f"?{query}" if query else "")
            return web.Response(status=301, headers={**HEADERS, "Location": place})
        asked, path = split_version(call.request.path)
        found = self._router.find(call.request.method, path)
        if found is None:
            return answer({"message": "page not found"}, 404)
        handler, call.names = found
        call.version = check_version(asked)
        return await handler(call)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: Any,
    writer: Any,
    task: Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(
        message, payload, protocol, writer, task, get_running_loop(), client_max_size=_BODY_LIMIT
    )


# Not our faults: what is no HTTP, and clients that go away. aiohttp logs each with a traceback, and the bytes.
CLIENTS_OWN: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class _ClientsOwn(logging.Filter):
    """One line for what was no HTTP, none for who went away."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ConnectionError):
            return False
        if isinstance(error, CLIENTS_OWN):
            record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
            record.msg, record.args = "a request that is no HTTP: %s", (logs.shown(str(error), 100),)
        return True


strangers = logging.getLogger("engine.strangers")
strangers.addFilter(_ClientsOwn())


def server(engine: Engine) -> web.Server:
    """The engine as an aiohttp server."""
    return web.Server(
        engine.handle,
        request_factory=_request,
        handler_cancellation=True,
        access_log=None,
        logger=strangers,
        max_line_size=_HEADER_LIMIT,
        max_field_size=_HEADER_LIMIT,
    )


@contextlib.asynccontextmanager
async def serve(
    engine: Engine, path: str = "", *, group: str = "", listener: socket.socket | None = None
) -> AsyncIterator[None]:
    """Listens on `listener` (from systemd, the socket named "docker") or on a new unix socket at `path`."""
    runner = web.ServerRunner(server(engine), handle_signals=False, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    sock = listener if listener is not None else bind(path, group)
    watching = asyncio.create_task(engine.watch(), name="events")
    try:
        with logs.spared(log, strangers):
            await web.SockSite(runner, sock, backlog=1024).start()
            yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await runner.cleanup()


def bind(path: str, group: str = "") -> socket.socket:
    """A unix socket for root and, where it exists, for `group`; one that is left over is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    with contextlib.suppress(KeyError, PermissionError):  # no such group, or not root: the owner's alone
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
        os.chmod(path, 0o660)
    return sock
