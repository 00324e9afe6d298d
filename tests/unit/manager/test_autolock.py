"""Autolock: a manager that restarts needs the swarm's unlock key, and its files tell nothing without it."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from manager_swarm import Running, ask, free_port, manager
from managers import machines

from common import errors, model
from manager import autolock
from manager.raft.core.messages import Message, MessageType
from manager.raft.seal import read_keys

State = model.StatusReplyState
LOCKED = "Swarm is encrypted and needs to be unlocked before it can be used"


def spec(locked: bool) -> model.ClusterSpec:
    return model.ClusterSpec(encryption=model.EncryptionConfig(locked))


async def unlock_key(m: Running) -> str:
    reply: model.ClusterReply = await ask(m.control.GetCluster, model.Nothing())
    return reply.unlock_key


async def update(m: Running, locked: bool, rotate: bool = False) -> str:
    """As `swarm update --autolock` and `unlock-key --rotate`; the key when the files are locked by it."""
    await m.settled()  # the leader writes to the cluster too, for the first networks
    cluster = await m.cluster()
    encryption = model.EncryptionConfig(locked)
    request = model.UpdateClusterRequest(
        spec=replace(cluster.spec, encryption=encryption), version=cluster.version, rotate_unlock_key=rotate
    )
    after = (await ask(m.control.UpdateCluster, request)).cluster
    await kept(m, after.unlock_generation)
    return await unlock_key(m)


async def kept(m: Running, generation: int) -> None:
    """Waits until the files are as the swarm wants them."""
    async with asyncio.timeout(30):
        while True:
            found = read_keys(m.path / "state/state/seal.key")
            sealed = not (m.path / "state/state/manager.key").read_bytes().startswith(b"-----BEGIN")
            if found.generation == generation and len(found.keys) == 1 and sealed == found.locked:
                return
            await asyncio.sleep(0.01)


async def test_a_locked_manager_starts_with_the_key_only(tmp_path: Path) -> None:
    port = free_port()
    async with manager(tmp_path, port) as m:
        made = await m.init(spec=spec(True))
        key = await unlock_key(m)
        assert key.startswith("SWMKEY-1-") and len(key) == 9 + 43
        await m.settled()
        before = await m.cluster()
    async with manager(tmp_path, port) as m:
        status = await ask(m.local.Status, model.StatusRequest())
        assert (status.state, status.error[: len(LOCKED)]) == (State.LOCKED, LOCKED)
        with pytest.raises(errors.Unavailable, match=LOCKED) as refused:
            await ask(m.control.ListNodes, model.ListRequest())
        assert refused.value.described() == refused.value.message
        with pytest.raises(errors.Unavailable, match="already part of a swarm"):
            await m.init()
        with pytest.raises(errors.Unavailable, match="encrypted and locked"):
            await ask(m.local.Leave, model.LeaveRequest())
        with pytest.raises(errors.Unavailable, match=LOCKED):
            await m.init(force_new_cluster=True)
        with pytest.raises(errors.Unauthenticated, match="could not be unlocked: invalid key provided"):
            await ask(m.local.Unlock, model.UnlockRequest(autolock.text(bytes(32))))
        with pytest.raises(errors.InvalidArgument, match="invalid key string"):
            await ask(m.local.Unlock, model.UnlockRequest("nonsense"))
        await ask(m.local.Unlock, model.UnlockRequest(key))
        status = await ask(m.local.Status, model.StatusRequest())
        assert (status.state, status.node_id) == (State.ACTIVE, made.node_id)
        assert (await m.cluster()).root_ca == before.root_ca
        with pytest.raises(errors.Conflict, match="swarm is not locked"):
            await ask(m.local.Unlock, model.UnlockRequest(key))
    async with manager(tmp_path, port) as m:
        await ask(m.local.Leave, model.LeaveRequest(force=True))
        assert (await ask(m.local.Status, model.StatusRequest())).state is State.INACTIVE
        await m.init()


async def test_autolock_on_rotated_and_off(tmp_path: Path) -> None:
    port = free_port()
    async with manager(tmp_path, port) as m:
        await m.init()
        assert await unlock_key(m) == ""
        before = read_keys(tmp_path / "state/state/seal.key")
        first = await update(m, locked=True)
        assert await update(m, locked=True) == first, "no other key without --rotate"
        second = await update(m, locked=True, rotate=True)
        assert second != first
        data = max(read_keys(tmp_path / "state/state/seal.key").keys)
        assert data == max(before.keys) + 2, "each lock has a data key of its own"
        with pytest.raises(errors.Conflict, match="swarm is not locked"):
            await ask(m.local.Unlock, model.UnlockRequest(second))
    async with manager(tmp_path, port) as m:
        with pytest.raises(errors.Unauthenticated, match="invalid key provided"):
            await ask(m.local.Unlock, model.UnlockRequest(first))
        await ask(m.local.Unlock, model.UnlockRequest(second))
        assert await update(m, locked=False, rotate=True) == ""
    async with manager(tmp_path, port) as m:
        assert (await ask(m.local.Status, model.StatusRequest())).state is State.ACTIVE
        again = await update(m, locked=True)
        assert again not in (first, second)


async def test_a_manager_that_was_off_unlocks_with_its_old_key_and_follows(tmp_path: Path) -> None:
    port = free_port()
    files = tmp_path / "state/state"
    async with manager(tmp_path, port) as m:
        await m.init(spec=spec(True))
        old = await unlock_key(m)
        member = m.daemon.member
        assert member is not None
        # What a crash leaves between the agreement on a new key and the first step to it.
        member.keeper._follow = lambda cluster: asyncio.sleep(0)
        cluster = await m.cluster()
        await ask(
            m.control.UpdateCluster,
            model.UpdateClusterRequest(spec=cluster.spec, version=cluster.version, rotate_unlock_key=True),
        )
        new = await unlock_key(m)
        assert new != old
    assert read_keys(files / "seal.key").generation == 1
    async with manager(tmp_path, port) as m:
        with pytest.raises(errors.Unauthenticated):
            await ask(m.local.Unlock, model.UnlockRequest(new))
        await ask(m.local.Unlock, model.UnlockRequest(old))
        await kept(m, 2)
    async with manager(tmp_path, port) as m:
        await ask(m.local.Unlock, model.UnlockRequest(new))


async def test_a_rescue_of_a_locked_swarm(tmp_path: Path) -> None:
    port = free_port()
    async with manager(tmp_path, port) as m:
        await m.init(spec=spec(True))
        key = await update(m, locked=True, rotate=True)
        await ask(m.local.Init, m.request(force_new_cluster=True))
        assert await unlock_key(m) == key
    async with manager(tmp_path, port) as m:
        await ask(m.local.Unlock, model.UnlockRequest(key))
        assert (await m.cluster()).epoch > 1


async def test_a_rescue_after_the_member_has_ended(tmp_path: Path) -> None:
    """The daemon had the key all the time, also one that came after the unlocking: it does not ask for it."""
    async with manager(tmp_path) as m:
        await m.init(spec=spec(True))
        key = await update(m, locked=True, rotate=True)
        assert m.daemon.member is not None
        group = m.daemon.member.consensus
        beyond = Message(MessageType.HEARTBEAT, group.raft_id, 99, group.term + 1, commit=1_000_000)
        group.loop.call(group.runner.step, beyond)
        async with asyncio.timeout(30):
            while m.daemon.member is not None:  # noqa: ASYNC110 - a condition with a deadline
                await asyncio.sleep(0.01)
        await ask(m.local.Init, m.request(force_new_cluster=True))
        assert await unlock_key(m) == key


@pytest.mark.parametrize(
    "said", ["", "SWMKEY-1-", "SWMKEY-1-AAAA", "A" * 43, "SWMKEY-2-" + "A" * 43, "SWMKEY-1-" + "é" * 43]
)
def test_what_is_no_key(said: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid key string"):
        autolock.parse(said)


def test_a_key_is_read_as_it_is_written() -> None:
    key = bytes(range(32))
    assert autolock.parse(autolock.text(key)) == key
    assert autolock.text(b"") == ""


async def test_every_manager_locks_its_own_files(tmp_path: Path) -> None:
    """One of three is off while the key is rotated: it needs the old one, catches up, and needs the new one then."""
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        old = await update(b.running, locked=True)
        for machine in (a, b, c):
            await kept(machine.running, 1)
        await swarm.off("c")
        leader = await swarm.led()
        new = await update(leader.running, locked=True, rotate=True)
        for machine in (a, b):
            await kept(machine.running, 2)
        c = await swarm.on("c")
        assert (await ask(c.running.local.Status, model.StatusRequest())).state is State.LOCKED
        with pytest.raises(errors.Unauthenticated):
            await ask(c.running.local.Unlock, model.UnlockRequest(new))
        await ask(c.running.local.Unlock, model.UnlockRequest(old))
        await kept(c.running, 2)
        await swarm.off("c")
        c = await swarm.on("c")
        await ask(c.running.local.Unlock, model.UnlockRequest(new))
        assert await unlock_key(c.running) == new


async def test_the_key_is_kept_when_the_manager_cannot_start_yet(tmp_path: Path) -> None:
    port = free_port()
    async with manager(tmp_path, port) as m:
        await m.init(spec=spec(True))
        key = await unlock_key(m)
    async with manager(tmp_path, port) as m:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            with pytest.raises(errors.Internal, match="could not listen"):
                await ask(m.local.Unlock, model.UnlockRequest(key))
            status = await ask(m.local.Status, model.StatusRequest())
            assert (status.state, "could not listen" in status.error) == (State.ERROR, True)
        async with asyncio.timeout(30):
            while (await ask(m.local.Status, model.StatusRequest())).state is not State.ACTIVE:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await unlock_key(m) == key
