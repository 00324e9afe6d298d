"""What every handler works with: one request (`Call`), its parameters and body, and the forms of answers.

A handler is `async def handler(call: Call) -> web.StreamResponse`; it raises errors of common/errors.py and app.py
turns them into Docker's JSON. Handlers are collected in each noun module's ROUTES.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from aiohttp import HttpVersion11, web

from agent.engine.backend import Backend
from agent.engine.cache import EncodedObjects
from agent.engine.router import Route
from common import apijson, errors, gojson, model, rpc, version
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
_ANY_OBJECT: Final = "map[string]interface {}"
_LONGEST_NUMBER: Final = 4000  # digits that Python reads at once
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
    version: tuple[int, ...] = (1, 50)
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
        number = text.isascii() and text.isdecimal()
        if number and len(text) <= _LONGEST_NUMBER and int(text) < 1 << 64:
            return int(text)
        if kind == "config":
            raise errors.InvalidArgument("invalid config version")
        why = "value out of range" if number else "invalid syntax"
        raise errors.InvalidArgument(
            f"invalid {kind} version '{text}': strconv.ParseUint: parsing \"{text}\": {why}"
        )

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
        given = self.request.headers.get("Content-Type", "")
        kind = given.partition(";")[0].strip().lower()
        if not kind:
            raise errors.InvalidArgument(f"malformed Content-Type header ({given}): mime: no media type")
        if kind != JSON:
            raise errors.InvalidArgument(
                f"unsupported Content-Type header ({given}): must be 'application/json'"
            )
        return gojson.loads(raw)

    async def pieces(self) -> AsyncIterator[bytes]:
        """A long body as it comes; raises errors.InvalidArgument where it breaks off."""
        try:
            async for piece in self.request.content.iter_any():
                yield piece
        except (ConnectionError, web.RequestPayloadError) as exc:
            raise errors.InvalidArgument(f"the request's body breaks off: {exc}") from exc

    async def fields(self, struct: str = "") -> Fields:
        """The request's JSON object, for bodies that are no store object; `struct` is what Docker calls it."""
        return Fields(await self.json(), struct)

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
    """A JSON object, read with keys in any case and with Go's complaints; nothing and null are an empty one.

    `struct` is what Docker calls it, "network.CreateRequest", and `path` where in the body it is.
    """

    def __init__(self, data: object, struct: str = "", path: tuple[str, ...] = ()) -> None:
        if data is not None and not isinstance(data, dict):
            raise gojson.mismatch(gojson.kind(data), "", (), struct or _ANY_OBJECT)
        self._struct, self._path = struct.rpartition(".")[2], path
        self._items = {str(key).lower(): value for key, value in (data or {}).items()}

    def get(self, name: str) -> Any:
        return self._items.get(name.lower())

    def names(self) -> tuple[str, ...]:
        """All keys, in lower case."""
        return tuple(self._items)

    def _bad(self, name: str, found: str, wanted: str) -> errors.InvalidArgument:
        return gojson.mismatch(found, self._struct, (*self._path, name), wanted)

    def _typed(self, name: str, kind: type, wanted: str, default: Any) -> Any:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            found = f"number {value}" if isinstance(value, float) and kind is int else gojson.kind(value)
            raise self._bad(name, found, wanted)
        return value

    def text(self, name: str) -> str:
        value: str = self._typed(name, str, "string", "")
        return value

    def flag(self, name: str) -> bool:
        value: bool = self._typed(name, bool, "bool", False)
        return value

    def number(self, name: str, limit: int = 1 << 32) -> int:
        value: int = self._typed(name, int, "uint32", 0)
        if not 0 <= value < limit:
            raise self._bad(name, f"number {value}", "uint32")
        return value

    def signed(self, name: str) -> int:
        """A number of Go's int64."""
        value: int = self._typed(name, int, "int64", 0)
        if not -(1 << 63) <= value < 1 << 63:
            raise self._bad(name, f"number {value}", "int64")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._typed(name, list, "[]string", [])
        for value in values:
            if value is not None and not isinstance(value, str):
                raise self._bad(name, gojson.kind(value), "string")
        return tuple(value or "" for value in values)

    def table(self, name: str) -> dict[str, str]:
        values = self._typed(name, dict, "map[string]string", {})
        for value in values.values():
            if value is not None and not isinstance(value, str):
                raise self._bad(name, gojson.kind(value), "string")
        return {key: value or "" for key, value in values.items()}

    def part(self, name: str, struct: str = "") -> Fields:
        """A part that is an object itself; an empty one where it isn't there."""
        return Fields(self._typed(name, dict, struct or _ANY_OBJECT, None), struct, (*self._path, name))

    def objects(self, name: str, struct: str = "") -> tuple[Fields, ...]:
        return tuple(
            self._member(name, value, struct)
            for value in self._typed(name, list, f"[]{struct or _ANY_OBJECT}", [])
        )

    def objects_by_name(self, name: str, struct: str = "") -> dict[str, Fields]:
        found = self._typed(name, dict, f"map[string]{struct or _ANY_OBJECT}", {})
        return {key: self._member(name, value, struct) for key, value in found.items()}

    def _member(self, name: str, value: object, struct: str) -> Fields:
        if value is not None and not isinstance(value, dict):
            raise self._bad(name, gojson.kind(value), struct or _ANY_OBJECT)
        return Fields(value, struct, (*self._path, name))


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
