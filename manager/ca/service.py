"""The CA service: a first certificate for a machine with a join token, and new ones for nodes that have one.

Served on the mTLS port. Who may call what is checked before (common/rpc, manager/auth): here the caller is a joiner
with a valid token of `join_role`, or a node of this swarm.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from common import errors, model, pki
from common.clock import Clock
from common.rpc import Caller
from manager.ca import authority
from manager.store.store import Store, Transaction
from manager.store.view import ReadView

PROMOTION: Final = 10.0
"""Seconds that a node waits for its role as a manager; then it asks again."""


def manager_addresses(view: ReadView) -> tuple[str, ...]:
    """host:port of every manager."""
    return tuple(
        n.manager_status.addr
        for n in view.nodes.all()
        if n.manager_status is not None and n.manager_status.addr
    )


def expiry(cluster: model.Cluster) -> dt.timedelta:
    """How long a node's certificate lives."""
    nanoseconds = cluster.spec.ca.node_cert_expiry
    return dt.timedelta(microseconds=nanoseconds // 1000) if nanoseconds else pki.DEFAULT_EXPIRY


def utc(clock: Clock) -> dt.datetime:
    """The clock's wall time for certificates."""
    return dt.datetime.fromtimestamp(clock.now_ns() / 1e9, dt.UTC)


class CertificateAuthority:
    """Issue and Renew."""

    def __init__(self, store: Store, clock: Clock, new_id: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id

    async def issue(self, request: model.IssueRequest, caller: Caller) -> model.IssueReply:
        """Makes the joiner a node of the swarm. Its agent's certificate is a worker's, whatever it is to become: a
        manager's goes to the manager process beside it, once the leader has raised the node's role."""
        if caller.join_role is None:
            raise errors.PermissionDenied("only the holder of a join token joins")
        key = pki.public_key_digest(request.csr)
        node_id, addr = self._new_id(), request.addr or caller.address
        node = model.Node(
            id=node_id,
            spec=model.NodeSpec(role=caller.join_role, availability=request.availability),
            description=model.NodeDescription(hostname=request.hostname, machine=request.machine),
            status=model.NodeStatus(state=model.NodeState.NODE_UNKNOWN, addr=addr),
            role=model.NodeRole.WORKER,
            certificate_key=key,
        )
        await self._store.update(lambda tx: tx.put(node))
        reply = self._reply(node_id, model.NodeRole.WORKER, request.csr, caller.address)
        return replace(reply, role=caller.join_role)

    async def renew(self, request: model.RenewRequest, caller: Caller) -> model.IssueReply:
        """A new certificate for the caller's node: its agent's, or its manager's where the store has it as one."""
        key = pki.public_key_digest(request.csr)
        node_id, _, _ = pki.leaf_identity(caller.certificate)
        if request.role is model.NodeRole.MANAGER:
            await self._manager(node_id)
        else:
            await self._store.update(lambda tx: _new_key(tx, node_id, key))
        return self._reply(node_id, request.role, request.csr, caller.address)

    async def _manager(self, node_id: str) -> None:
        """Waits until a node that is to be a manager is one; raises errors.FailedPrecondition for any other."""
        with self._store.watch() as watch, suppress(TimeoutError):
            async with asyncio.timeout(PROMOTION):
                while not _is_manager(watch.view, node_id):
                    await watch.next()
                return
        raise errors.DeadlineExceeded(f"node {node_id} was not made a manager within {PROMOTION:.0f} s")

    def _reply(self, node_id: str, role: model.NodeRole, csr: bytes, address: str) -> model.IssueReply:
        view = self._store.view()
        cluster = view.cluster
        chain = pki.issue_node(
            authority.root_authority(cluster.root_ca), csr, node_id, role, cluster.id,
            utc(self._clock), expiry(cluster),
        )  # fmt: skip
        return model.IssueReply(node_id, cluster.id, role, chain, address, manager_addresses(view))


def _is_manager(view: ReadView, node_id: str) -> bool:
    node, manager = view.nodes.get(node_id), model.NodeRole.MANAGER
    if node is None:
        raise errors.NotFound(f"node {node_id} not found")
    if node.spec.role is not manager:
        raise errors.FailedPrecondition(f"node {node_id} is not to be a manager")
    return node.role is manager


def _new_key(tx: Transaction, node_id: str, key: bytes) -> None:
    node = tx.view.nodes.get(node_id)
    if node is None:
        raise errors.NotFound(f"node {node_id} not found")
    tx.put(replace(node, certificate_key=key))
