"""Gossip through TCP: one message there, one back, then the connection ends. agent/gossip/member.py owns it, in the gossip thread.

Inputs are bounded: so many connections at a time, so many seconds each, so many bytes of a message. Each connection is a plain
socket and a task of the owner's group; the socket is closed when the task is done, even if it never began. `close`
returns when none is left. (asyncio's own server leaves sockets open that it accepted just before it was closed.)
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Final, Protocol

from agent.gossip.api import OpenStream
from agent.gossip.frames import Assembler, Whole
from agent.gossip.messages import Address
from agent.gossip.packing import Malformed

log = logging.getLogger(__name__)

MAX_INBOUND: Final = 64
MAX_OUTBOUND: Final = 32
BACKLOG: Final = 100
ANYWHERE: Final = ("0.0.0.0", "::", "")
CHUNK: Final = 1 << 16
PAUSE: Final = 1.0  # when the system has no descriptors left


class Handler(Protocol):
    """Who knows what to say."""

    def assembler(self) -> Assembler:
        """For one message from either side."""

    def request(self, message: Whole) -> bytes:
        """Somebody's message; what to answer, if anything."""

    def answered(self, token: int, message: Whole) -> None:
        """What came back on one of ours."""

    def unanswered(self, token: int, problem: str) -> None: ...

    def malformed(self, reason: str) -> None: ...


class Streams:
    """`listen` once, `ask` at any time until `close`."""

    def __init__(self, handler: Handler, group: asyncio.TaskGroup, bind: str, timeout: float) -> None:
        self._handler = handler
        self._group = group
        self._bind = bind
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._closing = False
        self._incoming: set[asyncio.Task[None]] = set()
        self._outgoing: set[asyncio.Task[None]] = set()

    def listen(self, port: int) -> None:
        """Raises OSError if the port isn't free."""
        self._listener = _socket(self._bind)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self._bind, port))
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def ask(self, wanted: OpenStream) -> None:
        """Its answer, or why there is none, goes to the handler; nothing does once we are closing."""
        if self._closing:
            return
        problem = "too many streams at once"
        if len(self._outgoing) < MAX_OUTBOUND:
            try:
                connection = _socket(wanted.address[0])
            except OSError as error:
                problem = str(error)
            else:
                self._begin(self._ask(connection, wanted), connection, self._outgoing)
                return
        self._loop.call_soon(self._handler.unanswered, wanted.token, problem)

    async def close(self) -> None:
        """Cuts everything off, and waits until it is."""
        self._closing = True
        if self._pause:
            self._pause.cancel()
        if self._listener:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        tasks = self._incoming | self._outgoing
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(
        self, work: Coroutine[None, None, None], connection: socket.socket, among: set[asyncio.Task[None]]
    ) -> None:
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # the group is ending, because another of its tasks has failed
            work.close()
            connection.close()
            return

        def done(task: asyncio.Task[None]) -> None:
            connection.close()
            among.discard(task)

        among.add(task)
        task.add_done_callback(done)

    # ---- from outside

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("gossip takes no streams for a moment: %s", error)
                self._loop.remove_reader(listener)
                self._pause = self._loop.call_later(
                    PAUSE, self._loop.add_reader, listener, self._accept, listener
                )
                return
            connection.setblocking(False)
            if len(self._incoming) >= MAX_INBOUND:
                connection.close()
            else:
                self._begin(self._serve(connection), connection, self._incoming)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                answer = self._handler.request(await self._read(connection))
                if answer:
                    await self._loop.sock_sendall(connection, answer)
        except Malformed as error:
            self._handler.malformed(str(error))
        except (OSError, TimeoutError, EOFError) as error:
            log.debug("gossip: a stream from outside ended: %s", error)

    # ---- to others

    async def _ask(self, connection: socket.socket, wanted: OpenStream) -> None:
        try:
            async with asyncio.timeout(wanted.timeout):
                answer = await self._exchange(connection, wanted.address, wanted.data)
        except Malformed as error:
            self._handler.malformed(str(error))
            self._handler.unanswered(wanted.token, str(error))
        except (OSError, TimeoutError, EOFError) as error:
            self._handler.unanswered(wanted.token, str(error) or "no answer in time")
        else:
            self._handler.answered(wanted.token, answer)

    async def _exchange(self, connection: socket.socket, address: Address, data: bytes) -> Whole:
        """From our own address, where it is a certain one: others may share this host."""
        if self._bind not in ANYWHERE:
            connection.bind((self._bind, 0))
        await self._loop.sock_connect(connection, address)
        await self._loop.sock_sendall(connection, data)
        return await self._read(connection)

    async def _read(self, connection: socket.socket) -> Whole:
        assembler = self._handler.assembler()
        while data := await self._loop.sock_recv(connection, CHUNK):
            if (whole := assembler.feed(data)) is not None:
                return whole
        raise EOFError("closed before the message was whole")


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    return made
