"""The name server that containers see at 127.0.0.11: one loop serves the sockets of all of them.

Each container brings its own two sockets (opened in its network namespace by agent/network, or handed back by systemd
after a restart); the socket alone says who asks. Nothing is read from them until the container's view is known: till
then questions wait in the kernel. Answers are kept packed, by the query's bytes after its id.
"""

import asyncio
import errno
import itertools
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent.dns import packet
from agent.dns.eagerness import MOMENT, Eagerness
from agent.dns.forward import Forwarder
from agent.dns.packet import Malformed
from agent.dns.zone import Found, ZoneView

log = logging.getLogger("dns")

BATCH = 32  # datagrams read before others have their turn
CACHE = 2048  # packed answers of one container
CACHED = 512  # bytes of a query; who asks at greater length would only fill the memory
ROTATIONS = 8  # packed orders of an answer with several addresses
CONNECTIONS = 64  # over TCP, of one container
IDLE_S = 10.0
PAUSE_S = 1.0  # when the system has nothing left to take a connection with
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_MAX_QUERY = 4096

Packed = Callable[[], bytes]  # the next reply, without its id: several orders of one answer are given in turn


@dataclass(slots=True)
class _Client:
    """One container."""

    udp: socket.socket
    tcp: socket.socket
    view: ZoneView | None = None
    cache: dict[bytes, Packed] = field(default_factory=dict)
    connections: set["asyncio.Task[None]"] = field(default_factory=set)
    gone: bool = False
    eager: Eagerness = field(default_factory=Eagerness)
    answered: float = 0.0


class DnsServer:
    """`servers` names the node's own name servers, asked for what is unknown here."""

    def __init__(self, servers: Callable[[], Sequence[str]], port: int = 53) -> None:
        self._forwarder = Forwarder(servers, port)
        self._clients: dict[str, _Client] = {}
        self._views: dict[str, ZoneView] = {}

    @property
    def serving(self) -> frozenset[str]:
        """Containers whose sockets are here."""
        return frozenset(self._clients)

    def serve(self, container_id: str, udp: socket.socket, tcp: socket.socket) -> None:
        """Take over a container's sockets: a bound UDP one and a listening TCP one, both closed at the end."""
        self._forget_sockets(container_id)
        udp.setblocking(False)
        tcp.setblocking(False)
        client = self._clients[container_id] = _Client(udp, tcp)
        if container_id in self._views:
            self._show(client, self._views[container_id])

    def update(self, container_id: str, view: ZoneView) -> None:
        """What the container sees from now on; may come before its sockets."""
        if self._views.get(container_id) is view:
            return
        self._views[container_id] = view
        if container_id in self._clients:
            self._show(self._clients[container_id], view)

    def drop(self, container_id: str) -> None:
        """The container has gone."""
        self._views.pop(container_id, None)
        self._forget_sockets(container_id)

    async def close(self) -> None:
        """Let go of all; sockets that systemd keeps copies of stay open there."""
        connections = [task for client in self._clients.values() for task in client.connections]
        for id in list(self._clients):
            self.drop(id)
        await asyncio.gather(*connections, return_exceptions=True)
        self._forwarder.close()

    def _show(self, client: _Client, view: ZoneView) -> None:
        first = client.view is None
        if client.view != view:
            client.cache.clear()
        client.view = view
        if first:
            loop = asyncio.get_running_loop()
            loop.add_reader(client.udp.fileno(), self._read, client)
            loop.add_reader(client.tcp.fileno(), self._accept, client)

    def _forget_sockets(self, container_id: str) -> None:
        client = self._clients.pop(container_id, None)
        if client is None:
            return
        client.gone = True
        loop = asyncio.get_running_loop()
        for sock in (client.udp, client.tcp):
            loop.remove_reader(sock.fileno())
            sock.close()
        for connection in client.connections:
            connection.cancel()

    # ---- UDP

    def _read(self, client: _Client) -> None:
        receive, send, cache = client.udp.recvfrom, client.udp.sendto, client.cache
        client.eager.came(time.monotonic() - client.answered)
        for _ in range(BATCH):
            try:
                data, address = receive(_MAX_QUERY)
            except BlockingIOError:
                if not client.eager.earned or (soon := _soon(client)) is None:
                    break
                data, address = soon
            except OSError:  # an earlier answer's client has gone
                break
            packed = cache.get(data[2:])
            reply = data[:2] + packed() if packed is not None else self._reply(client, data, address)
            if reply:
                try:
                    send(reply, address)
                except OSError as error:  # its buffer is full, or it has gone: it will ask again
                    log.debug("an answer wasn't taken: %s", error)
        client.answered = time.monotonic()

    def _reply(self, client: _Client, data: bytes, address: tuple[Any, ...]) -> bytes:
        """The answer to a query seen for the first time; empty if there is none, or none yet."""
        try:
            question = packet.read_question(data)
        except Malformed as error:
            return packet.failure(data, error.rcode) if error.rcode is not None else b""
        assert client.view is not None
        found = client.view.find(question.name, question.kind)
        if found is not None:
            packed = _pack(data, question, found, packet.udp_limit(question))
            if len(data) <= CACHED:
                if len(client.cache) >= CACHE:
                    client.cache.clear()
                client.cache[data[2:]] = packed
            return data[:2] + packed()
        if not client.view.forward:
            return packet.failure(data, packet.NXDOMAIN)
        self._forwarder.ask(data, partial(_send_later, client, address), client.view.servers)
        return b""

    # ---- TCP

    def _accept(self, client: _Client) -> None:
        try:
            connection, _ = client.tcp.accept()
        except OSError as error:  # it has given up already, or has to wait: it stays readable, and would wake us without end
            if error.errno in _SHORT:
                self._pause(client, error)
            return
        if len(client.connections) >= CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._converse(client, connection))
        client.connections.add(task)

        def done(task: asyncio.Task[None]) -> None:
            client.connections.discard(task)
            connection.close()  # also of one that was cancelled before it began

        task.add_done_callback(done)

    def _pause(self, client: _Client, error: OSError) -> None:
        log.warning("no connections to the name server for %.0f s: %s", PAUSE_S, error)
        loop = asyncio.get_running_loop()
        loop.remove_reader(client.tcp.fileno())
        loop.call_later(PAUSE_S, self._resume, client)

    def _resume(self, client: _Client) -> None:
        if not client.gone:
            asyncio.get_running_loop().add_reader(client.tcp.fileno(), self._accept, client)

    async def _converse(self, client: _Client, connection: socket.socket) -> None:
        """Questions of one connection, one after the other, until it is quiet for long."""
        loop = asyncio.get_running_loop()
        try:
            while not client.gone:
                async with asyncio.timeout(IDLE_S):
                    (length,) = struct.unpack("!H", await _receive(connection, 2))
                    data = await _receive(connection, length)
                reply = await self._tcp_reply(client, data)
                if not reply:
                    return
                async with asyncio.timeout(IDLE_S):
                    await loop.sock_sendall(connection, struct.pack("!H", len(reply)) + reply)
        except (OSError, EOFError, TimeoutError) as error:
            log.debug("a connection ended: %s", error)

    async def _tcp_reply(self, client: _Client, data: bytes) -> bytes:
        try:
            question = packet.read_question(data)
        except Malformed as error:
            return packet.failure(data, error.rcode) if error.rcode is not None else b""
        assert client.view is not None
        found = client.view.find(question.name, question.kind)
        if found is not None:
            return packet.answer(data, question, found, packet.TCP_MOST)
        if not client.view.forward:
            return packet.failure(data, packet.NXDOMAIN)
        return await self._forwarder.ask_tcp(data, client.view.servers)


def _pack(data: bytes, question: packet.Question, found: Found, limit: int) -> Packed:
    """The answer in as many orders as are worth keeping."""
    turns = min(len(found.addresses), ROTATIONS) or 1
    step = max(len(found.addresses) // turns, 1)
    replies = [packet.answer(data, question, found, limit, turn * step)[2:] for turn in range(turns)]
    return itertools.cycle(replies).__next__


def _soon(client: _Client) -> tuple[bytes, tuple[Any, ...]] | None:
    """The question of a client that has earned a look, and who asks; None if it doesn't come within a moment. A client on
    the same processor gets that between two looks."""
    receive = client.udp.recvfrom
    end = time.monotonic() + MOMENT
    while time.monotonic() < end:
        os.sched_yield()
        try:
            found = receive(_MAX_QUERY)
        except BlockingIOError:
            continue
        except OSError:  # an earlier answer's client has gone
            break
        client.eager.looked(found=True)
        return found
    client.eager.looked(found=False)
    return None


def _send_later(client: _Client, address: tuple[Any, ...], reply: bytes) -> None:
    if client.gone:
        return
    try:
        client.udp.sendto(reply, address)
    except OSError as error:
        log.debug("a forwarded answer wasn't taken: %s", error)


async def _receive(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        chunk = await loop.sock_recv(connection, size - len(data))
        if not chunk:
            raise EOFError("closed")
        data += chunk
    return data
