"""Raft.Join and Raft.Leave: who may, what becomes of a member that was there before, one change at a time."""

import asyncio
import itertools

import pytest
from agreement import Agreement, FakeMember, node

from common import errors, model
from common.rpc import Caller
from manager.raft.consensus import NotLeader
from manager.raft_membership import RaftMembership, raft_id
from manager.store import Store

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER


class Clock:
    def now_ns(self) -> int:
        return 5

    def monotonic(self) -> float:
        return 5.0


class Bench:
    def __init__(self, *managers: str, leader: str = "") -> None:
        self.store = Store(Clock())
        self.all = Agreement(self.store)
        self.all.start(*managers)
        self._ids = itertools.count(100)
        self.here = leader or managers[0]
        self.service = RaftMembership(
            self.store,
            FakeMember(self.all, self.here),
            self.here,
            lambda n: (next(self._ids) << 1).to_bytes(n, "big"),
        )

    async def put(self, *nodes: model.Node) -> None:
        await self.store.update(lambda tx: [tx.put(n) for n in nodes])

    async def join(self, node_id: str, addr: str = "10.0.0.9:2377") -> model.RaftJoinReply:
        return await self.service.join(model.RaftJoinRequest(addr), caller(node_id))

    async def leave(self, node_id: str, of: str = "", demote: bool = False) -> None:
        await self.service.leave(model.RaftLeaveRequest(of or node_id, demote), caller(node_id))


def caller(node_id: str) -> Caller:
    return Caller(frozenset({model.Role.ROLE_MANAGER}), node_id)


def test_raft_ids_are_never_zero_and_fit() -> None:
    assert raft_id(lambda n: bytes(n)) == 1
    assert raft_id(lambda n: b"\xff" * n) == 2**63 - 1


async def test_a_manager_joins_as_a_learner_and_learns_who_is_there() -> None:
    bench = Bench("a")
    await bench.put(node("a"), node("b"))
    reply = await bench.join("b")
    assert reply.raft_id == 100
    assert {m.node_id for m in reply.members} == {"a", "b"}
    assert (bench.all.voters(), bench.all.learners()) == (["a"], ["b"])


async def test_who_may_not_join() -> None:
    bench = Bench("a")
    await bench.put(
        node("a"), node("w", WORKER), node("asked", MANAGER, WORKER), node("out", WORKER, MANAGER)
    )
    for name in ("w", "asked", "out", "unknown"):
        with pytest.raises(errors.PermissionDenied, match="is not to be a manager"):
            await bench.join(name)
    with pytest.raises(errors.FailedPrecondition, match="leads the swarm"):
        await bench.join("a")
    await bench.put(node("b"))
    for addr in ("0.0.0.0:2377", "b:2377", "10.0.0.2", "10.0.0.2:0", "[::]:2377"):
        with pytest.raises(errors.InvalidArgument, match="that the others can reach"):
            await bench.join("b", addr)
    assert bench.all.changes == []


async def test_a_manager_that_comes_again_replaces_what_it_was() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    reply = await bench.join("b")
    assert (bench.all.voters(), bench.all.learners()) == (["a", "c"], ["b"])
    assert 2 in bench.all.removed
    again = await bench.join("b")
    assert again.raft_id != reply.raft_id
    assert reply.raft_id in bench.all.removed
    bench.all.switch("c", False)
    bench.all.caught_up("b")
    with pytest.raises(errors.FailedPrecondition, match="loss of quorum"):
        await bench.join("b")


async def test_joins_at_once_come_in_one_after_the_other() -> None:
    bench = Bench("a")
    names = [f"n{i}" for i in range(5)]
    await bench.put(node("a"), *(node(n) for n in names))
    await asyncio.gather(*(bench.join(n) for n in names))
    assert bench.all.learners() == names
    assert bench.all.most_under_way == 1


async def test_a_manager_leaves() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    await bench.leave("b")
    assert bench.all.voters() == ["a", "c"]
    kept = bench.store.view().nodes.get("b")
    assert kept is not None
    assert kept.spec.role is MANAGER
    await bench.leave("b", demote=True)
    kept = bench.store.view().nodes.get("b")
    assert kept is not None
    assert (kept.spec.role, kept.role) == (WORKER, WORKER)
    await bench.leave("b", demote=True)
    assert bench.all.changes == ["remove b"]


async def test_a_manager_leaves_only_for_itself_and_not_below_a_quorum() -> None:
    bench = Bench("a", "b", "c")
    await bench.put(node("a"), node("b"), node("c"))
    with pytest.raises(errors.PermissionDenied, match="only leave for itself"):
        await bench.leave("b", of="c")
    bench.all.switch("c", False)
    with pytest.raises(errors.FailedPrecondition, match="loss of quorum"):
        await bench.leave("b", demote=True)
    kept = bench.store.view().nodes.get("b")
    assert kept is not None
    assert kept.role is MANAGER


async def test_the_leader_hands_on_before_it_leaves() -> None:
    bench = Bench("a", "b")
    await bench.put(node("a"), node("b"))
    with pytest.raises(NotLeader, match="does not have a leader"):
        await bench.leave("a", demote=True)
    assert bench.all.leader_id == "b"
    with pytest.raises(NotLeader, match="does not have a leader"):
        await bench.leave("a", demote=True)
    assert bench.all.voters() == ["a", "b"]


async def test_only_the_leader_answers() -> None:
    bench = Bench("a", "b", leader="b")
    await bench.put(node("a"), node("b"), node("c"))
    with pytest.raises(NotLeader, match="does not have a leader"):
        await bench.join("c")
