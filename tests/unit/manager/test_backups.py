"""Backups of a running swarm, and a manager made from one: everything is there, newer than before, whole or not at all."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from manager_swarm import Running, ask, free_port, manager
from managers import machines

from common import errors, ids, model, pki, rpc
from common.model.stubs import BackupStub
from manager import backup, identity
from manager.backup import SealedBy
from manager.store import codec

WORKER = model.NodeRole.WORKER


async def save(path: Path, passphrase: str = "") -> bytes:
    async with rpc.client(f"unix:{path}") as channel:
        try:
            return b"".join(
                [chunk.data async for chunk in BackupStub(channel).Save(model.BackupRequest(passphrase))]
            )
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc


async def restore(m: Running, data: bytes, **other: Any) -> model.RestoreReply:
    fields: dict[str, Any] = {
        "listen_addr": m.addr,
        "advertise_addr": m.addr,
        "csr": pki.create_csr(pki.new_key()),
        "hostname": "again",
        "machine": "machine-1",
        "routes": ("192.0.2.0/24",),
    }
    first = model.RestoreRequest(**(fields | other))

    async def requests() -> Any:
        yield first
        for start in range(0, len(data), 1000):
            yield model.RestoreRequest(data=data[start : start + 1000])

    async with rpc.client(f"unix:{m.path}/m.sock") as channel:
        try:
            async for reply in BackupStub(channel).Restore(requests()):
                return reply
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
    raise AssertionError("no answer")


def objects_of(data: bytes, key: str = "") -> dict[tuple[str, str], Any]:
    snapshot = model.RaftSnapshot.from_bytes(backup.read(data, key)[1])
    return {(type(t).__name__, t.id): t for t in codec.decode_snapshot(snapshot.data)[0]}


def objects_in(m: Running) -> dict[tuple[str, str], Any]:
    assert m.daemon.member is not None
    return {(type(t).__name__, t.id): t for t in m.daemon.member.store.capture().objects}


def service(name: str) -> model.ServiceSpec:
    return model.ServiceSpec(name=name, task=model.TaskSpec(container=model.ContainerSpec(image="nginx")))


async def write(m: Running, count: int) -> list[str]:
    """So many services; their ids."""
    replies = [
        await ask(m.control.CreateService, model.CreateServiceRequest(service(f"s{i}"))) for i in range(count)
    ]
    return [r.service.id for r in replies]


async def put(m: Running, *things: Any) -> None:
    assert m.daemon.member is not None
    await m.daemon.member.store.update(lambda tx: [tx.put(t) for t in things] and None)


def node(name: str, machine: str, manager_addr: str = "") -> model.Node:
    status = (
        model.ManagerStatus(False, model.Reachability.REACHABLE, manager_addr, 5) if manager_addr else None
    )
    role = model.NodeRole.MANAGER if manager_addr else WORKER
    return model.Node(
        id=ids.new_id(), spec=model.NodeSpec(role=role), role=role, manager_status=status,
        description=model.NodeDescription(hostname=name, machine=machine),
        status=model.NodeStatus(state=model.NodeState.NODE_READY, addr="127.0.0.9"),
    )  # fmt: skip


async def test_everything_comes_back_on_an_empty_machine(tmp_path: Path) -> None:
    port = free_port()
    async with manager(tmp_path / "old", port) as m:
        made = await m.init()
        await m.settled()
        await write(m, 3)
        worker = node("w", "machine-2")
        await put(m, worker, model.Secret(id="secret", spec=model.SecretSpec(name="x", data=b"hush")))
        cluster = await m.cluster()
        data = await save(tmp_path / "old/m.sock")
        await ask(m.local.Leave, model.LeaveRequest(force=True))
    before = objects_of(data)
    assert before["Secret", "secret"].spec.data == b"hush"
    async with manager(tmp_path / "new", port) as m:
        reply = await restore(m, data)
        assert (reply.node_id, reply.cluster_id) == (made.node_id, made.cluster_id)
        assert (reply.known_node, reply.known_addr, reply.managers, reply.workers) == (True, True, (), 1)
        assert reply.advertise_addr == m.addr
        assert pki.leaf_identity(reply.certificate) == (made.node_id, made.cluster_id, WORKER)
        after = await m.cluster()
        assert after.epoch >= int(time.time() - 600) * 1000 > cluster.epoch
        assert after.version > cluster.version + (1 << 40)
        assert after.root_ca == cluster.root_ca
        found = objects_in(m)
        assert found.keys() >= before.keys() - {k for k in before if k[0] == "Task"}
        for key, thing in before.items():
            if key[0] in ("Service", "Network", "Secret") or key[1] == worker.id:
                assert found[key] == thing, key
        own = found["Node", made.node_id]
        assert own.manager_status.addr == m.addr
        assert (own.description.hostname, own.description.routes) == ("again", ("192.0.2.0/24",))
        assert own.certificate_key and own.attachments == before["Node", made.node_id].attachments
        # The swarm goes on, and is there after a restart.
        await ask(m.control.CreateService, model.CreateServiceRequest(service("later")))
        term = m.daemon.member.consensus.term if m.daemon.member else 0
    assert not list((tmp_path / "new/state").glob("state.*"))
    async with manager(tmp_path / "new", port) as m:
        again = await m.cluster()
        assert (again.id, again.epoch) == (made.cluster_id, after.epoch)
        assert "later" in {s.spec.name for s in objects_in(m).values() if isinstance(s, model.Service)}
        assert m.daemon.member is not None
        assert m.daemon.member.consensus.term > term


async def test_a_backup_is_one_moment_of_a_swarm_that_goes_on(tmp_path: Path) -> None:
    """Two configs are always changed together: no backup shows one without the other, nor less than was acknowledged."""
    async with manager(tmp_path) as m:
        await m.init()
        await m.settled()
        assert m.daemon.member is not None
        store = m.daemon.member.store
        a, b = (model.Config(id=i, spec=model.ConfigSpec(name=i, labels={"round": "0"})) for i in "ab")
        await put(m, a, b)
        done = 0

        async def writer() -> None:
            nonlocal done
            while True:
                text = str(done + 1)
                await store.update(
                    lambda tx, text=text: [
                        tx.put(replace(x, spec=replace(x.spec, labels={"round": text}))) for x in (a, b)
                    ]
                )
                done += 1

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(writer())
            for _ in range(20):
                acknowledged = done
                found = objects_of(await save(tmp_path / "m.sock"))
                shown = [int(found["Config", i].spec.labels["round"]) for i in "ab"]
                assert shown[0] == shown[1] >= acknowledged
            task.cancel()
        assert done  # the swarm went on meanwhile


async def test_another_machine_joins_as_a_new_node(tmp_path: Path) -> None:
    async with manager(tmp_path / "old") as m:
        made = await m.init()
        await m.settled()
        others = (node("m2", "machine-2", "127.0.0.9:2377"), node("m3", "machine-3", "127.0.0.8:2377"))
        twins = (node("t1", "twin"), node("t2", "twin"))
        await put(m, *others, *twins, node("w", "worker"))
        data = await save(tmp_path / "old/m.sock")
        async with manager(tmp_path / "new") as n:
            reply = await restore(n, data, machine="machine-new")
            assert reply.node_id not in {i for _, i in objects_of(data)}
            assert (reply.known_node, reply.known_addr) == (False, False)
            assert reply.managers == ("m2", "m3", "manager")
            await n.settled()
            nodes = {k[1]: v for k, v in objects_in(n).items() if k[0] == "Node"}
            managers = [i for i, x in nodes.items() if x.role is model.NodeRole.MANAGER]
            assert managers == [reply.node_id]
            assert all(x.spec.role is WORKER for i, x in nodes.items() if i != reply.node_id)
            assert nodes[made.node_id].manager_status is None
            assert nodes[reply.node_id].number not in {
                x.number for i, x in nodes.items() if i != reply.node_id
            }
        async with manager(tmp_path / "twin") as n:
            assert not (await restore(n, data, machine="twin")).known_node
        async with manager(tmp_path / "worker") as n:
            reply = await restore(n, data, machine="worker")
            assert reply.known_node
            assert objects_of(data)["Node", reply.node_id].description.hostname == "w"


async def test_what_it_is_sealed_by(tmp_path: Path) -> None:
    async with manager(tmp_path / "old") as m:
        await m.init(spec=model.ClusterSpec(encryption=model.EncryptionConfig(True)))
        key = (await ask(m.control.GetCluster, model.Nothing())).unlock_key
        locked = await save(tmp_path / "old/m.sock")
        chosen = await save(tmp_path / "old/m.sock", "pass")
    assert backup.about(locked).sealed is SealedBy.UNLOCK_KEY
    assert backup.about(chosen).sealed is SealedBy.PASSPHRASE
    assert objects_of(chosen, "pass").keys() == objects_of(locked, key).keys()
    for data in (locked, chosen):
        assert b"PRIVATE KEY" not in data
    async with manager(tmp_path / "new") as m:
        for data, said, text in (
            (locked, "", backup.NO_UNLOCK_KEY),
            (locked, "pass", backup.WRONG_UNLOCK_KEY),
            (chosen, key, backup.WRONG_PASSPHRASE),
            (locked[:-1], key, backup.DAMAGED),
            (b"", key, backup.NOT_A_BACKUP),
        ):
            with pytest.raises(errors.InvalidArgument) as caught:
                await restore(m, data, passphrase=said)
            assert caught.value.message == text
            assert not list((tmp_path / "new/state").glob("*"))
        await restore(m, locked, passphrase=key)
        assert (await ask(m.control.GetCluster, model.Nothing())).unlock_key == key
    async with manager(tmp_path / "new") as m:
        assert (await ask(m.local.Status, model.StatusRequest())).state is model.StatusReplyState.LOCKED
        await ask(m.local.Unlock, model.UnlockRequest(key))


async def test_a_manager_is_replaced_by_force_only(tmp_path: Path) -> None:
    async with manager(tmp_path) as m:
        made = await m.init()
        await m.settled()
        data = await save(tmp_path / "m.sock")
        await write(m, 2)
        with pytest.raises(errors.Unavailable, match="already part of a swarm"):
            await restore(m, data)
        assert sum(k[0] == "Service" for k in objects_in(m)) == 2
        reply = await restore(m, data, force=True)
        assert reply.node_id == made.node_id
        assert sum(k[0] == "Service" for k in objects_in(m)) == 0
        first = await m.cluster()
        await m.settled()
        # The same file once more: what begins is newer again.
        await restore(m, data, force=True)
        second = await m.cluster()
        assert (second.epoch, second.version) > (first.epoch, first.version)
        assert second.epoch > first.epoch


async def test_what_cannot_start_leaves_what_was_there(tmp_path: Path) -> None:
    async with manager(tmp_path / "a") as m:
        made = await m.init()
        await m.settled()
        data = await save(tmp_path / "a/m.sock")
        await write(m, 1)
        with pytest.raises(errors.ShoalError, match="could not listen"):
            await restore(m, data, force=True, listen_addr="192.0.2.1:2377")
        assert (await m.cluster()).id == made.cluster_id
        assert sum(k[0] == "Service" for k in objects_in(m)) == 1
        async with manager(tmp_path / "b") as n:
            with pytest.raises(errors.ShoalError, match="could not listen"):
                await restore(n, data, listen_addr="192.0.2.1:2377")
            status = await ask(n.local.Status, model.StatusRequest())
            assert status.state is model.StatusReplyState.INACTIVE
            with pytest.raises(errors.InvalidArgument, match="advertise address must be"):
                await restore(n, data, advertise_addr="0.0.0.0:2377")
    for name, left in (("a", {"state"}), ("b", set())):
        assert {p.name for p in (tmp_path / name / "state").iterdir()} == left


async def test_a_locked_manager_comes_back_open_when_a_restore_fails(tmp_path: Path) -> None:
    locked = model.ClusterSpec(encryption=model.EncryptionConfig(True))
    async with manager(tmp_path / "a") as a, manager(tmp_path / "b") as b:
        await a.init(spec=locked)
        made = await b.init(spec=locked)
        data = await save(tmp_path / "a/m.sock", "phrase")
        with pytest.raises(errors.ShoalError, match="could not listen"):
            await restore(b, data, passphrase="phrase", force=True, listen_addr="192.0.2.1:2377")
        status = await ask(b.local.Status, model.StatusRequest())
        assert (status.state, status.node_id) == (model.StatusReplyState.ACTIVE, made.node_id)


async def test_no_backup_without_a_manager(tmp_path: Path) -> None:
    async with manager(tmp_path):
        with pytest.raises(errors.Unavailable, match="not a swarm manager"):
            await save(tmp_path / "m.sock")


async def test_a_follower_gives_everything_that_was_acknowledged(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        for i in range(20):
            leader = await swarm.led()
            await leader.member.store.update(lambda tx, i=i: tx.put(model.Config(id=f"c{i}")))
            found = objects_of(await save(b.running.path / "m.sock"))
            assert ("Config", f"c{i}") in found
        data = await save(b.running.path / "m.sock")
        assert backup.about(data).node == b.node_id
        snapshot = model.RaftSnapshot.from_bytes(backup.read(data)[1])
        assert {x.node_id for x in snapshot.members} == {a.node_id, b.node_id, c.node_id}
        # At another address: the others never hear of it, and go on; the restored swarm hears nothing of them.
        addr = f"127.0.0.1:{free_port()}"
        reply = await restore(c.running, data, force=True, machine="c", listen_addr=addr, advertise_addr=addr)
        await c.until(lambda m: m.consensus.leader)
        assert [x.member.addr for x in c.member.consensus.members()] == [addr]
        assert (reply.known_node, reply.managers) == (True, ("a", "b"))
        await a.until(lambda m: m.consensus.leader_id in (a.node_id, b.node_id))
        for machine, name in ((a, "after"), (c, "restored")):
            request = model.CreateNetworkRequest(model.NetworkSpec(name=name))
            await ask(machine.running.control.CreateNetwork, request)
        for machine, name in ((a, "restored"), (c, "after")):
            networks = (await ask(machine.running.control.ListNetworks, model.ListRequest())).networks
            assert name not in {n.spec.name for n in networks}


class Stop(BaseException):
    """The power goes."""


def states(root: Path) -> Iterator[str]:
    yield from sorted(p.name for p in root.iterdir())


@pytest.mark.parametrize("there", [True, False])
def test_a_crash_while_states_change_leaves_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    rename = Path.rename
    for steps in range(4):
        root = tmp_path / str(steps)
        if there:
            (identity.begin(root).path / "old").touch()
            identity.finish(root)
        (identity.begin(root).path / "new").touch()
        left = [steps]

        def counted(path: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] < 0:
                raise Stop
            return rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", counted)
            try:
                identity.exchange(root)
                through = True
            except Stop:
                through = False
        found = identity.current(root)
        assert list(states(root)) == (["state"] if there or through else [])
        if found is not None:
            assert list(states(found.path)) == ["new" if through else "old"]
        else:
            assert not through
