"""What every handler works with: one request (`Call`), its parameters and body, and the forms of answers.

A handler is `async def handler(call: Call) -> web.StreamResponse`; it raises errors of common/errors.py and app.py
turns them into Docker's JSON. Handlers are collected in each noun module's ROUTES.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from aiohttp import HttpVersion11, web

from agent.engine.backend import Backend
from agent.engine.cache import EncodedObjects
from agent.engine.router import Route
from common import apijson, errors, model, rpc, version
from common.cancellation import to_the_end

Q = TypeVar("Q", bound=model.Message)
R = TypeVar("R", bound=model.Message)
V = TypeVar("V")

HEADERS: Final[Mapping[str, str]] = {
    "Api-Version": version.API,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Docker/{version.ENGINE} (linux)",
}
JSON: Final = "application/json"
_FALSE: Final = ("", "0", "no", "false", "none")
_TRUE_WORDS: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE_WORDS: Final = ("0", "f", "F", "false", "FALSE", "False")
# Docker's own limit for a request that the managers have to answer.
_MANAGER_TIMEOUT: Final = 20.0


@dataclass(slots=True)
class Call:
    """One request, with what the engine has."""

    request: web.BaseRequest
    backend: Backend
    encoded: EncodedObjects
    version: tuple[int, int] = (1, 50)
    names: Mapping[str, str] = field(default_factory=dict)  # what the route's template named
    started: bool = False  # an answer is on its way: an error can only end the connection

    # ---- parameters

    def text(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def flag(self, name: str) -> bool:
        """A boolean parameter, with Docker's idea of what is false."""
        return self.text(name).strip().lower() not in _FALSE

    def object_version(self, kind: str) -> int:
        """`version`: which version of a service, node or swarm a change was made from."""
        text = self.text("version")
        if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) >= 1 << 64:
            raise errors.InvalidArgument(
                f"invalid {kind} version '{text}': strconv.ParseUint: parsing \"{text}\": invalid syntax"
            )
        return int(text)

    def boolean(self, name: str) -> bool:
        """A boolean parameter where Docker minds its words: those of Go's ParseBool."""
        text = self.text(name)
        if text not in (*_TRUE_WORDS, *_FALSE_WORDS, ""):
            raise errors.InvalidArgument(
                f'invalid value for {name}: {text}: strconv.ParseBool: parsing "{text}": invalid syntax'
            )
        return text in _TRUE_WORDS

    # ---- body

    async def json(self) -> Any:
        """The request's JSON; raises errors.InvalidArgument with Docker's texts."""
        raw = await self.request.read()
        if not raw:
            raise errors.InvalidArgument("invalid JSON: got EOF while reading request body")
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise errors.InvalidArgument(
                f"unsupported Content-Type header ({kind}): must be 'application/json'"
            )
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise errors.InvalidArgument(f"invalid JSON: {exc}") from exc

    async def pieces(self) -> AsyncIterator[bytes]:
        """A long body as it comes; raises errors.InvalidArgument where it breaks off."""
        try:
            async for piece in self.request.content.iter_any():
                yield piece
        except (ConnectionError, web.RequestPayloadError) as exc:
            raise errors.InvalidArgument(f"the request's body breaks off: {exc}") from exc

    async def fields(self) -> Fields:
        """The request's JSON object, for bodies that are no store object."""
        return Fields(await self.json())

    # ---- managers

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, R],
        request: Q,
        timeout: float = _MANAGER_TIMEOUT,
    ) -> R:
        """A manager's answer; its errors come with the code in front of the text, as Docker's API has them.

        A manager that restarts is waited for.
        """
        try:
            return await method(request, timeout=timeout, wait_for_ready=True)
        except grpc.aio.AioRpcError as exc:
            error = rpc.error_from(exc)
            if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                error = errors.DeadlineExceeded("context deadline exceeded")
            raise type(error)(error.described()) from exc


class Fields:
    """A JSON object, read with keys in any case and with Go's complaints."""

    def __init__(self, data: object) -> None:
        if not isinstance(data, dict):
            raise errors.InvalidArgument("invalid JSON: the request's body must be an object")
        self._items = {str(key).lower(): value for key, value in data.items()}

    def get(self, name: str) -> Any:
        return self._items.get(name.lower())

    def names(self) -> tuple[str, ...]:
        """All keys, in lower case."""
        return tuple(self._items)

    def _typed(self, name: str, kind: type, word: str, default: Any) -> Any:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise errors.InvalidArgument(f"invalid JSON: {name} must be {word}")
        return value

    def text(self, name: str) -> str:
        value: str = self._typed(name, str, "a string", "")
        return value

    def flag(self, name: str) -> bool:
        value: bool = self._typed(name, bool, "a boolean", False)
        return value

    def number(self, name: str, limit: int = 1 << 32) -> int:
        value: int = self._typed(name, int, "a number", 0)
        if not 0 <= value < limit:
            raise errors.InvalidArgument(f"invalid JSON: {name} is out of range: {value}")
        return value

    def signed(self, name: str) -> int:
        """A number of Go's int64."""
        value: int = self._typed(name, int, "a number", 0)
        if not -(1 << 63) <= value < 1 << 63:
            raise errors.InvalidArgument(f"invalid JSON: {name} is out of range: {value}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._typed(name, list, "a list", [])
        if not all(isinstance(value, str) for value in values):
            raise errors.InvalidArgument(f"invalid JSON: {name} must be a list of strings")
        return tuple(values)

    def table(self, name: str) -> dict[str, str]:
        values = self._typed(name, dict, "an object", {})
        if not all(value is None or isinstance(value, str) for value in values.values()):
            raise errors.InvalidArgument(f"invalid JSON: the values of {name} must be strings")
        return {key: value or "" for key, value in values.items()}

    def objects(self, name: str) -> tuple[Fields, ...]:
        return tuple(Fields(value) for value in self._typed(name, list, "a list", []))


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Routes = tuple[Route[Handler], ...]


def routes(table: Mapping[str, Handler]) -> Routes:
    """Routes from {"GET /nodes": handler, …}."""
    found = []
    for key, handler in table.items():
        method, template = key.split(" ", 1)
        found.append(Route(method, template, handler))
    return tuple(found)


# ---- answers


def raw_json(data: bytes, status: int = 200) -> web.Response:
    """An answer that is JSON already."""
    return web.Response(body=data + b"\n", status=status, headers=HEADERS, content_type=JSON)


def answer(value: object, status: int = 200) -> web.Response:
    """Any JSON value."""
    return raw_json(apijson.dump_json(value), status)


def empty(status: int = 200) -> web.Response:
    """Nothing to say but that it is done."""
    return web.Response(status=status, headers=HEADERS)


def failure(error: errors.ShoalError) -> web.Response:
    """An error as Docker's clients read it."""
    return answer({"message": error.message}, error.status)


async def finish(work: Coroutine[Any, Any, V]) -> V:
    """Does `work` to its end even when the client goes away meanwhile: for what must not stop halfway."""
    return await to_the_end(work)


async def stream(call: Call, content_type: str = JSON) -> web.StreamResponse:
    """An answer that goes on; its headers are sent at once."""
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": content_type})
    if call.request.version >= HttpVersion11:  # older ones are ended by the connection's end
        response.enable_chunked_encoding()
    call.started = True
    await response.prepare(call.request)
    return response


class Lines:
    """JSON lines from callbacks to a client: what arrives meanwhile waits in a queue."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queue: asyncio.Queue[object | None] = asyncio.Queue()

    def put(self, line: object) -> None:
        self._queue.put_nowait(line)

    async def run(self, work: Callable[[], Awaitable[None]]) -> web.StreamResponse:
        """Does `work` and sends the lines that it puts; an error becomes the last line, as Docker does.

        An error before the first line is raised, so that it gets a status of its own.
        """
        async with asyncio.TaskGroup() as group:
            job = group.create_task(self._guarded(work))
            line = await self._queue.get()
            if isinstance(line, errors.ShoalError):
                await job
                return failure(line)
            gone = False
            try:
                response = await stream(self._call)
                while line is not None:
                    await response.write(_line(line))
                    line = await self._queue.get()
            except ConnectionError:
                job.cancel()
                gone = True
        if gone:
            raise ConnectionResetError("the client is gone")
        await response.write_eof()
        return response

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except errors.ShoalError as exc:
            self.put(exc)
        finally:
            self.put(None)


def _line(line: object) -> bytes:
    if isinstance(line, errors.ShoalError):
        line = {"errorDetail": {"message": line.message}, "error": line.message}
    return apijson.dump_json(line) + b"\r\n"
