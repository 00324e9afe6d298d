"""Three machines made of network namespaces, a client outside, and a swarm's assignments for them. Needs root.

Each machine's network runs in a process of its own (nethost.py). Servers and clients are sockets of this process that
were opened inside a namespace: they stay there.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from common import model

T = TypeVar("T")
_LIBC = ctypes.CDLL(None, use_errno=True)
NEWNET = 0x40000000
PATIENCE = 30.0  # seconds for an answer on a machine that is busy with something else
CLIENT, CLIENT6 = "10.79.0.50", "fd79::50"
INGRESS, APP = "ingress0000000000000000id", "appnet00000000000000000id"
SERVICE = "servicesvc0000000000000id"
VIP, PUBLISHED, PORT = "10.20.1.2", 8080, 7000
VIP6, APP6, INGRESS6 = "fd20:1::2", "fd20:1::/64", "fd20::/64"


def in_namespace(path: Path, function: Callable[[], T]) -> T:
    """Runs `function` in a namespace, in a thread that ends with it."""
    result: list[T] = []
    problem: list[BaseException] = []

    def run() -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            if _LIBC.setns(fd, NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {path}")
            result.append(function())
        except OSError as error:
            problem.append(error)
        finally:
            os.close(fd)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    return result[0]


@contextmanager
def namespace(path: Path) -> Iterator[Path]:
    """A namespace bound to a file, with its loopback up."""
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.unlink()


def inside(path: Path, *command: str, check: bool = True) -> str:
    """Output of a command in a namespace."""
    done = subprocess.run(["nsenter", f"--net={path}", *command], check=check, capture_output=True, text=True)
    return done.stdout


@dataclass
class Machine:
    """One namespace with an address on the underlay and a network process in it."""

    number: int
    path: Path
    folder: Path
    process: asyncio.subprocess.Process | None = None
    moved: str = ""  # to another address

    @property
    def id(self) -> str:
        return f"node{self.number}node000000000000000id"

    @property
    def address(self) -> str:
        return self.moved or f"10.79.0.1{self.number}"

    @property
    def address6(self) -> str:
        return f"fd79::1{self.number}"

    @property
    def ingress(self) -> str:
        return f"10.20.0.{self.number + 1}"

    @property
    def ingress6(self) -> str:
        return f"fd20::a14:{self.number + 1:x}"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            "nsenter", f"--net={self.path}", sys.executable, "-m", "tests.lab.nethost",
            str(self.folder), self.id,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24,
        )  # fmt: skip
        await self.ask(do="start")

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def ask(self, **command: Any) -> Any:
        """The answer to a command; raises RuntimeError with the machine's error."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await asyncio.wait_for(self.process.stdout.readline(), 2 * PATIENCE)
        if not line:
            raise RuntimeError(f"machine {self.number} ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]


@dataclass
class Swarm:
    """What managers would know; `send` gives it to all machines."""

    machines: list[Machine]
    endpoints: dict[str, model.EndpointState] = field(default_factory=dict)
    placed: dict[str, Machine] = field(default_factory=dict)
    clients: dict[str, Machine] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    servers: list[asyncio.Server] = field(default_factory=list)
    seen: dict[str, Counter[str]] = field(default_factory=dict)  # client addresses, by task
    held: dict[str, set[asyncio.StreamWriter]] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    ingress: str = INGRESS  # id of the network that is in its place
    host_port: model.PortConfig | None = None
    publish_addresses: tuple[str, ...] = ()
    masquerade: bool = False
    down: set[str] = field(default_factory=set)  # machines' ids
    blind: set[str] = field(default_factory=set)  # of machines that can't route by marks
    outsiders: set[str] = field(default_factory=set)  # tasks that are of another service now
    outside: Path = Path()  # the client's namespace
    dual: bool = False  # the application network has IPv6 as well
    published: tuple[model.PortConfig, ...] = (
        model.PortConfig(
            protocol=model.PortProtocol.TCP, target_port=PORT, published_port=PUBLISHED,
            publish_mode=model.PublishMode.INGRESS,
        ),
        model.PortConfig(
            protocol=model.PortProtocol.UDP, target_port=PORT, published_port=PUBLISHED,
            publish_mode=model.PublishMode.INGRESS,
        ),
    )  # fmt: skip

    def addresses(self, task: str) -> tuple[str, str]:
        """(application network, ingress) of a task."""
        n = int(task[4:6])
        return f"10.20.1.{n + 10}", f"10.20.0.{n + 10}"

    def addresses6(self, task: str) -> tuple[str, str]:
        """The same of IPv6; both empty where the network has none."""
        n = int(task[4:6]) + 10
        return (f"fd20:1::{n:x}", f"fd20::a14:{n:x}") if self.dual else ("", "")

    def assignments(self, machine: Machine) -> bytes:
        changes = [*self._networks(), *self._nodes()]
        service = model.ServiceRecord(
            id=SERVICE, name="web", mode=model.EndpointMode.VIP, ports=self.published,
            publish_addresses=self.publish_addresses, masquerade=self.masquerade,
            virtual_ips=(
                model.VirtualIP(APP, f"{VIP}/24"), model.VirtualIP(self.ingress, "10.20.0.200/24"),
                *((model.VirtualIP(APP, f"{VIP6}/64"),) if self.dual else ()),
            ),
        )  # fmt: skip
        changes.append(("service/" + SERVICE, model.Assignment(service=service)))
        for task, where in {**self.placed, **self.clients}.items():
            app, ingress = self.addresses(task)
            app6, ingress6 = self.addresses6(task)
            legs = [(APP, app, app6)] + ([(self.ingress, ingress, ingress6)] if task in self.placed else [])
            for network, address, address6 in legs:
                record = model.EndpointRecord(
                    task_id=task, network_id=network, addr=address, addr6=address6, node_id=where.id,
                    service_id=SERVICE if task in self.placed.keys() - self.outsiders else "",
                    task_name=task, state=self.endpoints.get(task, model.EndpointState.ENDPOINT_NONE),
                )  # fmt: skip
                changes.append((f"endpoint/{task}/{network}", model.Assignment(endpoint=record)))
            if where is machine:
                attachments = tuple(
                    model.NetworkAttachment(
                        network_id=n, addresses=(f"{a}/24", f"{six}/64") if six else (f"{a}/24",)
                    )
                    for n, a, six in legs
                )
                ports = self.published if task in self.placed else ()
                if self.host_port is not None and task in self.placed:
                    ports = (self.host_port, *ports)
                made = model.Task(id=task, networks=attachments, ports=ports)
                changes.append((f"task/{task}", model.Assignment(task=model.TaskAssignment(task=made))))
        return model.Assignments(
            complete=True,
            changes=tuple(model.AssignmentChange(key=key, assignment=item) for key, item in changes),
        ).to_bytes()

    def _networks(self) -> Iterator[tuple[str, model.Assignment]]:
        for n, (network, name) in enumerate(((self.ingress, "ingress"), (APP, "app"))):
            made = model.Network(
                id=network,
                spec=model.NetworkSpec(
                    name=name, ingress=n == 0, ipv6_enabled=bool(n) and self.dual,
                    driver=model.Driver(name="overlay", options=self.options if n else {}),
                ),
                ipam=model.IPAMOptions(configs=(
                    model.IPAMConfig(subnet=f"10.20.{n}.0/24", gateway=f"10.20.{n}.1"),
                    *((model.IPAMConfig(subnet=APP6, gateway="fd20:1::1"),) if n and self.dual else ()),
                )),
                vni=4096 + n if network in (INGRESS, APP) else 4200,
            )  # fmt: skip
            yield "network/" + network, model.Assignment(network=model.NetworkRecord(network=made))

    def _nodes(self) -> Iterator[tuple[str, model.Assignment]]:
        for m in self.machines:
            record = model.NodeRecord(
                id=m.id, hostname=f"h{m.number}", vtep=m.address, ingress_addr=m.ingress, number=m.number,
                down=m.id in self.down, ingress_addr6=f"{m.ingress6}/64", masquerade=m.id in self.blind,
            )  # fmt: skip
            yield "node/" + m.id, model.Assignment(node=record)

    async def send(self) -> None:
        async with asyncio.TaskGroup() as group:
            for machine in self.machines:
                data = base64.b64encode(self.assignments(machine)).decode()
                group.create_task(machine.ask(do="apply", assignments=data))

    async def attach(self, task: str) -> None:
        machine = {**self.placed, **self.clients}[task]
        path, _, _ = await machine.ask(do="attach", task=task)
        self.paths[task] = Path(path)

    async def serve(self, task: str) -> None:
        """Answers "TASK CLIENT" to each connection and datagram, then keeps echoing lines."""
        self.seen[task] = Counter()
        self.held[task] = set()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.held[task].add(writer)
            peer = writer.get_extra_info("peername")[0]
            self.seen[task][peer] += 1
            writer.write(f"{task} {peer}\n".encode())
            try:
                while line := await reader.readline():
                    writer.write(line)
                    await writer.drain()
            except ConnectionError:
                return
            finally:
                self.held[task].discard(writer)
                writer.close()

        families = (socket.AF_INET, socket.AF_INET6) if self.dual else (socket.AF_INET,)
        for family in families:
            listening = in_namespace(self.paths[task], partial(listen, family))
            self.servers.append(await asyncio.start_server(answer, sock=listening))
            datagrams = in_namespace(self.paths[task], partial(unconnected, family))
            asyncio.get_running_loop().add_reader(datagrams, echo, task, datagrams)
            self._datagrams.append(datagrams)

    _datagrams: list[socket.socket] = field(default_factory=list)

    def stop_serving(self) -> None:
        for server in self.servers:
            server.close()
        for opened in self._datagrams:
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        self._datagrams.clear()
        for writers in self.held.values():
            for writer in list(writers):
                writer.close()

    def name(self, n: int) -> str:
        """Id of the n-th task."""
        return f"task{n:02}task00000000000000id"

    async def client(self, machine: Machine, n: int = 90) -> Path:
        """A task in the application network only, that isn't of the service: its namespace."""
        task = self.name(n)
        self.clients[task] = machine
        await self.send()
        await self.attach(task)
        return self.paths[task]

    async def spread_five(self) -> None:
        """Five serving tasks over the three machines."""
        for machine, count, first in zip(self.machines, (2, 2, 1), (1, 3, 5), strict=True):
            await self.run(machine, count, first)
        await self.send()

    async def set_state(self, task: str, state: model.EndpointState) -> None:
        """Says an endpoint's new state to everybody."""
        self.endpoints[task] = state
        await self.send()

    async def remove(self, task: str) -> None:
        """The task is gone: its record, and its namespace."""
        machine = self.placed.pop(task)
        self.endpoints.pop(task)
        await self.send()
        await machine.ask(do="detach", task=task)

    async def run(self, machine: Machine, count: int, first: int) -> None:
        """`count` tasks of the service on a machine, serving."""
        for n in range(first, first + count):
            task = self.name(n)
            self.placed[task] = machine
        await self.send()
        for n in range(first, first + count):
            task = self.name(n)
            await self.attach(task)
            await self.serve(task)
            self.endpoints[task] = model.EndpointState.ENDPOINT_SERVING


def listen(family: int) -> socket.socket:
    return socket.create_server(("", PORT), family=family, backlog=1024)


def unconnected(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("", PORT))
    made.setblocking(False)
    return made


def echo(task: str, datagrams: socket.socket) -> None:
    data, sender = datagrams.recvfrom(2048)
    datagrams.sendto(f"{task} {sender[0]} {data.decode()}".encode(), sender)


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def ping(path: Path, address: str) -> None:
    """One echo request, answered; raises TimeoutError otherwise. A task's namespace lets everybody ping."""

    def once() -> None:
        protocol = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
        with socket.socket(family_of(address), socket.SOCK_DGRAM, protocol) as made:
            made.settimeout(PATIENCE)
            made.sendto((b"\x80" if ":" in address else b"\x08") + b"\0\0\0\0\0\0\x01hello", (address, 0))
            made.recv(100)

    in_namespace(path, once)


async def ask(path: Path, target: tuple[str, int], source: tuple[str, int] = ("", 0)) -> list[str]:
    """One connection from a namespace: the server's first line, as words."""
    reader, writer = await dial(path, target, source)
    try:
        return (await asyncio.wait_for(reader.readline(), PATIENCE)).decode().split()
    finally:
        writer.close()


async def dial(
    path: Path, target: tuple[str, int], source: tuple[str, int] = ("", 0)
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection from a namespace."""
    made = in_namespace(path, lambda: socket.socket(family_of(target[0]), socket.SOCK_STREAM))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setblocking(False)
    try:
        made.bind(source)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(made, target), PATIENCE)
    except (OSError, TimeoutError, asyncio.CancelledError):
        made.close()
        raise
    return await asyncio.open_connection(sock=made)


async def datagram(path: Path, target: tuple[str, int], source: tuple[str, int] = ("", 0)) -> list[str]:
    """One datagram and its answer."""
    made = in_namespace(path, lambda: socket.socket(family_of(target[0]), socket.SOCK_DGRAM))
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        made.bind(source)
        made.connect(target)
        await loop.sock_sendall(made, b"hello")
        return (await asyncio.wait_for(loop.sock_recv(made, 2048), PATIENCE)).decode().split()
    finally:
        made.close()


@asynccontextmanager
async def three_machines(folder: Path) -> AsyncIterator[tuple[Swarm, Path]]:
    """Machines 1 to 3 and the client's namespace, joined by a switch."""
    with _namespaces(folder) as (paths, switch):
        names = [*(f"h{n}" for n in (1, 2, 3)), "client"]
        inside(switch, "ip", "link", "add", "br0", "type", "bridge")
        inside(switch, "ip", "link", "set", "br0", "up")
        addresses = [("10.79.0.11", "fd79::11"), ("10.79.0.12", "fd79::12"), ("10.79.0.13", "fd79::13")]
        for name, (address, six) in zip(names, [*addresses, (CLIENT, CLIENT6)], strict=True):
            target = paths[name]
            inside(switch, "ip", "link", "add", f"p{name}", "type", "veth", "peer", "name", "eth0")
            inside(switch, "ip", "link", "set", "eth0", "netns", str(target))
            inside(switch, "ip", "link", "set", f"p{name}", "master", "br0", "up")
            inside(target, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
            inside(target, "ip", "addr", "add", f"{six}/64", "dev", "eth0", "nodad")
            inside(target, "ip", "link", "set", "eth0", "up")
        machines = [Machine(n, paths[f"h{n}"], folder / f"run{n}") for n in (1, 2, 3)]
        swarm = Swarm(machines, outside=paths["client"])
        try:
            for machine in machines:
                await machine.start()
            yield swarm, paths["client"]
        finally:
            swarm.stop_serving()
            for machine in machines:
                if machine.process is not None and machine.process.returncode is None:
                    await machine.ask(do="teardown")
                    await machine.ask(do="close")
                    assert machine.process.stdin is not None
                    machine.process.stdin.close()
                    await asyncio.wait_for(machine.process.wait(), PATIENCE)


@contextmanager
def _namespaces(folder: Path) -> Iterator[tuple[dict[str, Path], Path]]:
    with (
        namespace(folder / "h1") as h1,
        namespace(folder / "h2") as h2,
        namespace(folder / "h3") as h3,
        namespace(folder / "client") as client,
        namespace(folder / "switch") as switch,
    ):
        yield {"h1": h1, "h2": h2, "h3": h3, "client": client}, switch
