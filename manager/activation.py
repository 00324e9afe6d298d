"""Serves a socket that systemd owns: gRPC cannot take a listening descriptor, so each connection is passed on.

systemd keeps the listening socket, so that clients that connect while the manager restarts wait in the kernel and the
first one starts it. gRPC listens on a private socket in a folder of its own; bytes go both ways between them. Used by
daemon.py when it was handed a socket; started by hand, gRPC binds the public path itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

log = logging.getLogger("activation")

_CHUNK: Final = 1 << 16


class Relay:
    """Passes connections of one listening unix socket on to another path."""

    def __init__(self, listener: socket.socket, target: str) -> None:
        self._listener = listener
        self._target = target
        listener.setblocking(False)

    async def run(self) -> None:
        """Until it is cancelled; every connection ends then. systemd keeps its own hold on the socket."""
        loop = asyncio.get_running_loop()
        with self._listener:
            async with asyncio.TaskGroup() as connections:
                while True:
                    client, _ = await loop.sock_accept(self._listener)
                    connections.create_task(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(server, self._target)
            except OSError as exc:
                log.error("a local connection could not be passed on: %s", exc)
                return
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_copy(client, server))
                ways.create_task(_copy(server, client))


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """One way, until its source ends; then the sink hears of it."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, _CHUNK):
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone: end the other way as well.
        for end in (source, sink):
            _shut(end)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("connection was closed already")
