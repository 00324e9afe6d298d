"""Single containers over a runtime, a network and managers that exist only in memory. For tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from agent.network.api import Sandbox
from agent.network.bridges import Local
from agent.runtime.api import ContainerConfig, ContainerEvent, ContainerState, EventKind, ExitStatus, Status
from agent.runtime.image import ImageInfo
from agent.single.containers import Singles
from agent.single.networks import LocalNetworks
from agent.single.record import BRIDGE, Leg, LocalNetwork, SingleRecord
from common import errors

DEFAULT = LocalNetwork(BRIDGE, BRIDGE, 0, "docker0", "172.17.0.0/16", "172.17.0.1")


class Runtime:
    def __init__(self, folder: Path) -> None:
        self.folders = folder
        self.found: dict[str, ContainerState] = {}
        self.events: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        self.addresses: dict[str, tuple[str, ...]] = {}
        self.links: dict[str, tuple[list[str], list[str]]] = {}  # lines of hosts, variables
        self.fail: errors.ShoalError | None = None

    def folder(self, id: str) -> str:
        return str(self.folders / id)

    async def containers(self) -> list[ContainerState]:
        return list(self.found.values())

    async def container(self, id: str) -> ContainerState | None:
        return self.found.get(id)

    async def create(self, config: ContainerConfig) -> None:
        (self.folders / config.id).mkdir()
        self.found[config.id] = ContainerState(
            config.id, config.name, config.image, {}, Status.CREATED, config=config
        )

    async def readdress(self, id: str, addresses: Iterable[str]) -> None:
        self.addresses[id] = tuple(addresses)

    async def relink(self, id: str, hosts: Iterable[str], env: Iterable[str]) -> None:
        self.links[id] = (list(hosts), list(env))

    async def image(self, ref: str) -> ImageInfo | None:
        return None

    async def start_container(self, id: str) -> int:
        if self.fail:
            raise self.fail
        self.found[id] = replace(self.found[id], status=Status.RUNNING, pid=7)
        return 7

    async def rename(self, id: str, name: str) -> None:
        self.found[id] = replace(self.found[id], name=name)

    async def exit(self, id: str, code: int = 0) -> None:
        self.found[id] = replace(self.found[id], status=Status.STOPPED, pid=0, exit=ExitStatus(code))
        await self.events.put(ContainerEvent(EventKind.EXIT, id, 0))

    async def stop(self, id: str, signal: str, grace_s: float | None) -> None:
        await self.exit(id)

    async def kill(self, id: str, signal: str = "SIGKILL") -> None:
        await self.exit(id)

    async def wait(self, id: str) -> None:
        assert self.found[id].status is Status.STOPPED

    async def remove(self, id: str, force: bool = False) -> None:
        self.found.pop(id, None)

    async def watch(self) -> AsyncIterator[ContainerEvent]:
        yield ContainerEvent(EventKind.RESYNC, "", 0)
        while True:
            yield await self.events.get()


class Network:
    """Namespaces by name, and what was said of them."""

    gateway_subnet = "172.18.0.0/16"
    speaks_ipv6 = True

    def __init__(self) -> None:
        self.local: set[str] = set()
        self.wired = Local()
        self.unplugged: list[tuple[str, str, tuple[str, str]]] = []
        self.held: set[tuple[str, int]] = set()  # by others
        self.fail: errors.ShoalError | None = None
        self.stuck: list[Exception] = []  # what the next calls of detach say

    def wire(self, local: Local) -> None:
        self.wired = local

    def next_gateway_address(self) -> str:
        return "172.18.0.2"

    async def routes(self) -> tuple[str, ...]:
        return ("192.0.2.0/24",)

    async def bridge(self) -> None:
        if self.fail:
            raise self.fail

    async def is_foreign(self, interface: str) -> bool:
        return interface == "virbr0"

    async def busy(self, address: str, protocol: str, port: int) -> bool:
        return (protocol, port) in self.held

    async def rewire(self, id: str, unplugged: str = "", way_out: tuple[str, str] = ("", "")) -> None:
        if self.fail:
            raise self.fail
        self.unplugged.append((id, unplugged, way_out))

    async def attach_local(self, id: str) -> Sandbox:
        assert id in self.wired.containers
        self.local.add(id)
        return Sandbox(id, f"/netns/{id}", ())

    async def detach(self, id: str) -> None:
        if self.stuck:
            raise self.stuck.pop()
        self.local.discard(id)


class Attachments:
    def __init__(self) -> None:
        self.number = 0
        self.held: set[str] = set()
        self.names: dict[str, str] = {}  # by place
        self.running: set[str] = set()
        self.fail: errors.ShoalError | None = None

    def keep(self, records: Iterable[SingleRecord]) -> None:
        self.held = {place for record in records for place in record.attachments}

    def renamed(self, record: SingleRecord) -> None:
        self.names.update(dict.fromkeys(record.attachments, record.name))

    def leads_out(self, id: str) -> bool:
        return True

    def addresses(self, id: str) -> tuple[str, ...]:
        return (f"10.0.1.{id.removeprefix('a')}",)

    async def acquire(self, record: SingleRecord, leg: Leg) -> str:
        if self.fail:
            raise self.fail
        self.number += 1
        self.held.add(f"a{self.number}")
        return f"a{self.number}"

    def started(self, id: str, container_id: str, pid: int) -> None:
        self.running.add(id)

    def release(self, id: str) -> None:
        self.held.discard(id)


class Memory:
    def __init__(self) -> None:
        self.rows: dict[str, SingleRecord] = {}
        self.networks = {BRIDGE: DEFAULT}

    async def put_single(self, record: SingleRecord) -> None:
        self.rows[record.container_id] = SingleRecord.from_bytes(record.to_bytes())

    async def drop_single(self, container_id: str) -> None:
        self.rows.pop(container_id, None)

    async def put_network(self, network: LocalNetwork) -> None:
        self.networks[network.id] = LocalNetwork.from_bytes(network.to_bytes())

    async def drop_network(self, network_id: str) -> None:
        self.networks.pop(network_id, None)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.runtime, self.network = Runtime(folder), Network()
        self.attachments, self.memory = Attachments(), Memory()
        self.singles = self.again()

    def again(self) -> Singles:
        """As after a restart of the agent."""
        networks = LocalNetworks(self.memory, self.network, self.memory.networks)
        self.singles = Singles(
            self.runtime, self.network, self.memory, self.attachments, self.memory.rows, networks,  # type: ignore[arg-type]
        )  # fmt: skip
        self.singles.settling.first = 0.001
        return self.singles

    async def create(self, id: str, **record: object) -> str:
        record.setdefault("legs", (Leg(BRIDGE),))
        await self.singles.create(
            ContainerConfig(id, f"name-{id}", "alpine"), SingleRecord(id, f"name-{id}", **record)
        )  # type: ignore[arg-type]
        return id

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.singles.run())
        yield
        task.cancel()
        await asyncio.wait([task])

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - a deadline around it, and nothing to watch
                await asyncio.sleep(0.001)
