"""A connection that is taken out of HTTP: raw bytes both ways, as `docker attach` and `docker exec` speak.

The client asks for `Upgrade: tcp` and gets 101, an old one gets 200; what follows is not HTTP any more. Called by
attaching.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from agent.engine.containers import MULTIPLEXED, MULTIPLEXED_SINCE, RAW, frame
from agent.engine.http import HEADERS, Call
from agent.runtime.api import LogStream
from common import errors

_READ: Final = 32 << 10


class Streams(Protocol):
    """A process's side."""

    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...


class _Taken(asyncio.StreamReaderProtocol):
    """In the place of the HTTP server's protocol, which only hears of the connection's end."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)  # ends the handler


class Ended(web.StreamResponse):
    """What a handler returns that has taken its connection over: nothing more is to be said by HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Hijacked:
    """One such connection. A handler that has taken one over calls `finish` and returns Ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, framed: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._framed = framed

    @classmethod
    def take(cls, call: Call, tty: bool) -> Hijacked:
        """Answers the request; its body has been read."""
        transport = call.request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        framed = not tty
        kind = MULTIPLEXED if framed and call.version >= MULTIPLEXED_SINCE else RAW
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = _Taken(reader, transport.get_protocol())
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        call.started = True
        transport.write(_head(call, kind))
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop), framed)

    async def carry(self, streams: Streams, output: AsyncIterator[tuple[LogStream, bytes]], stdin: bool,
                    wanted: frozenset[str]) -> None:  # fmt: skip
        """Both ways, until the process has no more to say. The end of the client's input is the process's."""
        feeding = asyncio.create_task(self._feed(streams)) if stdin else None
        try:
            async for name, data in output:
                if name in wanted:
                    await self.send(name, data)
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.wait([feeding])
                error = None if feeding.cancelled() else feeding.exception()
                if error is not None and not isinstance(error, ConnectionError | errors.ShoalError):
                    raise error

    async def _feed(self, streams: Streams) -> None:
        while data := await self._reader.read(_READ):
            await streams.write(data)
        await streams.close_stdin()

    async def send(self, name: LogStream, data: bytes) -> None:
        self._writer.write(frame(name, data) if self._framed else data)
        await self._writer.drain()

    async def finish(self) -> None:
        """All is sent; the connection closes."""
        self._writer.close()


def _head(call: Call, kind: str) -> bytes:
    upgrade = call.request.headers.get("Upgrade", "").lower() == "tcp"
    lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK", f"Content-Type: {kind}"]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
