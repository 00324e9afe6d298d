"""The routing mesh beyond a TCP connection, against the real kernel: datagrams, SCTP, host mode, single addresses, masquerade."""

from __future__ import annotations

import asyncio
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.network import probe, rules
from agent.network.facts import Table
from agent.network.thread import NetThread
from common import model
from tests.lab.netlab import (
    CLIENT,
    PATIENCE,
    PORT,
    PUBLISHED,
    VIP,
    Swarm,
    ask,
    datagram,
    in_namespace,
    inside,
    three_machines,
)

pytestmark = pytest.mark.lab
SERVING, WITHDRAWN = model.EndpointState.ENDPOINT_SERVING, model.EndpointState.ENDPOINT_WITHDRAWN
DRAINED = model.EndpointState.ENDPOINT_DRAINED
UDP, TCP = model.PortProtocol.UDP, model.PortProtocol.TCP


def port(
    protocol: model.PortProtocol, published: int, mode: model.PublishMode = model.PublishMode.INGRESS
) -> model.PortConfig:
    return model.PortConfig(protocol=protocol, target_port=PORT, published_port=published, publish_mode=mode)


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    with tempfile.TemporaryDirectory(prefix="shoal-mesh-") as folder:
        async with three_machines(Path(folder)) as (made, _):
            yield made


class Talker:
    """A UDP client with one port that sends on and on, as a log sender does, and never opens another socket."""

    def __init__(self, path: Path, target: tuple[str, int], every: float = 0.02) -> None:
        self._target, self._every = target, every
        self._socket = in_namespace(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setblocking(False)
        self._answers: asyncio.Queue[list[str]] = asyncio.Queue()
        self.begun = asyncio.Event()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._read)
        sender = asyncio.create_task(self._send())
        try:
            yield
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        self._answers.put_nowait(self._socket.recv(2048).decode().split())

    async def _send(self) -> None:
        while True:
            self._socket.sendto(b"hello", self._target)
            await asyncio.sleep(self._every)
            self.begun.set()

    async def answer(self, other_than: str = "", seconds: float = 30) -> list[str]:
        """The next answer from now on, of somebody else."""
        while not self._answers.empty():
            self._answers.get_nowait()
        async with asyncio.timeout(seconds):
            while (words := await self._answers.get())[0] == other_than:
                pass
            return words


async def test_a_client_that_was_there_first(swarm: Swarm) -> None:
    """It sends before its port is published, and is answered once it is."""
    both = swarm.published
    swarm.published = both[:1]
    await swarm.spread_five()
    talker = Talker(swarm.outside, (swarm.machines[0].address, PUBLISHED))
    async with talker.sending():
        await talker.begun.wait()
        swarm.published = both
        await swarm.send()
        assert (await talker.answer())[1] == CLIENT


async def test_a_lost_machines_clients_move(swarm: Swarm) -> None:
    """No record goes, for its tasks may be there again: datagrams go elsewhere, through the mesh and through the VIP."""
    await swarm.run(swarm.machines[2], 1, 1)
    await swarm.send()
    container = await swarm.client(swarm.machines[0])
    lost = swarm.name(1)
    talkers = [
        Talker(swarm.outside, (swarm.machines[0].address, PUBLISHED)),
        Talker(container, (VIP, PORT)),
    ]
    async with talkers[0].sending(), talkers[1].sending():
        for talker in talkers:
            assert (await talker.answer())[0] == lost
        await swarm.run(swarm.machines[1], 1, 2)
        swarm.endpoints[lost] = DRAINED
        await swarm.send()
        for talker in talkers:  # it may be about to stop, and answers still
            assert (await talker.answer())[0] == lost
        swarm.down = {swarm.machines[2].id}
        await swarm.send()
        for talker in talkers:
            assert (await talker.answer(other_than=lost))[0] == swarm.name(2)


async def test_a_port_that_changes_hands(swarm: Swarm) -> None:
    """Another service has the port: its tasks get the datagrams of clients that the first one had."""
    await swarm.run(swarm.machines[1], 2, 1)
    await swarm.send()
    talker = Talker(swarm.outside, (swarm.machines[0].address, PUBLISHED))
    async with talker.sending():
        first = (await talker.answer())[0]
        swarm.outsiders = {first}
        await swarm.send()
        assert (await talker.answer(other_than=first))[1] == CLIENT


async def test_an_answer_that_comes_late(swarm: Swarm) -> None:
    """The tables of a task are made anew meanwhile: its server, bound to 0.0.0.0, still answers from the right address."""
    await swarm.run(swarm.machines[2], 1, 1)
    await swarm.send()
    server = in_namespace(
        swarm.paths[swarm.name(1)], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    )
    server.bind(("", 7100))
    server.settimeout(PATIENCE)
    swarm.published = (
        *swarm.published,
        model.PortConfig(protocol=UDP, target_port=7100, published_port=8100),
    )
    await swarm.send()
    client = in_namespace(swarm.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.settimeout(PATIENCE)
    client.connect((swarm.machines[0].address, 8100))
    client.send(b"begin")
    _, peer = await asyncio.to_thread(server.recvfrom, 100)
    assert peer[0] == CLIENT
    await swarm.run(swarm.machines[1], 1, 2)
    await swarm.send()
    for n in range(3):
        server.sendto(b"%d" % n, peer)
        assert await asyncio.to_thread(client.recv, 100) == b"%d" % n
    server.close()
    client.close()


async def test_one_task_from_everywhere(swarm: Swarm) -> None:
    await swarm.run(swarm.machines[2], 1, 1)
    await swarm.send()
    await equal_5_tuples(swarm)
    await from_the_machines(swarm)
    await sctp(swarm)


async def equal_5_tuples(swarm: Swarm) -> None:
    """One task, one client port, three receiving machines at the same time: each answer comes back through its own."""
    client = in_namespace(swarm.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client.bind((CLIENT, 45010))
    client.settimeout(PATIENCE)
    wanted = {(m.address, PUBLISHED) for m in swarm.machines}
    for _ in range(3):
        for target in wanted:
            client.sendto(b"hello", target)
        answers = [await asyncio.to_thread(client.recvfrom, 100) for _ in wanted]
        assert {sender for _, sender in answers} == wanted
        assert {data.decode().split()[1] for data, _ in answers} == {CLIENT}
    client.close()


async def from_the_machines(swarm: Swarm) -> None:
    container = await swarm.client(swarm.machines[1])
    for machine in swarm.machines:
        for path, target in (
            (machine.path, "127.0.0.1"),
            (machine.path, machine.address),
            (container, machine.address),
        ):
            assert (await datagram(path, (target, PUBLISHED)))[0] == swarm.name(1), (machine.number, target)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def sctp_packet(source: int, target: int, tag: int, kind: int) -> bytes:
    """With one chunk: INIT (1), INIT ACK (2) or HEARTBEAT (4) (RFC 9260, 3)."""
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20, 0x1234, 65535, 1, 1, 1)
    head = struct.pack("!HHI", source, target, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


async def sctp(swarm: Swarm) -> None:
    """Without SCTP in this kernel's sockets, by hand: an INIT to the published port arrives at the task's own, and the answer comes
    from where the client has asked, though the task sends it by its way out. It looks for no further ways to the client."""
    swarm.published = (*swarm.published, port(model.PortProtocol.SCTP, 7070))
    await swarm.send()
    raw = partial(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    receiver, sender = in_namespace(swarm.paths[swarm.name(1)], raw), in_namespace(swarm.outside, raw)
    receiver.settimeout(PATIENCE)
    sender.settimeout(PATIENCE)
    sender.sendto(sctp_packet(40000, 7070, 0, 1), (swarm.machines[0].address, 0))
    packet = await asyncio.to_thread(receiver.recv, 2048)
    header = (packet[0] & 15) * 4
    assert socket.inet_ntoa(packet[12:16]) == CLIENT
    assert struct.unpack("!HH", packet[header : header + 4]) == (40000, PORT)
    receiver.sendto(sctp_packet(PORT, 40000, 0x1234, 2), (CLIENT, 0))
    packet, (source, _) = await asyncio.to_thread(sender.recvfrom, 2048)
    header = (packet[0] & 15) * 4
    assert (source, struct.unpack("!HH", packet[header : header + 4])) == (
        swarm.machines[0].address, (7070, 40000),
    )  # fmt: skip
    with pytest.raises(PermissionError):
        receiver.sendto(sctp_packet(PORT, 40000, 0x1234, 4), (swarm.machines[1].address, 0))
    sender.close()
    receiver.close()


async def test_published_on_some_addresses(swarm: Swarm) -> None:
    """The others of the machine refuse, as if nothing were published, and the same for its own processes."""
    first = swarm.machines[0]
    inside(first.path, "ip", "addr", "add", "10.79.0.99/24", "dev", "eth0")
    swarm.publish_addresses = ("10.79.0.99", "127.0.0.0/8")
    await swarm.run(swarm.machines[2], 1, 1)
    await swarm.send()
    for path, target in (
        (swarm.outside, "10.79.0.99"),
        (first.path, "127.0.0.1"),
        (first.path, "10.79.0.99"),
    ):
        assert (await ask(path, (target, PUBLISHED)))[0] == swarm.name(1)
    for path in (swarm.outside, first.path):
        with pytest.raises(ConnectionRefusedError):
            await ask(path, (first.address, PUBLISHED))


async def test_masquerade(swarm: Swarm) -> None:
    """The service's tasks see the node that took a connection; it is taken back while connections go on."""
    swarm.masquerade = True
    await swarm.spread_five()
    for machine in swarm.machines:
        assert {(await ask(swarm.outside, (machine.address, PUBLISHED)))[1] for _ in range(5)} == {
            machine.ingress
        }
        assert {(await datagram(swarm.outside, (machine.address, PUBLISHED)))[1] for _ in range(5)} == {
            machine.ingress
        }
    swarm.masquerade = False
    await swarm.send()
    for machine in swarm.machines:
        assert {(await ask(swarm.outside, (machine.address, PUBLISHED)))[1] for _ in range(5)} == {CLIENT}


async def test_a_machine_that_cannot_route_by_marks(swarm: Swarm) -> None:
    """Its tasks, and no others, see the node that took a connection; they have no rule by a mark."""
    blind = swarm.machines[2]
    swarm.blind = {blind.id}
    await swarm.run(swarm.machines[1], 1, 1)
    await swarm.run(blind, 1, 2)
    await swarm.send()
    for machine in swarm.machines:
        target = (machine.address, PUBLISHED)
        for answers in (
            [await ask(swarm.outside, target) for _ in range(4)],
            [await datagram(swarm.outside, target) for _ in range(4)],
        ):
            seen = {words[0]: words[1] for words in answers}
            assert seen == {swarm.name(1): CLIENT, swarm.name(2): machine.ingress}, machine.number
    assert "fwmark" in inside(swarm.paths[swarm.name(1)], "ip", "rule")
    assert "fwmark" not in inside(swarm.paths[swarm.name(2)], "ip", "rule")


async def test_whether_this_kernel_routes_by_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried out in a namespace that leaves nothing; a kernel without it is no error."""

    thread = await asyncio.to_thread(NetThread, tmp_path)
    try:
        assert await thread.run(probe.missing, thread.namespaces) == ""
        monkeypatch.setattr(rules, "flows_table", lambda *_: Table("", "add rule ip nobody nothing"))
        assert "Error" in await thread.run(probe.missing, thread.namespaces)
    finally:
        await asyncio.to_thread(thread.close)


async def test_a_host_mode_port_that_a_process_has(swarm: Swarm) -> None:
    """The task is refused instead of taking what comes to the process; and runs there once that is gone."""
    machine = swarm.machines[1]
    swarm.host_port = port(TCP, 8081, model.PublishMode.HOST)
    listening = in_namespace(machine.path, lambda: socket.create_server(("0.0.0.0", 8081)))
    with pytest.raises(
        RuntimeError, match=r"failed to bind host port for 0\.0\.0\.0:8081/tcp: address already in use"
    ):
        await swarm.run(machine, 1, 1)
    listening.close()
    await swarm.run(machine, 1, 1)
    assert (await ask(swarm.outside, (machine.address, 8081)))[0] == swarm.name(1)


async def test_host_mode_by_datagrams(swarm: Swarm) -> None:
    """A client of a task that has gone reaches the next one on the same machine."""
    machine = swarm.machines[1]
    swarm.host_port = port(UDP, 8083, model.PublishMode.HOST)
    await swarm.run(machine, 1, 1)
    talker = Talker(swarm.outside, (machine.address, 8083))
    async with talker.sending():
        assert await talker.answer() == [swarm.name(1), CLIENT, "hello"]
        await swarm.remove(swarm.name(1))
        await swarm.run(machine, 1, 2)
        assert (await talker.answer(other_than=swarm.name(1)))[0] == swarm.name(2)
