"""Whole transfers on every way that a swarm's network offers, whatever the MTU below: TCP both ways, datagrams of each size.

Used by test_transfers.py with a few MTUs and by the soak with all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import model
from tests.lab.netlab import (
    PORT,
    PUBLISHED,
    VIP,
    Swarm,
    dial,
    in_namespace,
    inside,
    namespace,
    three_machines,
)

HOST_PORT = 8081
AMOUNT = 200_000  # bytes, there and back
LARGEST = 65_507
HEADERS, OVERHEAD = 28, 50  # of a datagram over IPv4; of VXLAN
NARROW = 1280  # of the link between the far client and the machines
FAR, ROUTER = "10.81.0.2", "10.79.0.60"
SO_RCVBUFFORCE = 33
# Seconds for each attempt's answer: a datagram that found the way to be narrower is lost, the next one is not; a busy machine is late.
ATTEMPTS = (0.5, 0.5, 1.0, 2.0, 10.0, 20.0)


@dataclass(frozen=True)
class Way:
    """From a namespace to an address that a task is behind."""

    name: str
    client: Path
    target: tuple[str, int]
    datagrams: bool = True


@dataclass
class World:
    """Machine 3 has the task, machine 1 a container that calls it; a client stands outside, another one far away."""

    swarm: Swarm
    folder: Path
    ways: tuple[Way, ...]
    problems: list[str]

    async def underlay(self, mtu: int) -> None:
        """All cables take so much, and the machines have noticed."""
        paths = [*(m.path for m in self.swarm.machines), self.swarm.outside]
        cables = [(path, "eth0") for path in paths]
        switch = self.folder / "switch"
        cables += [(switch, name) for name in ("ph1", "ph2", "ph3", "pclient", "prouter", "br0")]
        cables.append((self.folder / "router", "eth0"))
        for path, name in cables:
            inside(path, "ip", "link", "set", name, "mtu", str(mtu))
        for machine in self.swarm.machines:
            await machine.ask(do="reconcile")

    async def overlay(self, mtu: int) -> None:
        """The network of the container and the task was made with so much."""
        self.swarm.options = {"com.docker.network.driver.mtu": str(mtu)} if mtu else {}
        await self.swarm.send()

    async def check(self, what: str, largest: int) -> None:
        """All ways at once; `largest` is the MTU of the overlays."""
        sizes = sorted(
            {1, largest - HEADERS, largest - HEADERS + 1, largest + OVERHEAD - HEADERS, 8000, LARGEST}
        )

        async def one(way: Way) -> None:
            try:
                await stream(way)
                for size in sizes if way.datagrams else ():
                    await datagrams(way, size)
            except (OSError, TimeoutError, AssertionError) as error:
                self.problems.append(f"{what}: {way.name}: {error!r}")

        async with asyncio.TaskGroup() as group:
            for way in self.ways:
                group.create_task(one(way))


async def stream(way: Way) -> None:
    """So many bytes there, and the same ones back at the same time."""
    sent = hashlib.shake_128(way.name.encode()).digest(AMOUNT)
    reader, writer = await dial(way.client, way.target)
    try:
        async with asyncio.timeout(30):
            writer.write(sent)
            writer.write_eof()
            received = await reader.read(-1)
    except TimeoutError as error:
        raise TimeoutError(f"{AMOUNT} bytes by TCP") from error
    finally:
        writer.close()
    assert received == sent, f"{len(received)} of {AMOUNT} bytes by TCP"


async def datagrams(way: Way, size: int) -> None:
    """A datagram of that size, and its echo; sent again while nothing comes back."""
    sent = hashlib.shake_128(way.name.encode()).digest(size)
    made = _datagram_socket(way.client)
    made.connect(way.target)
    loop = asyncio.get_running_loop()
    said = "no answer"
    try:
        for patience in ATTEMPTS:
            try:
                await loop.sock_sendall(made, sent)
                async with asyncio.timeout(patience):
                    assert await loop.sock_recv(made, LARGEST + 1) == sent, (
                        f"another datagram than the {size} bytes"
                    )
                return
            except TimeoutError:
                continue
            except OSError as error:  # that the way is narrower
                said = str(error)
    finally:
        made.close()
    raise TimeoutError(f"a datagram of {size} bytes: {said}")


def _datagram_socket(path: Path) -> socket.socket:
    """With room for many of the largest, each in as many pieces as it came in."""
    made = in_namespace(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 2**24)
    made.setblocking(False)
    return made


@contextmanager
def echo(path: Path) -> Iterator[socket.socket]:
    """Sends datagrams back."""
    made = _datagram_socket(path)
    made.bind(("", PORT))

    def reply() -> None:
        data, sender = made.recvfrom(LARGEST + 1)
        made.sendto(data, sender)

    loop = asyncio.get_running_loop()
    loop.add_reader(made, reply)
    try:
        yield made
    finally:
        loop.remove_reader(made)
        made.close()


async def _echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


@contextmanager
def _far_away(folder: Path, swarm: Swarm) -> Iterator[Path]:
    """A client behind two routers with a narrow link between them, which neither end knows of."""
    with (
        namespace(folder / "far") as far,
        namespace(folder / "turn") as turn,
        namespace(folder / "router") as router,
    ):
        switch = folder / "switch"
        inside(
            switch,
            "ip",
            "link",
            "add",
            "prouter",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(router),
        )
        inside(switch, "ip", "link", "set", "prouter", "master", "br0", "up")
        inside(
            router,
            "ip",
            "link",
            "add",
            "narrow",
            "type",
            "veth",
            "peer",
            "name",
            "narrow",
            "netns",
            str(turn),
        )
        inside(turn, "ip", "link", "add", "wide", "type", "veth", "peer", "name", "eth0", "netns", str(far))
        for path, name, address, mtu in (
            (router, "eth0", f"{ROUTER}/24", 1500), (router, "narrow", "10.82.0.1/24", NARROW),
            (turn, "narrow", "10.82.0.2/24", NARROW), (turn, "wide", "10.81.0.1/24", 1500),
            (far, "eth0", f"{FAR}/24", 1500),
        ):  # fmt: skip
            inside(path, "ip", "addr", "add", address, "dev", name)
            inside(path, "ip", "link", "set", name, "mtu", str(mtu), "up")
        for path in (router, turn):
            inside(path, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        inside(far, "ip", "route", "add", "default", "via", "10.81.0.1")
        inside(turn, "ip", "route", "add", "default", "via", "10.82.0.1")
        inside(router, "ip", "route", "add", "10.81.0.0/24", "via", "10.82.0.2")
        for machine in swarm.machines:
            inside(machine.path, "ip", "route", "add", "10.81.0.0/24", "via", ROUTER)
        yield far


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Machines, clients and the task's echo."""
    async with three_machines(folder) as (swarm, outside):
        first, second, third = swarm.machines
        with _far_away(folder, swarm) as far:
            swarm.host_port = model.PortConfig(
                protocol=model.PortProtocol.TCP, target_port=PORT, published_port=HOST_PORT,
                publish_mode=model.PublishMode.HOST,
            )  # fmt: skip
            task = swarm.name(1)
            swarm.placed[task] = third
            await swarm.send()
            await swarm.attach(task)
            swarm.endpoints[task] = model.EndpointState.ENDPOINT_SERVING
            container = await swarm.client(first)
            opened = in_namespace(swarm.paths[task], partial(socket.create_server, ("", PORT)))
            server = await asyncio.start_server(_echo_stream, sock=opened)
            ways = (
                Way("a task's address", container, (swarm.addresses(task)[0], PORT)),
                Way("a VIP", container, (VIP, PORT)),
                Way("a task's own VIP", swarm.paths[task], (VIP, PORT)),
                Way("the mesh of another node", outside, (first.address, PUBLISHED)),
                Way("the mesh of the task's node", outside, (third.address, PUBLISHED)),
                Way("the mesh, from a node", second.path, (second.address, PUBLISHED)),
                Way("the mesh, from a node's loopback", second.path, ("127.0.0.1", PUBLISHED)),
                Way("the mesh, from a container", container, (second.address, PUBLISHED)),
                Way("the mesh, from far away", far, (first.address, PUBLISHED)),
                Way("host mode", outside, (third.address, HOST_PORT), datagrams=False),
                Way("host mode, from far away", far, (third.address, HOST_PORT), datagrams=False),
            )
            try:
                with echo(swarm.paths[task]):
                    yield World(swarm, folder, ways, [])
            finally:
                server.close()
