"""Certificates that were renewed in time, and those that were not: managers, and nodes that come back after a year."""

import asyncio
import datetime as dt
import random
import secrets
import socket
import ssl
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from managers import DEADLINE, Machine, Machines, local, machines

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))

from manager_swarm import ask

from agent.identity import Identity
from agent.renewal import Renewal
from common import errors, joining, model, pki
from common.model.stubs import ControlStub
from common.pb import backup_pb2, ca_pb2, control_pb2, dispatcher_pb2, local_pb2, raft_pb2
from common.rpc import method_roles
from manager import identity
from manager.ca import authority
from manager.elsewhere import Papers
from manager.identity import Folder
from manager.keeper import Keeper, open_private
from manager.raft.seal import Keys, new_keys
from manager.renewal import OwnCertificate
from manager.store.store import Store

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
LONG_AGO = NOW - 100 * DAY
LIFE = 90 * DAY


# ---- a manager's own certificate


class Hands:
    """A clock that is set by hand."""

    def __init__(self, now: dt.datetime = NOW) -> None:
        self.now = now

    def now_ns(self) -> int:
        return int(self.now.timestamp()) * 10**9

    def monotonic(self) -> float:
        return self.now.timestamp()


def papers_of(
    root: pki.Authority, issued: dt.datetime, node_id: str = "m1", life: dt.timedelta = LIFE
) -> Papers:
    key = pki.new_key()
    chain = pki.issue_node(root, pki.create_csr(key), node_id, MANAGER, "c", issued, life)
    return Papers(pki.key_pem(key), chain)


@dataclass
class Desk:
    """An OwnCertificate and what is around it."""

    certificate: OwnCertificate
    clock: Hands
    folder: Folder
    root: pki.Authority
    store: Store
    keys: Keys

    @property
    def issued(self) -> dt.datetime:
        return pki.validity(self.certificate.papers.chain)[0] + pki.BACKDATE

    def on_disk(self) -> Papers:
        return Papers(self.folder.key.read_bytes(), self.folder.certificate.read_bytes())


async def desk(
    path: Path, papers: Papers | None = None, empty: bool = False, keys: Keys | None = None
) -> Desk:
    keys = keys or new_keys()
    clock = Hands()
    root = pki.create_root(NOW - 1000 * DAY)
    store = Store(clock)

    async def propose(data: bytes) -> int:
        store.apply(store.view().index + 1, 1, data)
        return store.view().index

    store.attach(propose)
    if not empty:
        tokens = {role: secrets.token_bytes(authority.SECRET_BYTES) for role in model.NodeRole}
        cluster = model.Cluster(id="c", root_ca=authority.new_root(root, tokens))
        await store.update(lambda tx: tx.put(cluster))
    folder = Folder(path)
    keeper = Keeper(folder, keys, store, lambda sealer: None)
    given = papers or papers_of(root, NOW)
    made = OwnCertificate(given, folder, store, keeper, clock, random.Random(1))
    return Desk(made, clock, folder, root, store, keys)


async def test_it_is_renewed_in_time(tmp_path: Path) -> None:
    it = await desk(tmp_path)
    before = it.certificate.papers
    it.clock.now = NOW + LIFE * 0.49
    it.certificate.check()
    assert it.certificate.papers is before
    it.clock.now = NOW + LIFE * 0.81
    it.certificate.check()
    assert it.certificate.papers != before
    assert it.issued == it.clock.now
    assert it.on_disk() == it.certificate.papers
    assert pki.leaf_identity(it.certificate.papers.chain) == ("m1", "c", MANAGER)
    await it.store.close()


async def test_its_life_is_what_the_swarm_says(tmp_path: Path) -> None:
    it = await desk(tmp_path)
    hour = model.CAConfig(node_cert_expiry=3600 * 10**9)
    cluster = it.store.view().cluster
    await it.store.update(lambda tx: tx.put(replace(cluster, spec=replace(cluster.spec, ca=hour))))
    it.clock.now = NOW + LIFE
    it.certificate.check()
    assert pki.validity(it.certificate.papers.chain)[1] == it.clock.now + dt.timedelta(hours=1)
    for _ in range(30):  # not over and over, though it was backdated by as much as it lives
        before = it.certificate.papers
        it.certificate.check()
        assert it.certificate.papers is before
        it.clock.now += dt.timedelta(hours=1)
        it.certificate.check()
    await it.store.close()


async def test_it_is_replaced_when_it_is_worth_nothing(tmp_path: Path) -> None:
    it = await desk(tmp_path)
    it.clock.now = NOW + 1000 * DAY  # expired for long
    it.certificate.check()
    assert it.issued == it.clock.now
    it.clock.now = NOW  # the clock was wrong, and is right now
    it.certificate.check()
    assert it.issued == NOW
    stray = Papers(pki.key_pem(pki.new_key()), it.certificate.papers.chain)  # a crash between two files
    it.certificate.papers = stray
    it.certificate.check()
    made = it.certificate.papers
    assert pki.belongs(made.key, made.chain)
    await it.store.close()


async def test_a_locked_managers_new_key_is_sealed(tmp_path: Path) -> None:
    it = await desk(tmp_path, keys=new_keys().locked_by(b"k" * 32, 1))
    it.clock.now = NOW + LIFE
    it.certificate.check()
    written, made = it.on_disk(), it.certificate.papers
    assert b"PRIVATE" not in written.key
    assert Papers(open_private(written.key, it.keys.sealer(), it.folder), written.chain) == made
    await it.store.close()


async def test_without_the_roots_key_nothing_is_replaced(tmp_path: Path) -> None:
    root = pki.create_root(NOW - 1000 * DAY)
    old = papers_of(root, LONG_AGO)
    it = await desk(tmp_path, old, empty=True)
    it.certificate.check()
    assert it.certificate.papers == old
    await it.store.close()


async def test_a_full_disk_does_not_keep_it_from_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = await desk(tmp_path)

    def full(self: Folder, chain: bytes, key: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Folder, "write_certificate", full)
    it.clock.now = NOW + LIFE
    it.certificate.check()
    assert it.issued == it.clock.now
    await it.store.close()


# ---- managers that were off for long


def outdate(machine: Machine, root: model.RootCA) -> None:
    """What a manager that was off since long ago has on its disk."""
    folder = identity.current(machine.running.path / "state")
    assert folder is not None
    known = folder.load()[0]
    key = pki.new_key()
    chain = pki.issue_node(
        authority.root_authority(root),
        pki.create_csr(key),
        known.node_id,
        MANAGER,
        known.cluster_id,
        LONG_AGO,
    )
    folder.write_certificate(chain, pki.key_pem(key))


async def three(swarm: Machines) -> tuple[Machine, Machine, Machine]:
    a, b, c = swarm.all.values()
    await b.join(a)
    await c.join(a)
    for machine in (a, b, c):
        await machine.until(lambda m: len([s for s in m.consensus.members() if s.voter]) == 3)
    return a, b, c


def root_of(machine: Machine) -> model.RootCA:
    root: model.RootCA = machine.member.store.view().cluster.root_ca
    return root


async def works(machine: Machine) -> None:
    """Somebody joins there, which takes a handshake, an agreement and the CA."""
    token = root_of(machine).join_tokens.worker
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await joining.join(machine.addr, token, pki.create_csr(pki.new_key()), "w", "w")
            except errors.ShoalError as exc:
                if "leader" not in exc.message and not isinstance(exc, errors.Unavailable):
                    raise
            else:
                return


async def test_a_manager_alone_comes_back(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        root = root_of(a)
        await swarm.off("a")
        outdate(a, root)
        a = await swarm.on("a")
        assert pki.usable(a.member.papers.chain, NOW)
        await works(a)


async def test_one_of_three_comes_back(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, c = await three(swarm)
        root = root_of(a)
        await swarm.off("c")
        outdate(c, root)
        c = await swarm.on("c")
        index = a.member.store.view().index
        await c.until(lambda m: m.store.view().index >= index and bool(m.consensus.leader_id))
        await works(c)
        assert b.voters() == {a.node_id, b.node_id, c.node_id}


async def test_all_three_come_back_at_once(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        root = root_of((await three(swarm))[0])
        for name in "abc":
            await swarm.off(name)
            outdate(swarm.all[name], root)
        for name in "abc":
            await swarm.on(name)
        await swarm.led()
        for machine in swarm.all.values():
            await works(machine)


async def test_a_crash_between_key_and_certificate_is_no_end(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        await swarm.off("a")
        folder = identity.current(a.running.path / "state")
        assert folder is not None
        folder.key.write_bytes(pki.key_pem(pki.new_key()))
        a = await swarm.on("a")
        await works(a)


def shown_by(machine: Machine, key: Path, chain: Path) -> bytes:
    """The certificate that a manager shows to whoever connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(chain, key)
    with (
        socket.create_connection(("127.0.0.1", machine.running.port)) as raw,
        context.wrap_socket(raw) as made,
    ):
        found = made.getpeercert(binary_form=True)
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found).encode()


async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        a, b, _ = await three(swarm)
        (tmp_path / "key").write_bytes(a.key)
        (tmp_path / "chain").write_bytes(a.certificate)
        before = {m.name: m.member.papers for m in (a, b)}
        for machine in (a, b):
            machine.member._certificate._moment = 0.0
            machine.member._certificate.check()
            assert machine.member.papers != before[machine.name]
            shown = await asyncio.to_thread(shown_by, machine, tmp_path / "key", tmp_path / "chain")
            assert shown.split() == pki.split_chain(machine.member.papers.chain)[0].split()
        await works(b)  # a call that is passed on
        async with b.member.papers.channel(a.addr) as channel:
            await ask(ControlStub(channel).GetCluster, model.Nothing())


# ---- nodes that were off for long


class Worker:
    """A node, as its agent keeps it."""

    def __init__(self, papers: Identity, *addresses: str) -> None:
        self.identity: Identity | None = papers
        self._addresses = addresses
        self.renewal = Renewal(self, back_off=(0.01, 0.1))
        self.kept = asyncio.Event()

    @property
    def papers(self) -> Identity:
        assert self.identity is not None
        return self.identity

    def addresses(self) -> list[str]:
        return list(self._addresses)

    def keep(self, papers: Identity) -> None:
        self.identity = papers
        self.kept.set()

    def copy(self) -> "Worker":
        return Worker(self.papers, *self._addresses)

    def outdate(self, root: model.RootCA, issued: dt.datetime = LONG_AGO) -> None:
        """The certificate was issued then, and has expired by default; all else stays."""
        key = pki.load_key(self.papers.key.encode())
        chain = pki.issue_node(
            authority.root_authority(root), pki.create_csr(key), self.papers.node_id, WORKER,
            self.papers.cluster_id, issued,
        )  # fmt: skip
        self.identity = replace(self.papers, certificate=chain.decode())

    async def comes_back(self, addr: str = "") -> None:
        async with self.renewal.dial(addr or self._addresses[0]):
            assert pki.usable(self.papers.certificate.encode(), NOW)


async def joined(machine: Machine, *addresses: str) -> Worker:
    key = pki.new_key()
    token = root_of(machine).join_tokens.worker
    reply = await joining.join(machine.addr, token, pki.create_csr(key), "w", "w")
    papers = Identity(
        reply.node_id, reply.cluster_id, pki.key_pem(key).decode(), reply.certificate.decode(),
        pki.split_chain(reply.certificate)[-1].decode(), "w", renewal=reply.renewal.decode(),
    )  # fmt: skip
    return Worker(papers, *(addresses or (machine.addr,)))


async def test_an_expired_node_comes_back_by_any_manager(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        for machine in await three(swarm):
            worker = await joined(machine)
            for _ in range(2):  # and again with what it was given
                worker.outdate(root_of(machine))
                await worker.comes_back()


async def test_a_node_renews_in_time_by_any_manager(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        for machine in await three(swarm):
            worker = await joined(machine)
            worker.outdate(root_of(machine), NOW - LIFE * 0.85)
            before = worker.papers
            running = asyncio.create_task(worker.renewal.run())
            async with asyncio.timeout(DEADLINE):
                while worker.papers.renewal == before.renewal:
                    worker.kept.clear()
                    await worker.kept.wait()
            running.cancel()
            stored = machine.node(before.node_id)
            assert worker.papers.key != before.key
            assert stored.certificate_key == pki.certificate_key_digest(worker.papers.certificate.encode())
            assert stored.certificate_number == pki.renewal_number(worker.papers.renewal.encode())


async def test_a_removed_node_does_not(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        worker.outdate(root_of(a))
        await local(a.running.control.RemoveNode, model.RemoveRequest(worker.papers.node_id, force=True))
        with pytest.raises(errors.Unauthenticated, match=r"is not part of this swarm \(any more\)"):
            await worker.comes_back()


def test_nothing_else_is_for_a_node_whose_certificate_has_expired() -> None:
    found = [
        method.full_name
        for module in (backup_pb2, ca_pb2, control_pb2, dispatcher_pb2, local_pb2, raft_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if model.Role.ROLE_RENEWER in method_roles(method)
    ]
    assert found == ["shoal.CA.Renew"]


async def test_a_copy_without_the_newest_key_does_not(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        clone = worker.copy()
        for machine in (worker, clone):
            machine.outdate(root_of(a))
        await worker.comes_back()
        with pytest.raises(errors.PermissionDenied, match="has a newer certificate than this machine"):
            await clone.comes_back()
        worker.outdate(root_of(a))
        await worker.comes_back()  # the refusal has changed nothing


async def test_a_reply_was_lost(tmp_path: Path) -> None:
    """The store knows the key that the node had kept before it asked."""
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        worker.outdate(root_of(a))
        fresh = pki.new_key()
        worker.keep(replace(worker.papers, next_key=pki.key_pem(fresh).decode()))
        other = worker.copy()
        await other.comes_back()  # this one's reply is lost
        await worker.comes_back()
        assert worker.papers.key == pki.key_pem(fresh).decode()


async def test_after_a_restore_a_newer_certificate_counts(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        worker = await joined(a)
        old, then = worker.copy(), a.node(worker.papers.node_id)
        worker.outdate(root_of(a))
        await worker.comes_back()
        worker.outdate(root_of(a))
        await a.member.store.update(lambda tx: tx.put(then))  # as a backup has it
        await worker.comes_back()
        assert a.node(then.id).certificate_number > then.certificate_number
        old.outdate(root_of(a))
        with pytest.raises(errors.PermissionDenied, match="newer certificate"):
            await old.comes_back()


async def test_a_renewed_certificate_lives_as_the_swarm_says(tmp_path: Path) -> None:
    async with machines(tmp_path, "a") as swarm:
        (a,) = swarm.all.values()
        cluster = (await ask(a.running.control.GetCluster, model.Nothing())).cluster
        spec = replace(cluster.spec, ca=replace(cluster.spec.ca, node_cert_expiry=2 * 3600 * 10**9))
        await ask(
            a.running.control.UpdateCluster, model.UpdateClusterRequest(version=cluster.version, spec=spec)
        )
        worker = await joined(a)
        worker.outdate(root_of(a))
        await worker.comes_back()
        start, end = pki.validity(worker.papers.certificate.encode())
        assert end - start == dt.timedelta(hours=2) + pki.BACKDATE


# ---- tokens


async def test_a_rotated_token_is_worth_nothing_at_once_anywhere(tmp_path: Path) -> None:
    async with machines(tmp_path, "a", "b", "c") as swarm:
        found = await three(swarm)
        worker = await joined(found[0])
        asked = next(m for m in found if not m.member.consensus.leader)
        for role in (WORKER, MANAGER):
            cluster = (await ask(asked.running.control.GetCluster, model.Nothing())).cluster
            old = authority.token_for(cluster.root_ca, role)
            await ask(
                asked.running.control.UpdateCluster,
                model.UpdateClusterRequest(
                    version=cluster.version, spec=cluster.spec,
                    rotate_worker_token=role is WORKER, rotate_manager_token=role is MANAGER,
                ),
            )  # fmt: skip
            for machine in found:
                with pytest.raises((errors.InvalidArgument, errors.Unauthenticated)):
                    await joining.join(machine.addr, old, pki.create_csr(pki.new_key()), "w", "w")
        for machine in found:  # members stay, whatever they were let in by
            await works(machine)
            worker.outdate(root_of(machine))
            await worker.comes_back(machine.addr)
