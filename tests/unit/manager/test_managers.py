"""Managers come and go: several whole daemons in this process, with real files, gRPC and certificates."""

import asyncio
import itertools
import random
import shutil
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from manager_swarm import ask, free_port
from managers import Machine, first_ended, local, machines

from common import errors, model
from manager import promotion

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER


def worker(spec: model.NodeSpec) -> model.NodeSpec:
    return replace(spec, role=WORKER)


def as_manager(spec: model.NodeSpec) -> model.NodeSpec:
    return replace(spec, role=MANAGER)


def labelled(spec: model.NodeSpec) -> model.NodeSpec:
    return replace(spec, labels={"written": str(len(spec.labels))})


async def test_managers_join_by_token(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        for machine in (a, b, c):
            await machine.until(lambda m: len([s for s in m.consensus.members() if s.voter]) == 3)
            assert machine.voters() == {a.node_id, b.node_id, c.node_id}
            await machine.shows("a", "b", "c")


async def test_promotion_and_demotion(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        for machine in (b, c):
            await machine.enlist(a, WORKER)
            with pytest.raises(errors.FailedPrecondition, match="is not to be a manager"):
                await machine.promote(a)
        with pytest.raises(errors.FailedPrecondition, match="last manager of the swarm"):
            await a.update(a.node_id, worker)
        for machine in (b, c):
            await a.update(machine.node_id, as_manager)
        await asyncio.gather(b.promote(a), c.promote(a))
        await a.until(lambda _: len(a.shown()) == 3)
        with pytest.raises(errors.FailedPrecondition, match="must be demoted to worker before removal"):
            await ask(c.running.control.RemoveNode, model.RemoveRequest(b.node_id, True))
        await c.update(b.node_id, worker)
        await a.until(lambda _: a.node(b.node_id).role is WORKER)
        await a.until(lambda _: a.voters() == {a.node_id, c.node_id})
        await b.leave(force=True, demoted=True)
        assert b.running.daemon.member is None
        await a.update(b.node_id, as_manager)
        await b.promote(c)
        await c.until(lambda _: set(c.shown()) == {"a", "b", "c"})


async def test_a_demoted_leader_hands_on(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        with pytest.raises(errors.FailedPrecondition, match="it was not demoted"):
            await a.leave(force=True, demoted=True)
        await b.update(a.node_id, worker)
        await b.until(lambda _: b.node(a.node_id).role is WORKER)
        await b.until(lambda _: b.voters() == {b.node_id, c.node_id})
        assert (await swarm.led()) in (b, c)
        await a.leave(force=True, demoted=True)
        await c.update(c.node_id, labelled)


async def test_leaving(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await a.shows("a", "b")
        await b.shows("a", "b")
        with pytest.raises(errors.Unavailable) as refused:
            await b.leave()
        assert refused.value.message == (
            "You are attempting to leave the swarm on a node that is participating as a manager. "
            "Removing this node leaves 1 managers out of 2. Without a Raft quorum your swarm will be "
            "inaccessible. The only way to restore a swarm that has lost consensus is to reinitialize it "
            "with `--force-new-cluster`. Use `--force` to suppress this message."
        )
        await c.join(b)
        await c.shows("a", "b", "c")
        with pytest.raises(errors.Unavailable, match=r"as a manager\. The only way to restore a swarm"):
            await c.leave()
        # The leader too: it hands on first.
        await a.leave(force=True)
        assert a.running.daemon.member is None
        await b.until(lambda _: b.node(a.node_id).spec.role is WORKER)
        await b.until(lambda _: b.voters() == {b.node_id, c.node_id})
        await c.leave(force=True)
        await b.until(lambda _: b.voters() == {b.node_id})
        await b.shows("b")
        await b.update(b.node_id, labelled)
        with pytest.raises(errors.Unavailable, match="Removing the last manager erases all current state"):
            await b.leave()
        await b.leave(force=True)


async def test_a_failed_join_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machines(tmp_path, "a", "b") as swarm:
        a, b = swarm.all.values()
        await b.enlist(a)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", b.running.port))
            taken.listen()
            with pytest.raises(errors.ShoalError, match=f"could not listen on {b.addr}"):
                await b.promote(a)

        async def never(*_: object) -> None:
            await asyncio.Event().wait()

        for limit, name, late, text in (
            ("DEADLINE", "_votes", lambda _: False, f"this manager at {b.addr} did not catch up"),
            ("REACHED", "_agreed", never, f"no other manager reached this one at {b.addr}"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(promotion, limit, 0.0)
                patch.setattr(promotion, name, late)
                with pytest.raises(errors.DeadlineExceeded, match=text):
                    await b.promote(a)
        assert b.running.daemon.member is None
        assert not list((b.running.path / "state").iterdir())
        await a.until(lambda _: a.voters() == {a.node_id} and len(a.member.consensus.members()) == 1)
        await b.promote(a)
        await a.until(lambda _: len(a.shown()) == 2)


async def test_a_join_that_a_crash_cut_off_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of a learner that was taken out meanwhile is on the disk: nobody will ever tell it."""
    async with machines(tmp_path, "a", "b") as swarm:
        a, b = swarm.all.values()
        await b.enlist(a)
        begun = asyncio.Event()

        async def forever(host: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(promotion, "voter", forever)
            joining = asyncio.create_task(b.promote(a))
            await begun.wait()
            await b.until(lambda m: bool(m.consensus.leader_id))
            saved = tmp_path / "saved"
            shutil.copytree(b.running.path / "state", saved)
            joining.cancel()
            await a.until(lambda m: len(m.consensus.members()) == 1)
        await swarm.off("b")
        shutil.copytree(saved, b.running.path / "state", dirs_exist_ok=True)
        await swarm.on("b")
        assert b.member.membership.node_id == b.node_id
        real = promotion.stands

        async def soon(*what: Any) -> bool:
            with monkeypatch.context() as patch:
                patch.setattr(promotion, "REACHED", 1.0)
                return await real(*what)

        monkeypatch.setattr(promotion, "stands", soon)
        await b.promote(a)
        await a.until(lambda _: len(a.shown()) == 2)


async def test_a_dead_manager_is_unreachable_and_can_be_removed(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        await a.shows("a", "b", "c")
        await swarm.off("a")
        leader = await swarm.led()
        await leader.until(lambda _: leader.shown().get("a") == "UNREACHABLE")
        nodes = (await ask(b.running.control.ListNodes, model.ListRequest())).nodes
        assert [n.id for n in nodes if n.manager_status and n.manager_status.leader] == [leader.node_id]
        follower = c if leader is b else b
        with pytest.raises(errors.FailedPrecondition, match="would result in a loss of quorum"):
            await leader.update(follower.node_id, worker)
        await follower.update(a.node_id, worker)
        await follower.until(lambda _: follower.node(a.node_id).role is WORKER)
        await ask(follower.running.control.RemoveNode, model.RemoveRequest(a.node_id, True))
        await follower.until(lambda m: m.store.view().nodes.get(a.node_id) is None)


async def test_a_manager_that_ends_by_itself_lets_go_of_its_port(tmp_path: Path) -> None:
    """Also when it is ended once more while it is ending."""
    async with machines(tmp_path, "a", "b") as swarm:
        a, b = swarm.all.values()
        await b.join(a)
        life = b.running.daemon._running
        assert life is not None
        closing = asyncio.Event()
        real = b.member.store.close

        async def close() -> None:
            closing.set()
            await asyncio.sleep(0.05)
            await real()

        b.member.store.close = close  # type: ignore[method-assign]
        life.cancel()
        await closing.wait()
        life.cancel()
        await asyncio.wait([life])
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", b.running.port)) != 0
        assert not [t for t in threading.enumerate() if t.name == "raft" and t.is_alive()][1:]


async def force(machine: Machine, **fields: str) -> model.InitReply:
    request = model.InitRequest(force_new_cluster=True, **fields)  # type: ignore[arg-type]
    reply: model.InitReply = await local(machine.running.local.Init, request)
    return reply


async def test_a_forced_new_cluster_and_the_old_managers_afterwards(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        await c.until(lambda _: len(c.shown()) == 3)
        await a.update(c.node_id, labelled)
        await c.until(lambda _: c.node(c.node_id).spec.labels == {"written": "0"})
        await swarm.off("a")
        await swarm.off("b")
        await c.until(lambda m: not m.consensus.leader_id)
        reply = await force(c)
        assert (reply.node_id, reply.advertise_addr) == (c.node_id, c.addr)
        await c.until(lambda m: m.consensus.leader)
        assert c.voters() == {c.node_id}
        assert set(c.shown()) == {"c"}
        view = c.member.store.view()
        assert view.cluster.epoch > 1
        assert {n.description.hostname: n.role for n in view.nodes.all()} == {
            "a": WORKER,
            "b": WORKER,
            "c": MANAGER,
        }
        assert c.node(c.node_id).spec.labels == {"written": "0"}
        await c.update(c.node_id, labelled)
        # Those that are back know nothing of it, until one would lead and is told; nothing comes of it here.
        term = c.member.consensus.term
        back = (await swarm.on("a"), await swarm.on("b"))
        told, other = await first_ended(*back)
        status = await ask(told.running.local.Status, model.StatusRequest())
        assert status.state is model.StatusReplyState.REMOVED
        with pytest.raises(errors.Unavailable, match="this manager was removed from the swarm"):
            await told.update(a.node_id, labelled)
        with pytest.raises(errors.FailedPrecondition, match="is not to be a manager"):
            await told.promote(c)
        with pytest.raises(errors.ShoalError, match=r"does not have a leader|was removed from the swarm"):
            await other.update(a.node_id, labelled)
        await other.leave(force=True, demoted=True)
        for machine in back:
            assert not list((machine.running.path / "state").iterdir())
        await c.update(c.node_id, labelled)
        assert c.member.consensus.term == term
        assert c.voters() == {c.node_id}
        await c.update(a.node_id, as_manager)
        await a.promote(c)
        await c.until(lambda _: set(c.shown()) == {"a", "c"})


async def test_a_forced_new_cluster_at_another_address(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b") as swarm:
        a, b = swarm.all.values()
        await b.join(a)
        await swarm.off("a")
        port = free_port()
        reply = await force(b, listen_addr=f"127.0.0.1:{port}", advertise_addr=f"127.0.0.1:{port}")
        assert (reply.node_id, reply.advertise_addr) == (b.node_id, f"127.0.0.1:{port}")
        await b.until(lambda m: m.consensus.leader and "b" in b.shown())
        assert b.member.port == port
        status = b.node(b.node_id).manager_status
        assert status is not None
        assert status.addr == f"127.0.0.1:{port}"


async def test_what_cannot_be_forced(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b") as swarm:
        a, b = swarm.all.values()
        with pytest.raises(errors.Unavailable, match="This node is not a swarm manager"):
            await force(b)
        with pytest.raises(errors.InvalidArgument, match="advertise address must be a non-zero IP"):
            await force(a, advertise_addr="0.0.0.0:1")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(errors.ShoalError, match="could not listen"):
                await force(a, listen_addr=f"127.0.0.1:{taken.getsockname()[1]}")
        assert a.member.membership.listen_addr == a.addr
        assert a.member.store.view().cluster.epoch == 1
        await force(a)
        await a.until(lambda m: m.consensus.leader)
        assert a.member.store.view().cluster.epoch > 1
        assert a.member.membership.listen_addr == a.addr


async def test_managers_come_and_go_under_writes(tmp_path: Path) -> None:
    """Ten random changes; every acknowledged write is there in the end, on every manager."""
    rng = random.Random(7)
    async with machines(tmp_path, *"abcde") as swarm:
        everyone = list(swarm.all.values())
        for machine in everyone[1:]:
            await machine.enlist(everyone[0], WORKER)
        managers, written, failed = [everyone[0]], set[str](), 0
        done = asyncio.Event()

        async def write() -> None:
            """One after the other; a manager that goes may fail what it had taken, then another one is asked."""
            nonlocal failed
            for number in itertools.count():
                if done.is_set():
                    return
                name = f"n{number}"
                request = model.CreateNetworkRequest(model.NetworkSpec(name=name))
                try:
                    await ask(rng.choice(managers).running.control.CreateNetwork, request)
                except errors.ShoalError:
                    failed += 1
                else:
                    written.add(name)

        async def change() -> None:
            others = [m for m in everyone if m not in managers]
            if len(managers) == 1 or (others and rng.random() < 0.6):
                chosen = rng.choice(others)
                await managers[0].update(chosen.node_id, as_manager)
                await chosen.promote(*managers)
                managers.append(chosen)
                return
            gone = rng.choice(managers)
            left = [m for m in managers if m is not gone]
            await left[0].update(gone.node_id, worker)
            await left[0].until(lambda _: left[0].node(gone.node_id).role is WORKER)
            managers.remove(gone)
            await gone.leave(force=True, demoted=True)

        writing = asyncio.create_task(write())
        try:
            for _ in range(10):
                await change()
                assert not writing.done()
        finally:
            done.set()
        await writing
        assert len(written) > 10
        assert failed <= len(written)
        for machine in managers:
            found = await ask(machine.running.control.ListNetworks, model.ListRequest())
            assert {n.spec.name for n in found.networks} >= written
            await machine.until(lambda _, m=machine: len(m.voters()) == len(managers))  # type: ignore[misc]
        await (await swarm.led()).shows(*(m.name for m in managers))
