"""States that no log has led to: a new swarm's, what `--force-new-cluster` makes of what a manager holds, and a backup's.

Each is a snapshot with one manager as the only voter. local.py, rescue.py and restoration.py write them; pure but for
the encoding.

Much may have happened in the swarm that the maker of a state knows nothing of: entries under higher indexes, epochs
that were raised, another restore of the same file, a forced new cluster on another machine. What begins now must be newer
than all of that to whoever saw it. So epoch and index go on from the time of the day, which has passed every number that
they ever reached this way; and all who were managers are out by their lower epoch, whether this state names them or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from common import model
from manager import roles
from manager.raft import members as table
from manager.store import codec
from manager.store.view import StoreObject

_MILLISECOND: Final = 1_000_000
_PER_MILLISECOND: Final = 1 << 6
"""No swarm writes so many entries in a millisecond for long."""


def first_snapshot(objects: Sequence[StoreObject], member: model.RaftMember, now: int) -> model.RaftSnapshot:
    """The first state of a swarm, at index 1 of term 1, with the manager that was just made."""
    stored = [_written(thing, 1, now) for thing in objects]
    return table.first_snapshot(1, 1, member, codec.encode_snapshot(stored, 1, 1), _epoch(objects))


def rescued(
    objects: Iterable[StoreObject], member: model.RaftMember, index: int, term: int, now: int
) -> model.RaftSnapshot:
    """All of a swarm's objects with `member` as its only manager; the others are workers."""
    return _alone(objects, member, index, term, now)


def restored(
    objects: Iterable[StoreObject], own: model.Node, member: model.RaftMember, index: int, term: int, now: int
) -> model.RaftSnapshot:
    """A backup's objects with `member` as the only manager, on the node `own`, which may be new."""
    others = [t for t in objects if not (isinstance(t, model.Node) and t.id == own.id)]
    return _alone((*others, own), member, index, term, now)


def _alone(
    objects: Iterable[StoreObject], member: model.RaftMember, index: int, term: int, now: int
) -> model.RaftSnapshot:
    """What comes after `index`, `term` and the epoch of `objects`, and after all else that there was before `now`."""
    before, age = list(objects), now // _MILLISECOND
    epoch = max(_epoch(before) + 1, age)
    index = max(index + 1, age * _PER_MILLISECOND)
    stored = [_changed(thing, member, epoch, index, now) for thing in before]
    return table.first_snapshot(
        index, term + 1, member, codec.encode_snapshot(stored, index, term + 1), epoch
    )


def _epoch(objects: Iterable[StoreObject]) -> int:
    return next((t.epoch for t in objects if isinstance(t, model.Cluster)), 0)


def _written(thing: StoreObject, index: int, now: int) -> StoreObject:
    whole: Any = thing
    made: StoreObject = replace(whole, version=index, created_at=whole.created_at or now, updated_at=now)
    return made


def _changed(thing: StoreObject, member: model.RaftMember, epoch: int, index: int, now: int) -> StoreObject:
    after = thing
    if isinstance(thing, model.Cluster):
        after = replace(thing, epoch=epoch)
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
