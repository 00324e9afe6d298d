"""Raft.Join and Raft.Leave, as the leader answers them: who may take part in the agreement, and from when to when.

raft/service.py serves it. One call at a time: two managers that join at once come in one after the other. What the
store says of the node decides; its certificate only says who calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager import bootstrap, roles
from manager.raft.consensus import NotLeader, Replicated
from manager.store.store import NO_LEADER, Store, Transaction

log = logging.getLogger("membership")

RAFT_ID_BYTES: Final = 8
BAD_ADDRESS: Final = "a manager's address must be an IP address that the others can reach, with a port"


def raft_id(entropy: Callable[[int], bytes]) -> int:
    """An id for a member: random, so that none is ever given twice."""
    return int.from_bytes(entropy(RAFT_ID_BYTES), "big") >> 1 or 1


class RaftMembership:
    """See the module's text."""

    def __init__(
        self, store: Store, consensus: Replicated, own_node_id: str, entropy: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._consensus = consensus
        self._own = own_node_id
        self._entropy = entropy
        self._changing = asyncio.Lock()

    async def join(self, request: model.RaftJoinRequest, caller: Caller) -> model.RaftJoinReply:
        """Makes the caller's manager a learner. What it was before, if anything, is out: it comes with an empty log."""
        bootstrap.routable(request.addr, BAD_ADDRESS)
        async with self._changing:
            self._leads()
            self._may_join(caller.node_id)
            if roles.member_of(self._consensus.members(), caller.node_id) is not None:
                await self._remove(caller.node_id)
            member = model.RaftMember(raft_id(self._entropy), caller.node_id, request.addr)
            await self._consensus.add(member)
            log.info("node %s joins the agreement as %x, at %s", member.node_id, member.raft_id, member.addr)
            known = tuple(m.member for m in self._consensus.members())
            return model.RaftJoinReply(member.raft_id, known)

    def _may_join(self, node_id: str) -> None:
        node, manager = self._store.view().nodes.get(node_id), model.NodeRole.MANAGER
        if node is None or not (node.role is manager is node.spec.role):
            raise errors.PermissionDenied(f"node {node_id} is not to be a manager")
        if node_id == self._own:
            raise errors.FailedPrecondition(f"node {node_id} leads the swarm: it is a manager already")

    async def leave(self, request: model.RaftLeaveRequest, caller: Caller) -> model.RaftTaken:
        """Takes the caller's manager out; with `demote` its node is a worker afterwards. One that is out stays out."""
        node_id = request.node_id or caller.node_id
        if node_id != caller.node_id:
            raise errors.PermissionDenied("a manager can only leave for itself")
        async with self._changing:
            self._leads()
            if roles.member_of(self._consensus.members(), node_id) is not None:
                await self._remove(node_id)
            if request.demote:
                await self._store.update(lambda tx: _demote(tx, node_id))
            log.info("node %s has left the agreement", node_id)
            return model.RaftTaken()

    async def _remove(self, node_id: str) -> None:
        members = self._consensus.members()
        found = roles.member_of(members, node_id)
        if found is not None and found.voter and not roles.keeps_quorum(members, (node_id,)):
            raise errors.FailedPrecondition(roles.LOSES_QUORUM)
        if node_id == self._own:
            await self._consensus.transfer()
            raise NotLeader(NO_LEADER)  # asked again, the next leader does it
        await self._consensus.remove(node_id)

    def _leads(self) -> None:
        if not self._consensus.leader:
            raise NotLeader(NO_LEADER)


def _demote(tx: Transaction, node_id: str) -> None:
    node = tx.view.nodes.get(node_id)
    if node is not None and roles.demoted(node) != node:
        tx.put(roles.demoted(node))
