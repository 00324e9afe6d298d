"""--force-new-cluster on disk: everything is kept, one manager is left, and a crash leaves the old state or the new."""

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agreement import node
from power_cut import Cut, cut_after

from common import model, pki
from manager import identity, origin, rescue
from manager.identity import Folder, Membership
from manager.raft import files, members
from manager.raft.core.messages import ConfChangeType, Entry, EntryType, HardState, encode
from manager.raft.disk import FileDisk
from manager.raft.seal import Damaged, create_key, load_key
from manager.store import Store, codec

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
WANTED = rescue.Wanted(77, "0.0.0.0:2400", "10.9.9.9:2400")


class Clock:
    def now_ns(self) -> int:
        return 1000

    def monotonic(self) -> float:
        return 1.0


def managed(name: str, number: int) -> model.Node:
    status = model.ManagerStatus(False, model.Reachability.REACHABLE, f"10.0.0.{number}:2377", number)
    made = replace(node(name, status=status), version=1)
    return replace(
        made,
        status=replace(made.status, addr=f"10.0.0.{number}"),
        description=replace(made.description, data_path_addr=f"10.0.0.{number}"),
    )


def objects() -> list[Any]:
    return [
        model.Cluster(id="c", version=1, epoch=1),
        managed("a", 1),
        managed("b", 2),
        managed("c", 3),
        replace(node("w", WORKER), version=1),
        model.Service(id="s", version=1),
        model.Task(id="t", version=1, node_id="b"),
    ]


def entry(index: int, *changes: codec.Put | codec.Remove) -> Entry:
    return Entry(index, 3, EntryType.NORMAL, codec.encode(changes))


def change(index: int, kind: ConfChangeType, member: model.RaftMember) -> Entry:
    return Entry(index, 3, EntryType.CONF_CHANGE, encode(members.change(kind, member)))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Manager b of three, with a log of which it knows but a part to be committed."""
    made = identity.begin(tmp_path)
    sealer = create_key(made.seal)
    known = tuple(model.RaftMember(i, n, f"10.0.0.{i}:2377") for i, n in enumerate("abc", 1))
    first = origin.first_snapshot(objects(), known[0], 5)
    voters = model.RaftConfState(voters=(1, 2, 3))
    disk = FileDisk(made.raft, sealer)
    disk.load()
    disk.install(replace(first, members=known, conf_state=voters, removed=(9,)), HardState(3, 1, 1))
    more = model.RaftMember(4, "d", "10.0.0.4:2377")
    disk.save(
        HardState(4, 0, 2),
        [
            entry(2, codec.Put(model.Service(id="s2"))),
            Entry(3, 3),
            change(4, ConfChangeType.ADD_LEARNER_NODE, more),
            change(5, ConfChangeType.REMOVE_NODE, known[2]),
            entry(6, codec.Remove(model.Task, "t"), codec.Put(model.Task(id="t2", node_id="w"))),
        ],
    )
    disk.close()
    key = pki.new_key()
    made.write(Membership("b", "c", "0.0.0.0:2377", "10.0.0.2:2377", 2, known), b"chain", pki.key_pem(key))
    return identity.finish(tmp_path)


def store_of(folder: Folder) -> tuple[Store, model.RaftSnapshot, HardState]:
    disk = FileDisk(folder.raft, load_key(folder.seal))
    loaded = disk.load()
    disk.close()
    assert loaded.snapshot is not None
    assert loaded.entries == ()
    store = Store(Clock())
    store.restore(loaded.snapshot.data)
    return store, loaded.snapshot, loaded.state


def test_everything_is_kept_and_one_manager_is_left(folder: Folder, tmp_path: Path) -> None:
    after, before = rescue.rescue(folder, load_key(folder.seal), WANTED, Clock())
    assert before.raft_id == 2
    assert identity.current(tmp_path) == after
    membership = after.load()[0]
    assert membership == Membership("b", "c", "0.0.0.0:2400", "10.9.9.9:2400", 77, (), "raft.1")
    store, snapshot, state = store_of(after)
    assert (snapshot.index, snapshot.term, state) == (7, 5, HardState(5, 0, 7))
    assert snapshot.conf_state == model.RaftConfState(voters=(77,))
    assert snapshot.members == (model.RaftMember(77, "b", "10.9.9.9:2400"),)
    assert (snapshot.epoch, snapshot.removed) == (2, ())
    view = store.view()
    assert view.cluster.epoch == 2
    assert {s.id for s in view.services.all()} == {"s", "s2"}
    assert {t.id for t in view.tasks.all()} == {"t2"}
    shown = {n.id: (n.spec.role, n.role, n.manager_status, n.version) for n in view.nodes.all()}
    status = model.ManagerStatus(False, model.Reachability.REACHABLE, "10.9.9.9:2400", 77)
    assert shown == {
        "a": (WORKER, WORKER, None, 7),
        "b": (MANAGER, MANAGER, status, 7),
        "c": (WORKER, WORKER, None, 7),
        "w": (WORKER, WORKER, None, 1),
    }
    own = view.nodes.get("b")
    assert own is not None
    assert (own.status.addr, own.description.data_path_addr) == ("10.9.9.9", "10.9.9.9")


def test_it_can_be_done_again_and_taken_back(folder: Folder, tmp_path: Path) -> None:
    sealer = load_key(folder.seal)
    once, _ = rescue.rescue(folder, sealer, WANTED, Clock())
    again, before = rescue.rescue(once, sealer, replace(WANTED, raft_id=78), Clock())
    assert again.raft_name == "raft.2"
    store, snapshot, _ = store_of(again)
    assert (store.view().cluster.epoch, snapshot.epoch) == (3, 3)
    back = rescue.take_back(again, before)
    assert back == once
    assert identity.current(tmp_path) == once
    assert {p.name for p in once.path.iterdir() if p.is_dir()} == {"raft.1"}


def test_a_manager_without_state_is_no_help(folder: Folder) -> None:
    shutil.rmtree(folder.raft)
    with pytest.raises(Damaged, match="holds no state of a swarm"):
        rescue.rescue(folder, load_key(folder.seal), WANTED, Clock())
    assert folder.load()[0].raft == "raft"


def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each change of the disk in turn; what is found then is whole."""
    untouched = tmp_path.parent / f"{tmp_path.name}-untouched"
    shutil.copytree(tmp_path, untouched)
    seen = set()
    for steps in itertools.count():
        shutil.rmtree(tmp_path)
        shutil.copytree(untouched, tmp_path)
        counted = cut_after(steps)
        with monkeypatch.context() as patch:
            for name in ("fsync", "fdatasync", "rename", "unlink", "write", "pwrite"):
                patch.setattr(os, name, counted(getattr(os, name)))
            patch.setattr(Path, "rename", counted(Path.rename))
            patch.setattr(files, "sync_directory", counted(files.sync_directory))
            try:
                rescue.rescue(folder, load_key(folder.seal), WANTED, Clock())
            except Cut:
                through = False
            else:
                through = True
        found = identity.current(tmp_path)
        assert found is not None
        membership = found.load()[0]
        seen.add(membership.raft)
        if membership.raft == "raft":
            assert membership.raft_id == 2
            assert {p.name for p in found.path.iterdir() if p.is_dir()} == {"raft"}
            rescue.rescue(found, load_key(found.seal), WANTED, Clock())
        else:
            store, _, _ = store_of(found)
            assert store.view().cluster.epoch == 2
        if through:
            break
        assert steps < 200
    assert seen == {"raft", "raft.1"}


def test_a_membership_survives_its_file(tmp_path: Path) -> None:
    peers = (model.RaftMember(2**62, "n", "10.0.0.1:1"),)
    membership = Membership("a", "b", "c", "d", 5, peers, "raft.3")
    assert Membership.from_json(membership.to_json().decode()) == membership
    bare = Membership.from_json(
        '{"node_id": "a", "cluster_id": "b", "listen_addr": "c", "advertise_addr": "d"}'
    )
    assert (bare.raft_id, bare.peers, bare.raft) == (1, (), "raft")
    with pytest.raises(ValueError, match="no name of a folder"):
        Membership.from_json(replace(membership, raft="../x").to_json().decode())
