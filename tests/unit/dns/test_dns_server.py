"""The server and the forwarder over real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from dnslib import RR, A, DNSRecord

from agent.dns import forward
from agent.dns import server as dns_server
from agent.dns.forward import Forwarder, ResolvConf, name_servers
from agent.dns.server import DnsServer
from agent.dns.zone import Endpoint, Service, ZoneView, build_network

TASKS = tuple(Endpoint(f"web.{n}.x", f"10.0.1.{n + 2}", "s") for n in range(1, 41))
VIEW = ZoneView((build_network("net", (Service("s", "web", "10.0.1.2"),), TASKS),))


def sockets() -> tuple[socket.socket, socket.socket]:
    """On one port, which must be free in both protocols."""
    for _ in range(20):
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise AssertionError("no port is free in both protocols")


class Upstream(asyncio.DatagramProtocol):
    """A name server of the outside; what it does with a query is `answer`."""

    def __init__(self, answer: Callable[[DNSRecord], bytes | None]) -> None:
        self.answer = answer
        self.asked: list[DNSRecord] = []
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = DNSRecord.parse(data)
        self.asked.append(query)
        reply = self.answer(query)
        if reply is not None:
            self.transport.sendto(reply, addr)  # type: ignore[attr-defined]


def outside(query: DNSRecord) -> bytes:
    reply = query.reply()
    reply.add_answer(RR(query.q.qname, rdata=A("192.0.2.7"), ttl=60))
    return bytes(reply.pack())


Ask = Callable[..., Awaitable[DNSRecord]]


async def ask(address: tuple[str, int], name: str, kind: str = "A") -> DNSRecord:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(address)
        query = DNSRecord.question(name, kind)
        await loop.sock_sendall(client, query.pack())
        reply = DNSRecord.parse(await asyncio.wait_for(loop.sock_recv(client, 4096), 30))
    assert reply.header.id == query.header.id
    return reply


async def ask_tcp(address: tuple[str, int], *names: str) -> list[DNSRecord]:
    reader, writer = await asyncio.open_connection(*address)
    replies = []
    for name in names:
        data = bytes(DNSRecord.question(name).pack())
        writer.write(struct.pack("!H", len(data)) + data)
        (length,) = struct.unpack("!H", await asyncio.wait_for(reader.readexactly(2), 30))
        replies.append(DNSRecord.parse(await reader.readexactly(length)))
    writer.close()
    await writer.wait_closed()
    return replies


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream(outside)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: made, local_addr=("127.0.0.1", 0)
    )
    yield made
    transport.close()


@pytest.fixture
async def server(upstream: Upstream) -> AsyncIterator[DnsServer]:
    made = DnsServer(lambda: ("127.0.0.1",), upstream.port)
    yield made
    await made.close()


async def test_own_names(server: DnsServer) -> None:
    udp, tcp = sockets()
    address = udp.getsockname()
    server.serve("c", udp, tcp)
    server.update("c", VIEW)
    assert server.serving == {"c"}
    for _ in range(3):
        reply = await ask(address, "Web")
        assert [str(r.rdata) for r in reply.rr] == ["10.0.1.2"]
    empty = await ask(address, "web", "AAAA")
    assert (empty.header.rcode, empty.rr) == (0, [])
    cut = await ask(address, "tasks.web")
    assert cut.header.tc
    whole, one = await ask_tcp(address, "tasks.web", "web.3.x")
    assert len(whole.rr) == 40
    assert str(one.rr[0].rdata) == "10.0.1.5"


async def test_several_addresses_take_turns(server: DnsServer) -> None:
    udp, tcp = sockets()
    server.serve("c", udp, tcp)
    server.update("c", ZoneView((build_network("n", (Service("s", "web"),), TASKS[:4]),)))
    firsts = [str((await ask(udp.getsockname(), "web")).rr[0].rdata) for _ in range(8)]
    assert {firsts.count(first) for first in firsts} == {2}


async def test_a_new_view_counts_at_once(server: DnsServer) -> None:
    udp, tcp = sockets()
    server.serve("c", udp, tcp)
    server.update("c", VIEW)
    address = udp.getsockname()
    assert str((await ask(address, "web")).rr[0].rdata) == "10.0.1.2"
    server.update("c", ZoneView((build_network("net", (Service("s", "web", "10.0.1.99"),), ()),)))
    assert str((await ask(address, "web")).rr[0].rdata) == "10.0.1.99"


async def test_a_client_that_asks_on_and_on(server: DnsServer) -> None:
    """The server looks for its next question at once; another container's is answered all the same."""
    ways = {name: sockets() for name in ("busy", "other")}
    for name, (udp, tcp) in ways.items():
        server.serve(name, udp, tcp)
        server.update(name, VIEW)
    query = DNSRecord.question("web").pack()

    def on_and_on() -> set[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.connect(ways["busy"][0].getsockname())
            answers = set()
            for _ in range(500):
                client.send(query)
                answers.add(client.recv(4096))
            return answers

    asking = asyncio.create_task(asyncio.to_thread(on_and_on))
    for _ in range(5):
        assert str((await ask(ways["other"][0].getsockname(), "web")).rr[0].rdata) == "10.0.1.2"
    (answer,) = await asking
    assert str(DNSRecord.parse(answer).rr[0].rdata) == "10.0.1.2"


async def test_questions_wait_for_the_view(server: DnsServer) -> None:
    udp, tcp = sockets()
    server.serve("c", udp, tcp)
    asking = asyncio.create_task(ask(udp.getsockname(), "web"))
    asking_tcp = asyncio.create_task(ask_tcp(udp.getsockname(), "web"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    server.update("c", VIEW)
    assert str((await asking).rr[0].rdata) == "10.0.1.2"
    assert str((await asking_tcp)[0].rr[0].rdata) == "10.0.1.2"


async def test_containers_see_their_own_view(server: DnsServer) -> None:
    (udp1, tcp1), (udp2, tcp2) = sockets(), sockets()
    one, two = udp1.getsockname(), udp2.getsockname()
    server.update("one", VIEW)
    server.update("two", ZoneView((), forward=False))
    server.serve("one", udp1, tcp1)
    server.serve("two", udp2, tcp2)
    assert (await ask(one, "web")).header.rcode == 0
    assert (await ask(two, "web")).header.rcode == 3
    assert (await ask_tcp(two, "web"))[0].header.rcode == 3
    server.drop("two")
    assert udp2.fileno() == tcp2.fileno() == -1
    assert (await ask(one, "web")).header.rcode == 0


async def test_nonsense_is_survived(server: DnsServer) -> None:
    udp, tcp = sockets()
    server.serve("c", udp, tcp)
    server.update("c", VIEW)
    address = udp.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for size in range(300):
            client.sendto(os.urandom(size), address)
    with socket.create_connection(address) as client:
        client.sendall(b"\xff\xff" + os.urandom(100))
    with socket.create_connection(address) as client:
        client.sendall(b"\x00\x05hello")
    assert str((await ask(address, "web")).rr[0].rdata) == "10.0.1.2"


async def test_unknown_names_are_asked_outside(server: DnsServer, upstream: Upstream) -> None:
    udp, tcp = sockets()
    server.serve("c", udp, tcp)
    server.update("c", VIEW)
    replies = await asyncio.gather(*(ask(udp.getsockname(), f"host{n}.example") for n in range(50)))
    assert all(str(reply.rr[0].rdata) == "192.0.2.7" for reply in replies)
    assert {str(reply.q.qname) for reply in replies} == {f"host{n}.example." for n in range(50)}
    assert len({query.header.id for query in upstream.asked}) > 40


async def test_forged_answers_are_ignored(server: DnsServer, upstream: Upstream) -> None:
    def forged(query: DNSRecord) -> bytes | None:
        upstream.answer = outside
        other = DNSRecord.question("elsewhere.example")
        other.header.id = query.header.id
        asyncio.get_running_loop().call_soon(
            lambda: upstream.transport.sendto(outside(query), addresses[0])  # type: ignore[attr-defined]
        )
        return outside(other)

    addresses: list[tuple[str, int]] = []
    received = upstream.datagram_received
    upstream.datagram_received = lambda data, addr: (addresses.append(addr), received(data, addr))  # type: ignore[assignment,return-value,method-assign]
    upstream.answer = forged
    udp, tcp = sockets()
    server.serve("c", udp, tcp)
    server.update("c", VIEW)
    assert str((await ask(udp.getsockname(), "real.example")).q.qname) == "real.example."


async def collect(forwarder: Forwarder, name: str) -> DNSRecord:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    forwarder.ask(bytes(DNSRecord.question(name).pack()), answered.set_result)
    return DNSRecord.parse(await asyncio.wait_for(answered, 30))


async def test_silence_ends_in_servfail(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.dns.forward.TIMEOUT_S", 0.1)
    upstream.answer = lambda _query: None
    forwarder = Forwarder(lambda: ("127.0.0.1",), upstream.port)
    reply = await collect(forwarder, "slow.example")
    assert (reply.header.rcode, str(reply.q.qname)) == (2, "slow.example.")
    forwarder.close()


async def test_the_next_server_is_asked(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 refuses (nobody listens), 127.0.0.1 answers; a failure is passed on only when nobody knows better."""
    forwarder = Forwarder(lambda: ("127.0.0.2", "127.0.0.1"), upstream.port)
    assert str((await collect(forwarder, "a.example")).rr[0].rdata) == "192.0.2.7"
    forwarder.close()

    def refuses(query: DNSRecord) -> bytes:
        reply = query.reply()
        reply.header.rcode = 5
        return bytes(reply.pack())

    upstream.answer = refuses
    forwarder = Forwarder(lambda: ("127.0.0.1", "127.0.0.2"), upstream.port)
    assert (await collect(forwarder, "b.example")).header.rcode == 5
    forwarder.close()
    none = Forwarder(lambda: ())
    assert (await collect(none, "c.example")).header.rcode == 2
    none.close()


async def test_long_answers_are_fetched_over_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        reply = outside(DNSRecord.parse(await reader.readexactly(length)))
        writer.write(struct.pack("!H", len(reply)) + reply)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        forwarder = Forwarder(lambda: ("127.0.0.2", "127.0.0.1"), listener.sockets[0].getsockname()[1])
        reply = await forwarder.ask_tcp(bytes(DNSRecord.question("long.example").pack()))
        assert str(DNSRecord.parse(reply).rr[0].rdata) == "192.0.2.7"
        forwarder.close()


def test_name_servers() -> None:
    text = "# x\nnameserver 127.0.0.11\nnameserver 192.0.2.1\nsearch a\nnameserver fe80::1\n nameserver 1.1.1.1\nnameserver 8.8.8.8\n"
    assert name_servers(text) == ("192.0.2.1", "fe80::1", "1.1.1.1")


async def test_resolv_conf_is_read_again(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"  # type: ignore[operator]
    servers = ResolvConf(path)
    assert servers() == ()
    monkeypatch.setattr("agent.dns.forward._LOOK_AGAIN_S", 0)
    path.write_text("nameserver 192.0.2.1\n")
    assert servers() == ("192.0.2.1",)
    path.write_text("nameserver 192.0.2.22\n")
    os.utime(path, ns=(1, 1))
    assert servers() == ("192.0.2.22",)


async def test_a_container_with_name_servers_of_its_own(server: DnsServer, upstream: Upstream) -> None:
    """127.0.0.2 has nobody who answers; a container that names only that one gets a failure, and others don't."""
    one, other = sockets(), sockets()
    addresses = [udp.getsockname() for udp, _ in (one, other)]
    server.serve("one", *one)
    server.serve("other", *other)
    server.update("one", ZoneView(servers=("127.0.0.2",)))
    server.update("other", ZoneView())
    assert (await ask(addresses[0], "a.example")).header.rcode == 2
    assert not upstream.asked
    assert str((await ask(addresses[1], "a.example")).rr[0].rdata) == "192.0.2.7"


async def test_a_socket_that_sends_no_more_is_replaced(
    server: DnsServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses what would go out from an address that was taken from this machine."""

    class Gone:
        def __init__(self, real: socket.socket) -> None:
            self._real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        def send(self, message: bytes) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

    udp, tcp = sockets()
    address = udp.getsockname()
    server.serve("c", udp, tcp)
    server.update("c", VIEW)
    for _ in range(forward.SOCKETS):
        assert (await ask(address, "example.com")).rr
    (lines,) = server._forwarder._lines.values()
    before = list(lines)
    for line in before:
        line.socket = Gone(line.socket)  # type: ignore[assignment]
    for _ in range(forward.SOCKETS):
        assert (await ask(address, "example.com")).rr
    assert any(line.socket.fileno() < 0 for line in before)
    assert len(lines) <= forward.SOCKETS


async def test_sockets_to_servers_that_nobody_asks_any_more_are_closed(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "LIFE_S", 0.0)
    forwarder = Forwarder(lambda: ("127.0.0.1",), upstream.port)
    answered: asyncio.Queue[bytes] = asyncio.Queue()
    for server in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"):
        query = bytes(DNSRecord.question("example.com").pack())
        forwarder.ask(query, answered.put_nowait, (server, "127.0.0.1"))
        await asyncio.wait_for(answered.get(), 30)
    open_lines = [line for lines in forwarder._lines.values() for line in lines]
    assert {line.server for line in open_lines} == {"127.0.0.1"}
    assert all(line.waiting for line in forwarder._retired)  # the silent ones may still answer
    forwarder.close()


async def test_without_descriptors_connections_wait_and_nothing_spins(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A listener that always has somebody waiting, and never a descriptor for him."""

        def __init__(self, real: socket.socket) -> None:
            self._real = real
            self.tries = 0
            self.third = asyncio.Event()
            self.short = True

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        def accept(self) -> object:
            self.tries += 1
            if self.tries == 3:
                self.third.set()
            if self.short:
                raise OSError(errno.EMFILE, "Too many open files")
            return self._real.accept()

    monkeypatch.setattr(dns_server, "PAUSE_S", 0.05)
    udp, tcp = sockets()
    address = udp.getsockname()
    full = Full(tcp)
    server.serve("c", udp, full)  # type: ignore[arg-type]
    server.update("c", VIEW)
    asked = asyncio.create_task(ask_tcp(address, "web"))
    async with asyncio.timeout(30):
        await full.third.wait()
    for _ in range(100):  # turns of the loop in which it would be tried again
        await asyncio.sleep(0)
    assert full.tries < 50
    full.short = False
    (reply,) = await asked
    assert str(reply.rr[0].rdata) == "10.0.1.2"


async def test_a_name_that_is_too_long_for_dns_has_no_pointer(server: DnsServer) -> None:
    """Containers' names may have any length."""
    udp, tcp = sockets()
    address = udp.getsockname()
    long = ZoneView((build_network("net", (), (Endpoint("x" * 70, "10.0.1.9"),)),))
    server.serve("c", udp, tcp)
    server.update("c", long)
    reply = await ask(address, "9.1.0.10.in-addr.arpa", "PTR")
    assert (reply.header.rcode, reply.rr) == (0, [])
