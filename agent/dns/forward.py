"""Asking the node's own name servers about names that are unknown here. Called by the DNS server.

Every question goes out with a fresh random id from one of several sockets, and only an answer to just that question
is taken. Servers are asked in order, the next one when the first refuses or is slow; after three seconds the answer is
SERVFAIL. Messages pass through unread. The sockets are in the node's own network namespace. A connected socket keeps the
address that this machine had when it was made, so none is used for long, and one that sends no more is replaced at once.
"""

import asyncio
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.dns import packet
from agent.dns.zone import OURSELVES

log = logging.getLogger("dns")

TIMEOUT_S = 3.0
NEXT_S = 1.0  # a server that hasn't answered by then gets company
SOCKETS = 4  # for each server
LIFE_S = 30.0  # of a socket: the next one may have another address and another way
MOST = 4096  # questions outstanding
BATCH = 32
PORT = 53
_RESOLV_CONF = Path("/etc/resolv.conf")
_LOOK_AGAIN_S = 2.0

Reply = Callable[[bytes], None]


class ResolvConf:
    """The node's name servers, read again when the file changes."""

    def __init__(self, path: Path = _RESOLV_CONF) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._servers: tuple[str, ...] = ()
        self._looked = float("-inf")

    def __call__(self) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        if now - self._looked >= _LOOK_AGAIN_S:
            self._looked = now
            try:
                info = os.stat(self._path)
                if (stamp := (info.st_mtime_ns, info.st_ino)) != self._stamp:
                    self._servers = name_servers(self._path.read_text(errors="replace"))
                    self._stamp = stamp
            except OSError as error:
                log.warning("can't read %s: %s", self._path, error)
        return self._servers


def name_servers(text: str) -> tuple[str, ...]:
    """Up to three, as every resolver does; never ourselves."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and words[1] != OURSELVES:
            found.append(words[1])
    return tuple(found[:3])


@dataclass(slots=True)
class _Asked:
    """A question under way."""

    query: bytes
    reply: Reply
    servers: tuple[str, ...]
    deadline: float
    next: int = 0
    last_failure: bytes = b""
    open: int = 0  # attempts that may still be answered
    attempts: "list[tuple[_Line, int]]" = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    over: bool = False


class _Line:
    """One connected socket to one server, and who waits on it."""

    def __init__(self, server: str, port: int, born: float) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.socket.connect((server, port))
        except OSError:
            self.socket.close()
            raise
        self.server = server
        self.born = born
        self.waiting: dict[int, _Asked] = {}


class Forwarder:
    """`servers` is asked for the node's name servers at every question."""

    def __init__(self, servers: Callable[[], Sequence[str]], port: int = PORT) -> None:
        self._servers = servers
        self._port = port
        self._lines: dict[str, list[_Line]] = {}
        self._retired: set[_Line] = set()  # with questions that may still be answered
        self._outstanding = 0

    def close(self) -> None:
        for line in (*(line for lines in self._lines.values() for line in lines), *self._retired):
            _hang_up(line)
            for asked in line.waiting.values():
                asked.over = True
                if asked.timer is not None:
                    asked.timer.cancel()
        self._lines.clear()
        self._retired.clear()

    def ask(self, query: bytes, reply: Reply, servers: Sequence[str] = ()) -> None:
        """Calls `reply` once, with the answer or with SERVFAIL; asks `servers` instead of the node's own if given."""
        servers = tuple(servers or self._servers())
        if not servers or self._outstanding >= MOST:
            reply(packet.failure(query, packet.SERVFAIL))
            return
        loop = asyncio.get_running_loop()
        self._outstanding += 1
        self._try_next(_Asked(query, reply, servers, loop.time() + TIMEOUT_S))

    def _try_next(self, asked: _Asked) -> None:
        """Ask the next server, and see again in a while."""
        if asked.over:
            return
        loop = asyncio.get_running_loop()
        while asked.next < len(asked.servers):
            server = asked.servers[asked.next]
            asked.next += 1
            if self._send(server, asked):
                break
        left = asked.deadline - loop.time()
        if left <= 0 or (not asked.open and asked.next >= len(asked.servers)):
            self._settle(asked, asked.last_failure or packet.failure(asked.query, packet.SERVFAIL))
            return
        wait = min(NEXT_S, left) if asked.next < len(asked.servers) else left
        if asked.timer is not None:
            asked.timer.cancel()
        asked.timer = loop.call_later(wait, self._try_next, asked)

    def _send(self, server: str, asked: _Asked) -> bool:
        try:
            line = self._line(server)
            try:
                number = _sent(line, asked.query)
            except BlockingIOError:
                raise
            except OSError:  # its address isn't this machine's any more, above all
                self._drop(line)
                line = self._new_line(server)
                number = _sent(line, asked.query)
        except OSError as error:
            log.debug("name server %s: %s", server, error)
            return False
        line.waiting[number] = asked
        asked.attempts.append((line, number))
        asked.open += 1
        return True

    def _line(self, server: str) -> _Line:
        """One of the server's sockets, at random."""
        self._retire_old()
        lines = self._lines.get(server, [])
        if len(lines) < SOCKETS:
            try:
                return self._new_line(server)
            except OSError:
                if not lines:  # no descriptors left: one that there is does, too
                    raise
        return lines[secrets.randbelow(len(lines))]

    def _new_line(self, server: str) -> _Line:
        loop = asyncio.get_running_loop()
        line = _Line(server, self._port, loop.time())
        self._lines.setdefault(server, []).append(line)
        loop.add_reader(line.socket.fileno(), self._read, line)
        return line

    def _retire_old(self) -> None:
        """The oldest of each server come first: mostly there is nothing to do."""
        oldest = asyncio.get_running_loop().time() - LIFE_S
        for lines in [found for found in self._lines.values() if found[0].born <= oldest]:
            for line in [line for line in lines if line.born <= oldest]:
                self._retire(line)

    def _retire(self, line: _Line) -> None:
        """What it waits for may still come."""
        lines = self._lines[line.server]
        lines.remove(line)
        if not lines:
            del self._lines[line.server]
        self._retired.add(line)
        self._end_idle(line)

    def _drop(self, line: _Line) -> None:
        """Nothing comes by it any more."""
        self._retire(line)
        self._refused(line)

    def _end_idle(self, line: _Line) -> None:
        if line in self._retired and not line.waiting:
            self._retired.discard(line)
            _hang_up(line)

    def _read(self, line: _Line) -> None:
        for _ in range(BATCH):
            if line.socket.fileno() < 0:  # hung up by what the last answer led to
                return
            try:
                data = line.socket.recv(65535)
            except BlockingIOError:
                return
            except OSError:  # the server's port is closed: all who ask there go on
                self._refused(line)
                return
            if not packet.is_reply(data):
                continue
            number = int.from_bytes(data[:2], "big")
            asked = line.waiting.get(number)
            if asked is None or not packet.same_question(asked.query, data):
                continue
            self._over(line, number)
            asked.open -= 1
            answer = asked.query[:2] + data[2:]
            if packet.rcode_of(data) in (packet.NOERROR, packet.NXDOMAIN):
                self._settle(asked, answer)
            else:
                asked.last_failure = answer
                self._go_on(asked)

    def _refused(self, line: _Line) -> None:
        waiting, line.waiting = line.waiting, {}
        self._end_idle(line)
        for asked in waiting.values():
            asked.open -= 1
            self._go_on(asked)

    def _go_on(self, asked: _Asked) -> None:
        """A server won't help: bring the next attempt forward."""
        if not asked.over and not asked.open and asked.timer is not None:
            self._try_next(asked)

    def _settle(self, asked: _Asked, answer: bytes) -> None:
        if asked.over:
            return
        asked.over = True
        self._outstanding -= 1
        if asked.timer is not None:
            asked.timer.cancel()
        for line, number in asked.attempts:
            if line.waiting.get(number) is asked:
                self._over(line, number)
        asked.reply(answer)

    def _over(self, line: _Line, number: int) -> None:
        del line.waiting[number]
        self._end_idle(line)

    async def ask_tcp(self, query: bytes, servers: Sequence[str] = ()) -> bytes:
        """The same question over TCP, for answers that are too long for UDP."""
        for server in servers or self._servers():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await _ask_one(server, self._port, query)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                log.debug("name server %s over TCP: %s", server, error)
        return packet.failure(query, packet.SERVFAIL)


def _sent(line: _Line, query: bytes) -> int:
    """The number that the question went out with."""
    number = secrets.randbits(16)
    while number in line.waiting:
        number = secrets.randbits(16)
    message = number.to_bytes(2, "big") + query[2:]
    try:
        line.socket.send(message)
    except ConnectionRefusedError:  # of an earlier message; the socket is clean now
        line.socket.send(message)
    return number


def _hang_up(line: _Line) -> None:
    asyncio.get_running_loop().remove_reader(line.socket.fileno())
    line.socket.close()


async def _ask_one(server: str, port: int, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, port)
    try:
        number = secrets.token_bytes(2)
        writer.write(struct.pack("!H", len(query)) + number + query[2:])
        await writer.drain()
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        data = await reader.readexactly(length)
    finally:
        writer.close()
    if data[:2] != number or not packet.is_reply(data) or not packet.same_question(query, data):
        raise OSError("an answer to something else")
    return query[:2] + data[2:]
