"""Who is to be a manager: one step at a time from what the store asks for to what the agreement is. Pure.

The leader's loop (roles_loop.py) takes a step, looks again, and takes the next: so steps are never half done, and a new
leader goes on where the last one stopped. Order: a node's role is raised before its manager may ask to join; a manager
is out of the agreement before its role is lowered; a leader hands leadership on before another one takes it out.
Control uses `demotable` to refuse what could not be done, raft_membership.py `keeps_quorum`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from common import errors, model
from manager.raft.consensus import MemberStatus
from manager.store.view import ReadView

LAST_MANAGER: Final = "attempting to demote the last manager of the swarm"
LOSES_QUORUM: Final = "can't remove member from the raft: this would result in a loss of quorum"


@dataclass(frozen=True, slots=True)
class Write:
    """The node is to be stored like this, as long as it still is `before`."""

    before: model.Node
    after: model.Node
    why: str


@dataclass(frozen=True, slots=True)
class Remove:
    """The member is to leave the agreement."""

    node_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Another manager is to lead; `to` is empty where any will do."""

    to: str
    why: str


Step: TypeAlias = Write | Remove | Transfer


def member_of(members: Iterable[MemberStatus], node_id: str) -> MemberStatus | None:
    """The member that runs on a node."""
    return next((m for m in members if m.member.node_id == node_id), None)


def keeps_quorum(members: Iterable[MemberStatus], gone: Iterable[str]) -> bool:
    """Whether those who answer are a majority of the voters that are left without `gone`."""
    left = _voters(members, gone)
    return sum(m.reachable for m in left) > len(left) // 2


def _voters(members: Iterable[MemberStatus], gone: Iterable[str]) -> list[MemberStatus]:
    without = frozenset(gone)
    return [m for m in members if m.voter and m.member.node_id not in without]


def stays(view: ReadView, member: MemberStatus) -> bool:
    """Whether the store wants this manager."""
    node = view.nodes.get(member.member.node_id)
    return node is not None and node.spec.role is model.NodeRole.MANAGER


def demotable(view: ReadView, members: Sequence[MemberStatus], node_id: str) -> None:
    """Whether this manager can become a worker after all others that are to; raises errors.FailedPrecondition."""
    found = member_of(members, node_id)
    if found is None or not found.voter:
        return
    gone = {m.member.node_id for m in members if not stays(view, m)} | {node_id}
    if not _voters(members, gone):
        raise errors.FailedPrecondition(LAST_MANAGER)
    if not keeps_quorum(members, gone):
        raise errors.FailedPrecondition(LOSES_QUORUM)


def demoted(node: model.Node) -> model.Node:
    """The node as a worker, whatever was asked for."""
    worker = model.NodeRole.WORKER
    return replace(node, spec=replace(node.spec, role=worker), role=worker, manager_status=None)


def plan(view: ReadView, members: Sequence[MemberStatus], own_node_id: str) -> Step | None:
    """The next step, None when all is as it should be or as near to it as can be."""
    for member in sorted(members, key=lambda m: m.member.node_id):
        if (way_out := _out(view, members, member, own_node_id)) is not None:
            return way_out
    for node in sorted(view.nodes.all(), key=lambda n: n.id):
        if (news := _node(node, member_of(members, node.id))) is not None:
            return news
    return None


def _out(
    view: ReadView, members: Sequence[MemberStatus], member: MemberStatus, own_node_id: str
) -> Remove | Transfer | None:
    """The way out of the agreement for a member that the store does not want."""
    node_id = member.member.node_id
    if stays(view, member) or (member.voter and not keeps_quorum(members, (node_id,))):
        return None
    node = view.nodes.get(node_id)
    name = node.description.hostname or node_id if node else node_id
    reason = "is to be a worker" if node else "was removed from the swarm"
    if node_id != own_node_id:
        return Remove(node_id, f"manager {name} {reason}: it leaves the agreement")
    others = _voters(members, (node_id,))
    heirs = sorted(m.member.node_id for m in others if m.reachable and stays(view, m))
    if not heirs:
        return None
    to = "" if len(heirs) == len(others) else heirs[0]
    return Transfer(to, f"manager {name} {reason}: another one is to lead")


def _node(node: model.Node, member: MemberStatus | None) -> Write | None:
    """What is to be written about a node; its place in the agreement is as it should be, or can't be changed now."""
    name, roles = node.description.hostname or node.id, model.NodeRole
    if (
        member is None
        and node.spec.role is roles.WORKER
        and (node.role, node.manager_status)
        != (
            roles.WORKER,
            None,
        )
    ):
        return Write(node, demoted(node), f"node {name} is a worker now")
    if node.spec.role is roles.MANAGER is not node.role:
        return Write(node, replace(node, role=roles.MANAGER), f"node {name} may become a manager")
    wanted = _status(member)
    if wanted == node.manager_status:
        return None
    return Write(node, replace(node, manager_status=wanted), f"manager {name} {_news(node, wanted)}")


def _status(member: MemberStatus | None) -> model.ManagerStatus | None:
    """What the store says of a manager. Who leads is filled in when somebody asks."""
    if member is None or not member.voter:
        return None
    reachability = model.Reachability.REACHABLE if member.reachable else model.Reachability.UNREACHABLE
    return model.ManagerStatus(False, reachability, member.member.addr, member.member.raft_id)


def _news(node: model.Node, wanted: model.ManagerStatus | None) -> str:
    if wanted is None:
        return "has left the agreement"
    if node.manager_status is None or node.manager_status.raft_id != wanted.raft_id:
        return f"takes part, at {wanted.addr}"
    if node.manager_status.addr != wanted.addr:
        return f"is at {wanted.addr} now"
    return "answers" if wanted.reachability is model.Reachability.REACHABLE else "does not answer"
