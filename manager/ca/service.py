"""The CA service: a first certificate for a machine with a join token, and new ones for nodes that have one.

Served on the mTLS port. Who may call what is checked before (common/rpc, manager/auth): here the caller is a joiner
with a valid token of `join_role`, or a node of this swarm.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

from common import errors, model, pki
from common.clock import Clock
from common.rpc import Caller
from manager.ca import authority
from manager.store.store import Store, Transaction
from manager.store.view import ReadView


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
        """Makes the joiner a node of the swarm."""
        if caller.join_role is None:
            raise errors.PermissionDenied("only the holder of a join token joins")
        if caller.join_role is model.NodeRole.MANAGER:
            raise errors.Unimplemented(
                "several managers are not supported yet: join this node with the worker token"
            )
        key = pki.public_key_digest(request.csr)
        node_id, addr = self._new_id(), request.addr or caller.address
        node = model.Node(
            id=node_id,
            spec=model.NodeSpec(role=caller.join_role, availability=request.availability),
            description=model.NodeDescription(hostname=request.hostname, machine=request.machine),
            status=model.NodeStatus(state=model.NodeState.NODE_UNKNOWN, addr=addr),
            role=caller.join_role,
            certificate_key=key,
        )
        await self._store.update(lambda tx: tx.put(node))
        return self._reply(node_id, caller.join_role, request.csr, caller.address)

    async def renew(self, request: model.RenewRequest, caller: Caller) -> model.IssueReply:
        """A new certificate with the names of the one that the caller shows."""
        key = pki.public_key_digest(request.csr)
        node_id, _, role = pki.leaf_identity(caller.certificate)

        def change(tx: Transaction) -> None:
            node = tx.view.nodes.get(node_id)
            if node is None:
                raise errors.NotFound(f"node {node_id} not found")
            if role is model.NodeRole.MANAGER is not node.role:
                raise errors.PermissionDenied(f"node {node_id} is no manager any more")
            tx.put(replace(node, certificate_key=key))

        await self._store.update(change)
        return self._reply(node_id, role, request.csr, caller.address)

    def _reply(self, node_id: str, role: model.NodeRole, csr: bytes, address: str) -> model.IssueReply:
        view = self._store.view()
        cluster = view.cluster
        chain = pki.issue_node(
            authority.root_authority(cluster.root_ca), csr, node_id, role, cluster.id,
            utc(self._clock), expiry(cluster),
        )  # fmt: skip
        return model.IssueReply(node_id, cluster.id, role, chain, address, manager_addresses(view))
