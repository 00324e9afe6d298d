"""Several whole managers in one process, each with the papers that its agent would hold. For tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from manager_swarm import Running, ask, free_port, manager

from common import errors, joining, model, pki, rpc
from manager.member import Member

DEADLINE = 60


@dataclass
class Machine:
    """A manager's daemon, and what the agent beside it knows."""

    name: str
    running: Running
    key: bytes = b""
    certificate: bytes = b""
    node_id: str = ""
    cluster_id: str = ""
    left: bool = field(default=False)

    @property
    def addr(self) -> str:
        return self.running.addr

    @property
    def member(self) -> Member:
        found = self.running.daemon.member
        assert found is not None, f"{self.name} is no manager"
        return found

    async def init(self) -> None:
        key = pki.new_key()
        reply = await self.running.init(csr=pki.create_csr(key), hostname=self.name)
        self._papers(key, reply)

    async def enlist(self, through: "Machine", role: model.NodeRole = model.NodeRole.MANAGER) -> None:
        """What an agent does for `swarm join`, but for the manager."""
        tokens = through.member.store.view().cluster.root_ca.join_tokens
        token = tokens.manager if role is model.NodeRole.MANAGER else tokens.worker
        key = pki.new_key()
        reply = await joining.join(through.addr, token, pki.create_csr(key), self.name, self.name)
        assert reply.role is role
        self._papers(key, reply)

    def _papers(self, key: pki.Key, reply: Any) -> None:
        self.key, self.certificate = pki.key_pem(key), reply.certificate
        self.node_id, self.cluster_id = reply.node_id, reply.cluster_id

    async def promote(self, *through: "Machine") -> None:
        """What an agent does when its node's role is MANAGER."""
        request = model.JoinRequest(
            self.node_id, self.cluster_id, self.addr, self.addr, tuple(m.addr for m in through),
            self.certificate, self.key,
        )  # fmt: skip
        await local(self.running.local.Join, request)

    async def join(self, through: "Machine") -> None:
        await self.enlist(through)
        await self.promote(through)

    async def leave(self, **how: bool) -> None:
        await local(self.running.local.Leave, model.LeaveRequest(**how))

    async def update(self, target: str, change: Callable[[model.NodeSpec], model.NodeSpec]) -> None:
        """`node update` on this manager, again where somebody else was faster."""
        while True:
            node = (await ask(self.running.control.GetNode, model.GetRequest(target))).node
            request = model.UpdateNodeRequest(node.id, node.version, change(node.spec))
            try:
                await ask(self.running.control.UpdateNode, request)
            except errors.ShoalError as exc:
                if exc.message != "update out of sequence":
                    raise
            else:
                return

    async def until(self, condition: Callable[[Member], bool]) -> None:
        """Waits for something that the store or the agreement shows."""
        member = self.member
        news = asyncio.Event()
        member.store.subscribe(lambda _: news.set())

        async def watch() -> None:
            while True:
                await member.consensus.changed()
                news.set()

        watching = asyncio.create_task(watch())
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition(member):
                    news.clear()
                    await news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: {member.consensus.members()}, {self.shown()}") from None
        finally:
            watching.cancel()

    def shown(self) -> dict[str, str]:
        """MANAGER STATUS by hostname, as this manager's store has it."""
        return {
            n.description.hostname: n.manager_status.reachability.name
            for n in self.member.store.view().nodes.all()
            if n.manager_status is not None
        }

    async def shows(self, *hostnames: str) -> None:
        """Waits until these are the managers, and all of them answer."""
        await self.until(lambda _: self.shown() == dict.fromkeys(hostnames, "REACHABLE"))

    def node(self, node_id: str) -> model.Node:
        """A node as this manager's store has it."""
        found = self.member.store.view().nodes.get(node_id)
        assert found is not None
        return found

    def voters(self) -> set[str]:
        return {m.member.node_id for m in self.member.consensus.members() if m.voter}


async def local(method: Any, request: Any) -> Any:
    """Like `ask`, with the patience that an agent has."""
    try:
        return await method(request, timeout=90)
    except grpc.aio.AioRpcError as exc:
        raise rpc.error_from(exc) from exc


async def first_ended(one: Machine, two: Machine) -> tuple[Machine, Machine]:
    """Waits until one of two managers has learnt that it is one no more: that one, and the other."""
    lives = {m.running.daemon._running: m for m in (one, two)}
    done, _ = await asyncio.wait(lives, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
    told = next(m for life, m in lives.items() if life in done)
    return told, two if told is one else one


@dataclass
class Machines:
    """Machines that can be switched on and off; each keeps its port and its disk."""

    path: Path
    all: dict[str, Machine] = field(default_factory=dict)
    _stacks: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def on(self, name: str) -> Machine:
        stack = AsyncExitStack()
        known = self.all.get(name)
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        port = known.running.port if known else free_port()
        running = await stack.enter_async_context(manager(folder, port))
        self._stacks[name] = stack
        if known is None:
            known = self.all[name] = Machine(name, running)
        known.running = running
        return known

    async def off(self, name: str) -> None:
        await self._stacks.pop(name).aclose()

    async def close(self) -> None:
        for name in list(self._stacks):
            await self.off(name)

    def leader(self) -> Machine:
        """The machine whose manager leads; there must be one."""
        return next(m for n, m in self.all.items() if n in self._stacks and _leads(m))

    async def led(self) -> Machine:
        """Waits for a leader."""
        async with asyncio.timeout(DEADLINE):
            while True:
                running = [m for n, m in self.all.items() if n in self._stacks and m.running.daemon.member]
                for machine in running:
                    if _leads(machine):
                        return machine
                waits = [asyncio.ensure_future(m.member.consensus.changed()) for m in running]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()


def _leads(machine: Machine) -> bool:
    member = machine.running.daemon.member
    return member is not None and member.consensus.leader


@asynccontextmanager
async def machines(path: Path, *names: str) -> AsyncIterator[Machines]:
    """These machines, the first of which has made a swarm."""
    made = Machines(path)
    try:
        for name in names:
            await made.on(name)
        await made.all[names[0]].init()
        yield made
    finally:
        await made.close()
