"""The roles loop on an agreement in memory: promotion, demotion, the leader's own, failures, reachability."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from agreement import Agreement, FakeMember, node

from common import errors, model
from manager import roles_loop
from manager.store import Store

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER


class Clock:
    def now_ns(self) -> int:
        return 5

    def monotonic(self) -> float:
        return 5.0


class Bench:
    def __init__(self, *managers: str) -> None:
        self.store = Store(Clock())
        self.all = Agreement(self.store)
        self.all.start(*managers)

    async def put(self, *nodes: model.Node) -> None:
        await self.store.update(lambda tx: [tx.put(n) for n in nodes])

    def node(self, node_id: str) -> model.Node:
        found = self.store.view().nodes.get(node_id)
        assert found is not None
        return found

    async def role(self, node_id: str, role: model.NodeRole) -> None:
        known = self.node(node_id)
        await self.put(replace(known, spec=replace(known.spec, role=role)))

    async def until(self, condition: Callable[[], bool]) -> None:
        with self.store.watch() as watch:
            async with asyncio.timeout(30):
                while not condition():
                    await watch.next()

    def shown(self, node_id: str) -> model.Reachability | None:
        status = self.node(node_id).manager_status
        return status.reachability if status else None


@asynccontextmanager
async def leading(bench: Bench, node_id: str) -> AsyncIterator[FakeMember]:
    member = FakeMember(bench.all, node_id)
    task = asyncio.create_task(roles_loop.run(bench.store, member, node_id))
    try:
        yield member
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def test_promotion_and_demotion() -> None:
    bench = Bench("a")
    await bench.put(node("a"), node("b", WORKER))
    async with leading(bench, "a") as a:
        await bench.until(lambda: bench.shown("a") is model.Reachability.REACHABLE)
        await bench.role("b", MANAGER)
        await bench.until(lambda: bench.node("b").role is MANAGER)
        await a.add(model.RaftMember(2, "b", "10.0.0.2:2377"))
        assert bench.shown("b") is None
        bench.all.caught_up("b")
        await bench.until(lambda: bench.shown("b") is model.Reachability.REACHABLE)
        await bench.role("b", WORKER)
        await bench.until(lambda: bench.node("b").role is WORKER)
        assert bench.shown("b") is None
        assert bench.all.voters() == ["a"]


async def test_a_demoted_leader_hands_on_and_the_next_one_takes_it_out() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    async with leading(bench, "a") as a:
        await bench.until(lambda: bench.shown("c") is not None)
        await bench.role("a", WORKER)
        async with asyncio.timeout(30):
            await a.leading(False)
    assert bench.node("a").role is MANAGER
    async with leading(bench, bench.all.leader_id):
        await bench.until(lambda: bench.node("a").role is WORKER)
    assert bench.all.changes == ["transfer to any", "remove a"]


async def test_reachability_follows_the_agreement() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    async with leading(bench, "a"):
        await bench.until(lambda: bench.shown("b") is model.Reachability.REACHABLE)
        bench.all.switch("b", False)
        await bench.until(lambda: bench.shown("b") is model.Reachability.UNREACHABLE)
        bench.all.switch("b", True)
        await bench.until(lambda: bench.shown("b") is model.Reachability.REACHABLE)


async def test_a_removed_node_leaves_the_agreement() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    async with leading(bench, "a") as a:
        await bench.store.update(lambda tx: tx.remove(bench.node("b")))
        async with asyncio.timeout(30):
            while len(a.members()) == 3:
                await a.changed()
    assert bench.all.voters() == ["a", "c"]


async def test_a_demotion_waits_until_a_quorum_would_be_left() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    bench.all.switch("c", False)
    async with leading(bench, "a"):
        await bench.until(lambda: bench.shown("c") is model.Reachability.UNREACHABLE)
        await bench.role("b", WORKER)
        await asyncio.sleep(0)
        assert bench.all.voters() == ["a", "b", "c"]
        bench.all.switch("c", True)
        await bench.until(lambda: bench.node("b").role is WORKER)


async def test_a_step_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles_loop, "RETRY", 0.01)
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c", WORKER, MANAGER))
    failures = [errors.Unavailable("another change is under way"), errors.DeadlineExceeded("no")]
    real = FakeMember.remove

    async def remove(self: FakeMember, node_id: str) -> None:
        if failures:
            raise failures.pop()
        await real(self, node_id)

    monkeypatch.setattr(FakeMember, "remove", remove)
    async with leading(bench, "a"):
        await bench.until(lambda: bench.node("c").role is WORKER)
    assert not failures
