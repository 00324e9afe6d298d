"""States that no log has led to: a new swarm's, what `--force-new-cluster` makes of what a manager holds, and a backup's.

Each is a snapshot with one manager as the only voter. local.py, rescue.py and restoration.py write them; pure but for
the encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from common import model
from manager import roles
from manager.raft import members as table
from manager.raft.members import Members
from manager.store import codec
from manager.store.view import StoreObject

_SECOND: Final = 1_000_000_000
_PER_SECOND: Final = 1 << 16
"""No swarm ever writes so many entries in a second."""


def first_snapshot(objects: Sequence[StoreObject], member: model.RaftMember, now: int) -> model.RaftSnapshot:
    """The first state of a swarm, at index 1 of term 1, with the manager that was just made."""
    stored = [_written(thing, 1, now) for thing in objects]
    return table.first_snapshot(1, 1, member, codec.encode_snapshot(stored, 1, 1))


def rescued(
    objects: Iterable[StoreObject],
    table_then: Members,
    member: model.RaftMember,
    index: int,
    term: int,
    now: int,
) -> model.RaftSnapshot:
    """All of a swarm's objects with `member` as its only manager; the others are workers. Nobody who was a manager can
    come back as what it was: their ids are among the removed, also the old one of this manager."""
    stored = [_changed(thing, member, 0, index, now) for thing in objects]
    return _alone(stored, table_then, member, index, term)


def restored(
    objects: Iterable[StoreObject],
    table_then: Members,
    own: model.Node,
    member: model.RaftMember,
    index: int,
    term: int,
    now: int,
) -> model.RaftSnapshot:
    """A backup's objects with `member` as the only manager, on the node `own`, which may be new.

    Much may have happened since the backup that nothing here knows of: entries under higher indexes, epochs that were
    raised, another restore of the same file. What begins now must be newer than all of that to whoever saw it. So
    epoch and index go on from the time of the day, which has passed every number that they ever reached this way.
    """
    epoch = now // _SECOND
    index = max(index + 1, epoch * _PER_SECOND)
    others = [t for t in objects if not (isinstance(t, model.Node) and t.id == own.id)]
    stored = [_changed(thing, member, epoch, index, now) for thing in (*others, own)]
    return _alone(stored, table_then, member, index, term + 1)


def _alone(
    stored: Sequence[StoreObject], table_then: Members, member: model.RaftMember, index: int, term: int
) -> model.RaftSnapshot:
    made = table.first_snapshot(index, term, member, codec.encode_snapshot(stored, index, term))
    return replace(made, removed=tuple(sorted(table_then.removed | set(table_then.by_id))))


def _written(thing: StoreObject, index: int, now: int) -> StoreObject:
    whole: Any = thing
    made: StoreObject = replace(whole, version=index, created_at=whole.created_at or now, updated_at=now)
    return made


def _changed(
    thing: StoreObject, member: model.RaftMember, least_epoch: int, index: int, now: int
) -> StoreObject:
    after = thing
    if isinstance(thing, model.Cluster):
        after = replace(thing, epoch=max(thing.epoch + 1, least_epoch))
    elif isinstance(thing, model.Node):
        after = _manager(thing, member) if thing.id == member.node_id else roles.demoted(thing)
    return thing if after == thing and thing.version else _written(after, index, now)


def _manager(node: model.Node, member: model.RaftMember) -> model.Node:
    """The node of the one manager, at the address that it advertises now."""
    host = member.addr.rpartition(":")[0].strip("[]")
    before = (
        node.manager_status.addr.rpartition(":")[0].strip("[]") if node.manager_status else node.status.addr
    )
    description = node.description
    if description.data_path_addr == before:
        description = replace(description, data_path_addr=host)
    manager = model.NodeRole.MANAGER
    return replace(
        node,
        spec=replace(node.spec, role=manager),
        role=manager,
        description=description,
        status=replace(node.status, addr=host),
        manager_status=model.ManagerStatus(False, model.Reachability.REACHABLE, member.addr, member.raft_id),
    )
