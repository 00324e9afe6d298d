"""manager/renewal.py: a manager's own certificate is renewed in time."""

import datetime as dt
import random
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from long_ago import DAY, LIFE, LONG_AGO, MANAGER, NOW

from common import model, pki
from manager.ca import authority
from manager.elsewhere import Papers
from manager.identity import Folder
from manager.keeper import Keeper, open_private
from manager.raft.seal import Keys, new_keys
from manager.renewal import OwnCertificate
from manager.store.store import Store


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
