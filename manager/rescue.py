"""`swarm init --force-new-cluster`: a swarm that has lost its other managers goes on with this one.

The new state is made from this manager's disk, whether it runs or not, and with all entries of its log: one that this
manager has not heard to be committed may have been acknowledged to somebody. It comes to be in a folder beside the old
one, and counts from the moment that manager.json names it: a crash leaves the old or the new, never a mixture.
Called by local.py in a thread, while no member runs.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from common import model
from common.clock import Clock
from manager import origin
from manager.identity import Folder, Membership
from manager.raft.core.messages import EntryType, HardState
from manager.raft.disk import FileDisk, Loaded
from manager.raft.files import sync_directory
from manager.raft.seal import Damaged, Sealer
from manager.store.store import Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the manager is to be called from now on."""

    raft_id: int
    listen_addr: str
    advertise_addr: str


def rescue(folder: Folder, sealer: Sealer, wanted: Wanted, clock: Clock) -> tuple[Folder, Membership]:
    """Makes the new state and switches over; raises Damaged or OSError, and the old one is untouched then."""
    membership, _, _ = folder.load()
    disk = FileDisk(folder.raft, sealer)
    try:
        loaded = disk.load()
    finally:
        disk.close()
    member = model.RaftMember(wanted.raft_id, membership.node_id, wanted.advertise_addr)
    snapshot = _rescued(folder, loaded, member, clock)
    made = Folder(folder.path, folder.next_raft())
    shutil.rmtree(made.raft, ignore_errors=True)
    write_first(made, sealer, snapshot)
    renewed = replace(
        membership, listen_addr=wanted.listen_addr, advertise_addr=wanted.advertise_addr,
        raft_id=wanted.raft_id, peers=(), raft=made.raft_name,
    )  # fmt: skip
    return folder.write_membership(renewed), membership


def write_first(folder: Folder, sealer: Sealer, snapshot: model.RaftSnapshot) -> None:
    """Makes `snapshot` all that a new folder of log and snapshots holds."""
    disk = FileDisk(folder.raft, sealer)
    try:
        disk.load()
        disk.install(snapshot, HardState(snapshot.term, 0, snapshot.index))
    finally:
        disk.close()
    sync_directory(folder.path)


def take_back(folder: Folder, membership: Membership) -> Folder:
    """Goes back to what `rescue` replaced, where the member could not start with it."""
    return folder.write_membership(membership)


def _rescued(folder: Folder, loaded: Loaded, member: model.RaftMember, clock: Clock) -> model.RaftSnapshot:
    store, term = Store(clock), loaded.state.term
    if loaded.snapshot is not None:
        store.restore(loaded.snapshot.data)
        term = max(term, loaded.snapshot.term)
    for entry in loaded.entries:
        store.apply(entry.index, entry.term, entry.data if entry.type is EntryType.NORMAL else b"")
        term = max(term, entry.term)
    if store.view().nodes.get(member.node_id) is None:
        raise Damaged(f"{folder.raft} holds no state of a swarm that node {member.node_id} belongs to")
    return origin.rescued(store.capture().objects, member, store.view().index, term, clock.now_ns())
