"""Bad queries at a container's name server, over UDP and TCP, and bad answers from the name servers that it asks; on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import closing
from typing import cast

from agent.dns import packet
from agent.dns.server import DnsServer
from agent.dns.zone import Endpoint, Service, ZoneView, build_network
from tests.fuzz.bounds import Account, survived, watched
from tests.fuzz.mutations import mutated

VIEW = ZoneView((
    build_network(
        "net",
        (Service("s", "web", "10.0.1.2"), Service("t", "db", "10.0.1.3")),
        tuple(Endpoint(f"web.{n}.x", f"10.0.1.{n + 4}", "s") for n in range(1, 41)),
    ),
))  # fmt: skip
NAMES = (
    "web", "tasks.web", "web.net", "WeB", "db", "web.7.x", "nosuch", "outside.example", "", "a.b.c.d.e.f.g",
    "2.1.0.10.in-addr.arpa", "x.y.in-addr.arpa", "256.1.0.10.in-addr.arpa", "1.0.0.0.ip6.arpa", "_http._tcp.web", "_._.web",
    "tasks.", "localhost",
)  # fmt: skip
KINDS = (1, 28, 12, 33, 255, 6, 15, 16, 41, 0, 65535)
DATAGRAMS, CONNECTIONS, EACH, TOGETHER = 800, 50, 4, 40
PATIENCE = 20.0
QUESTION = packet.write_name("web") + struct.pack("!HH", 1, 1)


def query(rng: random.Random) -> bytes:
    """A good one, with EDNS now and then."""
    name = (
        b"".join(bytes([len(part)]) + part.encode() for part in rng.choice(NAMES).split(".") if part) + b"\0"
    )
    more = rng.random() < 0.3
    head = packet.HEADER.pack(rng.randrange(1 << 16), rng.choice((0x0100, 0, 0x0110)), 1, 0, 0, int(more))
    edns = b"\0" + struct.pack("!HHIH", 41, rng.choice((0, 512, 1232, 4096, 65535)), 0, 0) if more else b""
    return head + name + struct.pack("!HH", rng.choice(KINDS), rng.choice((1, 1, 3, 255))) + edns


def odd(rng: random.Random) -> bytes:
    """Made to be a trap."""
    head = packet.HEADER.pack(7, 0x0100, 1, 0, 0, 0)
    tail = struct.pack("!HH", 1, 1)
    return rng.choice((
        head + b"\xc0\x0c" + tail,  # points at itself
        head + b"\xc0\x0e\xc0\x0c" + tail,  # at one another
        head + b"\x01a\xc0\x0c" + tail,
        head + (b"\x3f" + b"a" * 63) * 5 + b"\0" + tail,  # longer than a name may be
        head + b"\x01a" * 127 + b"\0" + tail,
        head + b"\x01a" * 2000,
        head + b"\x40" + b"a" * 64 + b"\0" + tail,
        head + b"\x03a.b\0" + tail,
        head + b"\x02\xff\xfe\0" + tail,
        packet.HEADER.pack(7, 0x0100, 0xFFFF, 0, 0, 0) + b"\0" + tail,
        packet.HEADER.pack(7, 0x0100, 1, 0, 0, 0xFFFF) + b"\0" + tail,
        packet.HEADER.pack(7, 0x8180, 1, 1, 0, 0) + b"\0" + tail,
        packet.HEADER.pack(7, 0x7800, 1, 0, 0, 0) + b"\0" + tail,
        head, head[:5], b"", b"\0",
        query(rng) + rng.randbytes(3000),
    ))  # fmt: skip


def bad(rng: random.Random) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(80))
    if kind < 3:
        return odd(rng)
    return mutated(rng, query(rng)) if kind < 8 else query(rng)


class Upstream(asyncio.DatagramProtocol):
    """A name server that answers badly, or not at all."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = (
            data[:2]
            + b"\x81\x80"
            + data[4:]
            + b"\xc0\x0c"
            + struct.pack("!HHIH", 1, 1, 60, 4)
            + b"\xc0\0\x02\x07"
        )
        for _ in range(self._rng.randrange(4)):
            self.transport.sendto(mutated(self._rng, answer)[:9000], addr)
        if self._rng.random() < 0.8:
            self.transport.sendto(answer[:9000], addr)


async def serve(connection: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """The same over TCP."""
    head = await connection.read(2)
    if len(head) == 2:
        data = await connection.read(struct.unpack("!H", head)[0])
        if len(data) >= packet.HEADER.size:
            answer = data[:2] + b"\x81\x80" + data[4:]
            writer.write(mutated(rng, struct.pack("!H", len(answer)) + answer))
    writer.close()


class Room:
    """A container's name server, and the container."""

    def __init__(self, rng: random.Random, account: Account) -> None:
        self._rng = rng
        self._account = account
        self._loop = asyncio.get_running_loop()
        self._good = 0

    async def run(self) -> None:
        udp, listener = sockets()
        port = listener.getsockname()[1]
        upstream, _ = await self._loop.create_datagram_endpoint(lambda: Upstream(self._rng), sock=udp)
        tcp = await asyncio.start_server(lambda r, w: serve(r, w, self._rng), sock=listener)
        server = DnsServer(lambda: ["127.0.0.1"], port)
        try:
            self._address = self._served(server)
            await self._ask()
        finally:
            await server.close()
            upstream.close()
            tcp.close()
            await tcp.wait_closed()
            await asyncio.sleep(0)

    def _served(self, server: DnsServer) -> tuple[str, int]:
        udp, listener = sockets()
        server.update("container", VIEW)
        server.serve("container", udp, listener)
        host, port = udp.getsockname()
        return host, port

    async def _ask(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(self._address)
            for _ in range(DATAGRAMS // TOGETHER):
                for _ in range(TOGETHER):
                    self._account.inputs += 1
                    client.send(bad(self._rng))
                await self._lives(client)
        for _ in range(CONNECTIONS * EACH // TOGETHER):
            await asyncio.gather(*(self._connection() for _ in range(TOGETHER // EACH)))

    async def _lives(self, client: socket.socket) -> None:
        """A good question is answered well."""
        self._good += 1
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(
                client, packet.HEADER.pack(self._good, 0x0100, 1, 0, 0, 0) + QUESTION
            )
            while True:
                answer = await self._loop.sock_recv(client, 65536)
                self._account.answers += 1
                if (
                    answer[:2] == struct.pack("!H", self._good)
                    and answer[12 : 12 + len(QUESTION)] == QUESTION
                ):
                    break
        if answer[3] & 15 or answer[-4:] != socket.inet_aton("10.0.1.2"):
            self._account.faults.append(f"answered {answer!r}")

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        with closing(writer):
            try:
                async with asyncio.timeout(PATIENCE):
                    for _ in range(EACH):
                        self._account.inputs += 1
                        data = bad(self._rng)
                        framed = struct.pack("!H", len(data)) + data
                        writer.write(mutated(self._rng, framed) if self._rng.random() < 0.3 else framed)
                    writer.write_eof()
                    while await reader.read(65536):
                        self._account.answers += 1
            except TimeoutError:
                self._account.faults.append("no end of a connection")
            except OSError:  # cut off at any point
                return


def sockets() -> tuple[socket.socket, socket.socket]:
    """On one port, which must be free in both protocols."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp


async def batch(seed: int) -> Account:
    """A thousand of them."""
    with watched() as account:
        await survived(Room(random.Random(seed), account).run(), account)
    return account
