"""gRPC on the simulated network: servers, channels and calls with the part of grpc.aio's behaviour that Shoal relies on.

The handlers are the real ones of common/rpc.py, messages are the real bytes, and a server learns who calls from the
certificate that the channel was made with. A stream has a window: who writes to one that nobody reads waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from common import pki
from tests.simulation.managers.loop import PROCESS, Process
from tests.simulation.managers.network import CONNECT, Connection, Network, host_of

WINDOW = 64
UNRELIABLE = "/shoal.Raft/Exchange"


@dataclass(frozen=True)
class Shown:
    """Channel credentials: what the caller presents."""

    chain: bytes


@dataclass(frozen=True)
class _Details:
    method: str
    invocation_metadata: tuple[Any, ...] = ()


class _Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


def failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """What a failed call raises."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


def _unavailable(details: str) -> grpc.aio.AioRpcError:
    return failure(grpc.StatusCode.UNAVAILABLE, details)


def _process() -> Process:
    process = PROCESS.get()
    assert process is not None, "calls are made by a process"
    return process


class _Inbox:
    """Messages of one direction, and how they end."""

    def __init__(self) -> None:
        self.items: deque[bytes] = deque()
        self.ended = False
        self.error: BaseException | None = None
        self._reader: asyncio.Future[None] | None = None
        self.room: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> None:
        if not self.ended:
            self.items.append(data)
            self._wake()

    def end(self, error: BaseException | None = None) -> None:
        if not self.ended:
            self.ended, self.error = True, error
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> bytes:
        """The next one; raises StopAsyncIteration, or how it ended."""
        while not self.items:
            if self.ended:
                raise StopAsyncIteration if self.error is None else self.error
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self.items.popleft()
        if self.room is not None and not self.room.done():
            self.room.set_result(None)
        return data

    async def space(self, sent: int) -> None:
        """Until less than WINDOW messages wait here."""
        while len(self.items) + sent >= WINDOW and not self.ended:
            self.room = asyncio.get_running_loop().create_future()
            await self.room


# ---- the server


class _Context:
    """What handlers ask of a grpc.aio.ServicerContext."""

    def __init__(self, chain: bytes, host: str, metadata: tuple[Any, ...]) -> None:
        self._leaf = pki.split_chain(chain)[0] if chain else b""
        self._host = host
        self._metadata = metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._leaf]} if self._leaf else {}

    def peer(self) -> str:
        return f"ipv4:{self._host}:4711"

    def invocation_metadata(self) -> tuple[Any, ...]:
        return self._metadata

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise _Aborted(code, details)


class Server:
    """grpc.aio.server."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.process = _process()
        self._handlers: list[Any] = []
        self._addr = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: list[Connection] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._handlers.extend(handlers)

    def add_secure_port(self, addr: str, credentials: object) -> int:
        if addr in self.network.listening:
            raise RuntimeError(f"{addr} is taken")
        self._addr = addr
        self.network.listening[addr] = self
        return int(addr.rpartition(":")[2])

    async def start(self) -> None: ...

    async def stop(self, grace: float | None) -> None:
        self.network.listening.pop(self._addr, None)
        if self._tasks and grace:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._connections:
            connection.close(1)

    def accepted(self, connection: Connection) -> None:
        """A caller has connected."""
        self._connections.append(connection)

    def begin(self, serving: _Serving, call: Call) -> None:
        """A call has come in."""
        details = _Details(call.path)
        found = next((m for h in self._handlers if (m := h.service(details)) is not None), None)
        if found is None:
            serving.finish(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        task = asyncio.get_running_loop().create_task(serving.run(found, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        serving.task = task


class _Serving:
    """One call, at the server."""

    def __init__(self, connection: Connection, call: Call) -> None:
        self.connection = connection
        self.call = call
        self.requests = _Inbox()
        self.task: asyncio.Task[None] | None = None
        connection.on_end[1].append(self.cancel)

    def cancel(self) -> None:
        self.requests.end(asyncio.CancelledError())
        if self.task is not None:
            self.task.cancel()

    async def run(self, method: Any, call: Call) -> None:
        context = _Context(call.channel.chain, host_of(self.connection.ends[0]), call.metadata)
        code, details = grpc.StatusCode.UNKNOWN, "the handler failed"
        try:
            if method.stream_stream is not None:
                replies = method.stream_stream(self._requests(method.request_deserializer), context)
            else:
                request = method.request_deserializer(await self.requests.get())
                if method.unary_unary is not None:
                    self._reply(method.response_serializer(await method.unary_unary(request, context)))
                    self.finish(grpc.StatusCode.OK, "")
                    return
                replies = method.unary_stream(request, context)
            async for reply in replies:
                await self.call.inbox.space(0)
                self._reply(method.response_serializer(reply))
            code, details = grpc.StatusCode.OK, ""
        except _Aborted as exc:
            code, details = exc.code, exc.details
        except asyncio.CancelledError:
            code, details = grpc.StatusCode.UNAVAILABLE, "the server stops"
            raise
        except Exception as exc:  # noqa: BLE001 - gRPC answers so, too
            details = f"Unexpected {type(exc)}: {exc}"
        finally:
            self.finish(code, details)

    async def _requests(self, deserialize: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        while True:
            try:
                data = await self.requests.get()
            except StopAsyncIteration:
                return
            yield deserialize(data)

    def _reply(self, data: bytes) -> None:
        self.connection.send(1, self.call.inbox.put, data)

    def finish(self, code: grpc.StatusCode, details: str) -> None:
        self.connection.send(1, self.call.ended, code, details)


# ---- the caller


class Call:
    """A stream, or what a unary call is made of."""

    def __init__(self, channel: Channel, path: str, serialize: Any, deserialize: Any, metadata: Any) -> None:
        self.channel, self.path = channel, path
        self.metadata = tuple(metadata or ())
        self.inbox = _Inbox()
        self._serialize, self._deserialize = serialize, deserialize
        self._connection: Connection | None = None
        self._serving: _Serving | None = None
        self._swapped: bytes | None = None
        self._pump: asyncio.Task[None] | None = None
        self._begun = asyncio.get_running_loop().create_task(self._begin())
        channel.calls.append(self)

    async def _begin(self) -> None:
        try:
            connection = await self.channel.connected()
        except grpc.aio.AioRpcError as exc:
            self.inbox.end(exc)
            return
        if self.inbox.ended:
            return
        self._connection = connection
        self._serving = _Serving(connection, self)
        connection.on_end[0].append(self._broke)
        connection.send(0, connection.server.begin, self._serving, self)

    def _broke(self) -> None:
        self.inbox.end(_unavailable("Socket closed"))

    def ended(self, code: grpc.StatusCode, details: str) -> None:
        """The server's last word."""
        self.inbox.end(None if code is grpc.StatusCode.OK else failure(code, details))

    def pump(self, requests: Any) -> None:
        """Sends all of `requests`."""
        self._pump = asyncio.get_running_loop().create_task(self._pumped(requests))

    async def _pumped(self, requests: Any) -> None:
        try:
            async for request in requests:
                await self.write(request)
            await self.done_writing()
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            return
        finally:
            await requests.aclose()

    async def write(self, request: Any) -> None:
        await asyncio.shield(self._begun)
        if self.inbox.ended or self._serving is None:
            raise asyncio.InvalidStateError("RPC already finished.")
        await self._serving.requests.space(0)
        self._send(self._serialize(request))

    def _send(self, data: bytes) -> None:
        assert self._connection is not None and self._serving is not None
        send, put, network = self._connection.send, self._serving.requests.put, self.channel.network
        if self.path == UNRELIABLE:
            if network.drop and network.rng.random() < network.drop:
                return
            if network.swap and self._swapped is None and network.rng.random() < network.swap:
                self._swapped = data
                return
            if network.duplicate and network.rng.random() < network.duplicate:
                send(0, put, data)
        send(0, put, data)
        if self._swapped is not None:
            swapped, self._swapped = self._swapped, None
            send(0, put, swapped)

    async def done_writing(self) -> None:
        await asyncio.shield(self._begun)
        if self._connection is not None and self._serving is not None:
            self._connection.send(0, self._serving.requests.end)

    def cancel(self) -> bool:
        if self._pump is not None:
            self._pump.cancel()
        if self.inbox.ended:
            return False
        self._begun.cancel()
        self.inbox.items.clear()
        self.inbox.end(asyncio.CancelledError())
        if self._connection is not None and self._serving is not None:
            self._connection.send(0, self._serving.cancel)
        return True

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> Any:
        return self._deserialize(await self.inbox.get())

    async def unary(self, request: Any, timeout: float | None) -> Any:
        """The one answer to one request."""
        try:
            async with asyncio.timeout(timeout):
                with suppress(asyncio.InvalidStateError):
                    await self.write(request)
                return self._deserialize(await self.inbox.get())
        except TimeoutError:
            raise failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        finally:
            self.cancel()


class Channel:
    """grpc.aio.secure_channel: connects with the first call, and again when that is over."""

    def __init__(self, network: Network, addr: str, shown: Shown | None) -> None:
        self.network, self.addr = network, addr
        self.chain = shown.chain if shown is not None else b""
        self.calls: list[Call] = []
        self._process = _process()
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._closed = False

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        for call in self.calls:
            call.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close(0)

    async def connected(self) -> Connection:
        """The connection; raises AioRpcError."""
        if self._closed:
            raise asyncio.CancelledError
        if self._connection is not None and not self._connection.over[0]:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Connection:
        network, own, target = self.network, host_of(self._process), self.addr.rpartition(":")[0]
        deadline = network.loop.now + CONNECT
        while network.loop.now < deadline:
            if network.passes(own, target) and network.passes(target, own):
                server = network.listening.get(self.addr)
                await asyncio.sleep(6 * network.latency())
                if server is None:
                    raise _unavailable("failed to connect to all addresses; Connection refused")
                there = server is network.listening.get(self.addr) and not server.process.halted
                if there and network.passes(own, target) and network.passes(target, own):
                    self._connection = network.connect(self._process, server)
                    server.accepted(self._connection)
                    return self._connection
            await asyncio.sleep(0.25)
        raise _unavailable("failed to connect to all addresses; Connection timed out")

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        def call(request: Any, timeout: float | None = None, metadata: Any = None) -> Any:
            made = Call(self, path, request_serializer, response_deserializer, metadata)
            return made.unary(request, timeout)

        return call

    def stream_stream(self, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        def call(requests: Any = None, timeout: float | None = None, metadata: Any = None) -> Call:
            made = Call(self, path, request_serializer, response_deserializer, metadata)
            if requests is not None:
                made.pump(requests)
            return made

        return call

    unary_stream = stream_unary = unary_unary
