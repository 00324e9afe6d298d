"""Which node a machine is in a backup, and what a restored state says: newer than everything, one manager, nothing lost."""

import datetime as dt
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agreement import node
from hypothesis import given
from hypothesis import strategies as st
from power_cut import Cut, cut_after

from agent import fence
from common import errors, model, pki
from manager import backup, identity, origin, restoration
from manager.backup import SealedBy
from manager.ca import authority
from manager.identity import Membership
from manager.raft.disk import FileDisk
from manager.raft.seal import load_key
from manager.store import codec

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
SECOND, MILLISECOND = 1_000_000_000, 1_000_000
NOW = 1_795_227_620 * SECOND
CSR = pki.create_csr(pki.new_key())
REQUEST = model.RestoreRequest(
    advertise_addr="10.9.9.9:2400", csr=CSR, hostname="here", machine="mine", routes=("192.0.2.0/24",)
)


def there(name: str, machine: str, role: model.NodeRole = WORKER) -> model.Node:
    made = node(name, role)
    described = replace(made.description, machine=machine, data_path_addr="10.0.0.1")
    return replace(made, description=described, version=3, status=replace(made.status, addr="10.0.0.1"))


@pytest.mark.parametrize(
    ("machines", "found"),
    [
        ({"a": "mine", "b": "other"}, "a"),
        ({"a": "other", "b": "mine"}, "b"),
        ({"a": "mine", "b": "mine"}, "a"),  # a clone, but this one made the backup
        ({"a": "other", "b": "mine", "c": "mine"}, ""),  # who can tell them apart?
        ({"a": "other"}, ""),
        ({"a": ""}, ""),
    ],
)
def test_which_node_it_is(machines: dict[str, str], found: str) -> None:
    nodes = [there(name, machine) for name, machine in machines.items()]
    own, known = restoration.own_node(nodes, "a", REQUEST, lambda: "new")
    assert (own.id, known) == (found or "new", bool(found))
    assert (own.description.hostname, own.description.routes) == ("here", ("192.0.2.0/24",))
    assert own.description.machine == "mine"
    assert own.certificate_key == pki.public_key_digest(CSR)


def test_a_machine_that_cannot_be_told_is_new() -> None:
    _, known = restoration.own_node([there("a", "")], "a", replace(REQUEST, machine=""), lambda: "new")
    assert not known


def test_an_address_that_nobody_reaches_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument):
        restoration.own_node([], "a", replace(REQUEST, advertise_addr="0.0.0.0:2377"), lambda: "new")


def restored(objects: list[Any], own: model.Node, index: int, term: int, now: int) -> model.RaftSnapshot:
    member = model.RaftMember(77, own.id, REQUEST.advertise_addr)
    return origin.restored(objects, own, member, index, term, now)


def contents(snapshot: model.RaftSnapshot) -> dict[tuple[str, str], Any]:
    return {(type(t).__name__, t.id): t for t in codec.decode_snapshot(snapshot.data)[0]}


def test_a_restored_state() -> None:
    a, b, w = there("a", "mine", MANAGER), there("b", "other", MANAGER), there("w", "third")
    kept = [model.Service(id="s", version=2), model.Task(id="t", version=2, node_id="b"), w]
    objects = [model.Cluster(id="c", version=1, epoch=4), a, b, *kept]
    own, _ = restoration.own_node([a, b, w], "a", REQUEST, lambda: "new")
    snapshot = restored(objects, own, 900, 7, NOW)
    assert snapshot.term == 8
    assert snapshot.conf_state == model.RaftConfState(voters=(77,))
    assert snapshot.members == (model.RaftMember(77, "a", "10.9.9.9:2400"),)
    found = contents(snapshot)
    assert [found[type(t).__name__, t.id] for t in kept] == kept
    assert found["Cluster", "c"].epoch == snapshot.epoch == NOW // MILLISECOND
    assert (found["Node", "b"].role, found["Node", "b"].manager_status) == (WORKER, None)
    mine = found["Node", "a"]
    assert (mine.role, mine.spec.role, mine.manager_status.addr) == (MANAGER, MANAGER, "10.9.9.9:2400")
    assert (mine.status.addr, mine.description.data_path_addr) == ("10.9.9.9", "10.9.9.9")
    assert mine.version == snapshot.index > 900


def test_a_node_that_was_none_before() -> None:
    own, _ = restoration.own_node([], "a", REQUEST, lambda: "new")
    found = contents(restored([model.Cluster(id="c", version=1)], own, 5, 1, NOW))["Node", "new"]
    assert (found.role, found.spec.role, found.status.addr) == (MANAGER, MANAGER, "10.9.9.9")
    assert (found.created_at, found.version > 5) == (NOW, True)


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 1 << 15), st.booleans()), min_size=1, max_size=20)
)
def test_agents_believe_each_restore_after_whatever_came_before(steps: list[tuple[int, int, bool]]) -> None:
    """The same backup again and again, or the same old manager's state forced to go on, with entries in between."""
    cluster, own = model.Cluster(id="c", version=1, epoch=1), there("a", "mine", MANAGER)
    member = model.RaftMember(77, own.id, REQUEST.advertise_addr)
    seen, now = model.Fence("c", 1, 1, 100), NOW
    for seconds, entries, forced in steps:
        now += seconds * SECOND
        if forced:
            snapshot = origin.rescued([cluster, own], member, 100, 1, now)
        else:
            snapshot = restored([cluster, own], own, 100, 1, now)
        epoch = contents(snapshot)["Cluster", "c"].epoch
        offered = model.Fence("c", epoch, snapshot.term, snapshot.index)
        assert fence.refusal(seen, offered) is None
        assert fence.refusal(offered, seen) is not None
        assert offered.index > seen.index
        seen = model.Fence("c", epoch, snapshot.term + 3, snapshot.index + entries)


def test_a_clock_that_is_wrong_still_goes_on() -> None:
    own = there("a", "mine", MANAGER)
    snapshot = restored([model.Cluster(id="c", version=1, epoch=9), own], own, 100, 1, 1)
    assert (snapshot.index, contents(snapshot)["Cluster", "c"].epoch) == (101, 10)


class Clock:
    def now_ns(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 1.0


def backup_file() -> bytes:
    """Of a swarm with one manager, on another machine."""
    root = pki.create_root(dt.datetime.fromtimestamp(NOW / SECOND, dt.UTC))
    secrets = {role: bytes(16) for role in model.NodeRole}
    cluster = model.Cluster(id="c", version=1, epoch=1, root_ca=authority.new_root(root, secrets))
    objects = [cluster, there("a", "other", MANAGER), model.Service(id="s", version=2)]
    voters = model.RaftConfState(voters=(1,))
    data = codec.encode_snapshot(objects, 9, 2)
    content = model.RaftSnapshot(9, 2, voters, (model.RaftMember(1, "a", "x:1"),), (), data).to_bytes()
    return backup.write(content, "c", "a", NOW, 9, SealedBy.NOTHING, "", b"", b"")


def test_a_clock_that_is_behind_the_backup_is_named(tmp_path: Path) -> None:
    class Behind(Clock):
        def now_ns(self) -> int:
            return NOW - 1

    with pytest.raises(
        errors.InvalidArgument, match=r"clock says .*T.*, which is before the backup was made"
    ):
        restoration.make(tmp_path, replace(REQUEST, listen_addr="0.0.0.0:2400"), backup_file(), Behind())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("was", [True, False])
def test_a_crash_at_any_step_leaves_what_was_or_the_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: bool
) -> None:
    """Before each change of the disk in turn; what is found then is whole, and nothing else is left."""
    data, request, seen = backup_file(), replace(REQUEST, listen_addr="0.0.0.0:2400"), set()
    for steps in itertools.count():
        root = tmp_path / str(steps)
        if was:
            old = identity.begin(root)
            old.write(Membership("old", "old", "l", "a"), b"chain", b"key")
            identity.finish(root)
        counted = cut_after(steps)
        with monkeypatch.context() as patch:
            for name in ("rename", "unlink", "write", "pwrite", "mkdir", "rmdir"):
                patch.setattr(os, name, counted(getattr(os, name)))
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, counted(lambda fd: None))
            patch.setattr(Path, "rename", counted(Path.rename))
            try:
                restoration.make(root, request, data, Clock())
                identity.exchange(root)
                identity.keep(root)
            except Cut:
                through = False
            else:
                through = True
        found = identity.current(root)
        seen.add(_state(found))
        assert not root.exists() or {p.name for p in root.iterdir()} == ({"state"} if found else set())
        if through:
            break
        assert steps < 300
    assert seen == {"restored", "old" if was else "none"}


def _state(folder: identity.Folder | None) -> str:
    """Which state it is; it must be one as a whole."""
    if folder is None:
        return "none"
    membership, _, _ = folder.load()
    if membership.node_id == "old":
        return "old"
    disk = FileDisk(folder.raft, load_key(folder.seal))
    loaded = disk.load()
    disk.close()
    assert loaded.snapshot is not None
    assert {m.raft_id for m in loaded.snapshot.members} == {membership.raft_id}
    assert ("Service", "s") in contents(loaded.snapshot)
    return "restored"
