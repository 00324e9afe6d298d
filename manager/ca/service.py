"""The CA service: a first certificate for a machine with a join token, and new ones for nodes that have one.

Served on the mTLS port. Who may call what is checked before (common/rpc, manager/auth): here the caller is a joiner
with a valid token of `join_role`, a node of this swarm, or one whose certificate has expired: that one must hold the
newest key that the store knows, or a newer one (docs/decisions/0016).
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
from manager import claims
from manager.ca import authority
from manager.store.store import Store, Transaction
from manager.store.view import ReadView

OUTDATED: Final = (
    "node {} has a newer certificate than this machine: another one, or a copy of its disk, is that node now."
    " To make this one a node of its own: docker swarm leave --force, then docker swarm join"
)
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
        node_id, now = self._new_id(), utc(self._clock)
        addr, hostname = claims.address(request.addr, caller.address), claims.hostname(request.hostname)
        node = model.Node(
            id=node_id,
            spec=model.NodeSpec(role=caller.join_role, availability=request.availability),
            description=model.NodeDescription(hostname=hostname, machine=request.machine),
            status=model.NodeStatus(state=model.NodeState.NODE_UNKNOWN, addr=addr),
            role=model.NodeRole.WORKER,
            certificate_key=key,
            certificate_number=authority.next_number(0, now),
        )
        await self._store.update(lambda tx: tx.put(node))
        reply = self._reply(node_id, model.NodeRole.WORKER, request.csr, caller.address)
        renewal = self._renewal(node_id, request.csr, node.certificate_number)
        return replace(reply, role=caller.join_role, renewal=renewal)

    async def renew(self, request: model.RenewRequest, caller: Caller) -> model.IssueReply:
        """A new certificate for the caller's node: its agent's, or its manager's where the store has it as one."""
        key = pki.public_key_digest(request.csr)
        node_id, now = caller.node_id, utc(self._clock)
        if request.role is model.NodeRole.MANAGER:
            if model.Role.ROLE_WORKER not in caller.roles:
                raise errors.PermissionDenied(
                    "a manager's certificate is not for a node whose own has expired"
                )
            await self._manager(node_id)
            return self._reply(node_id, request.role, request.csr, caller.address)
        number = await self._store.update(lambda tx: _new_key(tx, caller, key, now))
        reply = self._reply(node_id, request.role, request.csr, caller.address)
        return replace(reply, renewal=self._renewal(node_id, request.csr, number))

    async def _manager(self, node_id: str) -> None:
        """Waits until a node that is to be a manager is one; raises errors.FailedPrecondition for any other."""
        with self._store.watch() as watch, suppress(TimeoutError):
            async with asyncio.timeout(PROMOTION):
                while not _is_manager(watch.view, node_id):
                    await watch.next()
                return
        raise errors.DeadlineExceeded(f"node {node_id} was not made a manager within {PROMOTION:.0f} s")

    def _renewal(self, node_id: str, csr: bytes, number: int) -> bytes:
        cluster = self._store.view().cluster
        root = authority.root_authority(cluster.root_ca)
        return pki.issue_renewal(root, csr, node_id, cluster.id, number)

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


def _new_key(tx: Transaction, caller: Caller, key: bytes, now: dt.datetime) -> int:
    """The node's newest certificate is for `key` from here on; answers with its number."""
    node = tx.view.nodes.get(caller.node_id)
    if node is None:
        raise errors.NotFound(f"node {caller.node_id} not found")
    shown = pki.renewal_number(caller.certificate)
    if shown and not _newest(node, caller.certificate, shown, key):
        raise errors.PermissionDenied(OUTDATED.format(node.id))
    number = authority.next_number(max(node.certificate_number, shown), now)
    tx.put(replace(node, certificate_key=key, certificate_number=number))
    return number


def _newest(node: model.Node, shown: bytes, number: int, key: bytes) -> bool:
    """Whether a renewal certificate, or the key in the request that came with it, is what the store knows as the
    node's newest. The request alone proves as much: a reply may have been lost on its way. A certificate that is newer
    still is of the time after the backup that this store came from."""
    known = node.certificate_key
    return known in (key, pki.certificate_key_digest(shown)) or number > node.certificate_number
