"""Agents and managers together, each machine with both: join, promotion, demotion, leaving and recovery as users see them.

The agents' containers and networks are doubles; sessions, sockets, certificates and files are real.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from manager_swarm import Running, ask, free_port, manager
from managers import DEADLINE

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from test_agent_membership import NodeBench

from agent.engine.backend import InitOptions, JoinOptions, LocalState
from common import errors, model

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER


@dataclass
class Node:
    """One machine."""

    name: str
    running: Running
    bench: NodeBench

    @property
    def addr(self) -> str:
        return self.running.addr

    @property
    def id(self) -> str:
        return self.bench.membership.node_id

    @property
    def manages(self) -> bool:
        return self.bench.membership.membership().manager

    async def init(self) -> None:
        await self.bench.membership.init(InitOptions(self.addr, self.addr))

    async def join(self, through: "Node", role: model.NodeRole) -> None:
        cluster = (await through.bench.membership.control().GetCluster(model.Nothing())).cluster
        tokens = cluster.root_ca.join_tokens
        token = tokens.manager if role is MANAGER else tokens.worker
        await self.bench.membership.join(
            JoinOptions((through.addr,), token, listen_addr=self.addr, advertise_addr=self.addr)
        )

    async def set_role(self, target: "Node", role: model.NodeRole) -> None:
        control = self.running.control
        while True:
            node = (await ask(control.GetNode, model.GetRequest(target.id))).node
            spec = model.NodeSpec(role=role, availability=node.spec.availability)
            try:
                await ask(control.UpdateNode, model.UpdateNodeRequest(node.id, node.version, spec))
            except errors.ShoalError as exc:
                if exc.message != "update out of sequence":
                    raise
            else:
                return

    async def statuses(self) -> dict[str, str]:
        """MANAGER STATUS of `node ls`, by node id."""
        nodes = (await ask(self.running.control.ListNodes, model.ListRequest())).nodes
        return {
            n.id: "LEADER" if n.manager_status.leader else n.manager_status.reachability.name
            for n in nodes
            if n.manager_status is not None
        }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - many things change it
            await asyncio.sleep(0.02)


async def listed(node: Node, *expected: Node) -> None:
    """Waits until one manager leads and the others answer."""
    want = {n.id for n in expected}
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                found = await node.statuses()
            except errors.ShoalError:
                found = {}  # between two leaders
            if set(found) == want and sorted(found.values()) == ["LEADER", *["REACHABLE"] * (len(want) - 1)]:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def node(path: Path, port: int) -> AsyncIterator[Node]:
    async with manager(path, port) as running:
        bench = NodeBench(path)
        bench.membership._manager._path = str(path / "m.sock")
        bench.membership._promotion._back_off = (0.05, 0.2)
        async with asyncio.TaskGroup() as group:
            jobs = [
                group.create_task(w()) for w in (bench.worker.run, bench.applier.run, bench.membership.run)
            ]
            await bench.worker.adopt({})
            try:
                yield Node(path.name, running, bench)
            finally:
                for job in jobs:
                    job.cancel()
        await bench.membership.close()
        bench.database.close()


class Machines:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = {}
        self._stacks: dict[str, AsyncExitStack] = {}

    async def on(self, name: str) -> Node:
        stack = self._stacks[name] = AsyncExitStack()
        port = self._ports.setdefault(name, free_port())
        return await stack.enter_async_context(node(self._path / name, port))

    async def off(self, name: str) -> None:
        await self._stacks.pop(name).aclose()


@asynccontextmanager
async def machines(path: Path) -> AsyncIterator[Machines]:
    made = Machines(path)
    try:
        yield made
    finally:
        for name in list(made._stacks):
            await made.off(name)


async def test_join_promote_demote_and_leave(tmp_path: Path) -> None:
    async with machines(tmp_path) as swarm:
        a, b, c = [await swarm.on(name) for name in "abc"]
        await a.init()
        await b.join(a, MANAGER)
        assert b.manages
        await c.join(b, WORKER)
        assert not c.manages
        await b.set_role(c, MANAGER)
        await until(lambda: c.manages)
        await listed(c, a, b, c)
        # Every agent hears of every manager.
        await until(lambda: all(len(n.bench.membership.membership().managers) == 3 for n in (a, b, c)))
        await until(lambda: any(map(leads, (a, b, c))))
        leader = next(n for n in (a, b, c) if leads(n))
        others = [n for n in (a, b, c) if n is not leader]
        await others[0].set_role(leader, WORKER)
        await until(lambda: not leader.manages)
        assert leader.bench.membership.membership().state is LocalState.ACTIVE
        assert leader.running.daemon.member is None
        await listed(others[0], *others)
        with pytest.raises(errors.Unavailable, match="Removing this node leaves 1 managers out of 2"):
            await others[1].bench.membership.leave(False)
        await others[1].bench.membership.leave(True)
        assert others[1].bench.membership.membership().state is LocalState.INACTIVE
        await listed(others[0], others[0])
        await others[0].set_role(leader, MANAGER)
        await until(lambda: leader.manages)
        await listed(leader, others[0], leader)


def leads(node: Node) -> bool:
    member = node.running.daemon.member
    return member is not None and member.consensus.leader


async def test_a_forced_new_cluster_takes_the_old_managers_in_as_workers(tmp_path: Path) -> None:
    async with machines(tmp_path) as swarm:
        a, b, c = [await swarm.on(name) for name in "abc"]
        await a.init()
        await b.join(a, MANAGER)
        await c.join(a, MANAGER)
        await listed(c, a, b, c)
        ids = (a.id, b.id)
        await swarm.off("a")
        await swarm.off("b")
        with pytest.raises(errors.ShoalError, match="does not have a leader"):
            await c.statuses()
        await c.bench.membership.init(InitOptions(c.addr, "", force_new_cluster=True))
        await listed(c, c)
        a, b = await swarm.on("a"), await swarm.on("b")
        assert (a.id, b.id) == ids
        await until(lambda: not a.manages and not b.manages)
        for machine in (a, b):
            assert machine.bench.membership.membership().state is LocalState.ACTIVE
            await until(lambda m=machine: m.bench.membership.link.connected)  # type: ignore[misc]
            assert not list((machine.running.path / "state").iterdir())
        assert c.running.daemon.member is not None
        assert c.running.daemon.member.store.view().cluster.epoch > 1
        await c.set_role(a, MANAGER)
        await until(lambda: a.manages)
        await listed(a, a, c)


async def test_a_manager_demoted_while_it_was_off(tmp_path: Path) -> None:
    async with machines(tmp_path) as swarm:
        a, b, c = [await swarm.on(name) for name in "abc"]
        await a.init()
        await b.join(a, MANAGER)
        await c.join(a, MANAGER)
        await listed(c, a, b, c)
        await swarm.off("b")
        b_id = b.id
        await a.set_role(b, WORKER)
        await listed(a, a, c)
        b = await swarm.on("b")
        assert b.id == b_id
        await until(lambda: not b.manages)
        await until(lambda: b.bench.membership.link.connected)
        await swarm.off("b")
        await a.set_role(b, MANAGER)
        b = await swarm.on("b")
        await until(lambda: b.manages)
        await listed(b, a, b, c)
