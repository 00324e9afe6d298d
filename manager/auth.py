"""Who calls: the certificate says who, the store's role decides, on every call.

`Authorizer` is for the mTLS port, `local` for the unix socket that only this machine's root can open; neither falls
back to the other. A manager that passes a call on names the first caller, who is then the one that counts. Used by
member.py and daemon.py with common/rpc.handler.

Raft's own messages are the exception (role PEER): a manager's certificate is enough for them. A member that lags behind, or
has only just joined, can't know from its store who has become a manager since; and whoever was one has held the
root's key, so the store would not keep it out anyway. raft/service.py turns away those that were removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote

import grpc.aio
from google.protobuf.message import DecodeError

from common import errors, model, pki
from common.rpc import Caller
from manager.ca import authority
from manager.store.store import ChangeSet, Store

ON_BEHALF: Final = "on-behalf-bin"
"""Metadata of a call that a manager passes on: a ForwardedCaller."""
_CACHE: Final = 4096
_LOCAL: Final = Caller(frozenset({model.Role.ROLE_LOCAL, model.Role.ROLE_MANAGER}))
_JOINER: Final = frozenset({model.Role.ROLE_JOINER})
_WORKER: Final = frozenset({model.Role.ROLE_WORKER})
_RENEWER: Final = frozenset({model.Role.ROLE_RENEWER})
_PEER: Final = frozenset({model.Role.ROLE_PEER})
_MANAGER: Final = frozenset({model.Role.ROLE_WORKER, model.Role.ROLE_MANAGER})


def peer_address(peer: str) -> str:
    """The IP address in gRPC's name of a peer: ipv4:10.0.0.1:4711, ipv6:%5B::1%5D:4711."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    host = unquote(rest).rpartition(":")[0].strip("[]")
    return host.removeprefix("::ffff:")


def local(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    """The caller on the unix socket."""
    if not str(context.peer()).startswith("unix:"):
        raise errors.Unauthenticated("only this machine's root may call here")
    return _LOCAL


def first_caller(caller: Caller) -> model.ForwardedCaller:
    """What a manager that passes a call on tells of its caller."""
    return model.ForwardedCaller(caller.certificate, caller.address)


@dataclass(frozen=True, slots=True)
class _Trust:
    """A root and its join tokens, and what certificates are worth under them: another root knows none of that."""

    cluster_id: str = ""
    root: model.RootCA = field(default_factory=model.RootCA)
    joins: dict[model.NodeRole, bytes] = field(default_factory=dict)
    peers: dict[bytes, pki.Peer | None] = field(default_factory=dict)

    def classified(self, leaf: bytes) -> pki.Peer | None:
        try:
            return self.peers[leaf]
        except KeyError:
            if len(self.peers) >= _CACHE:
                self.peers.clear()
            return self.peers.setdefault(leaf, pki.classify(leaf, self.root.cert, self.joins))


class Authorizer:
    """Classifies presented certificates (once each) and looks up the caller's node (every time).

    Made and closed in the store's loop, called from any thread: what it trusts is replaced as a whole, and of the store
    it only takes one object by its id.
    """

    def __init__(
        self, store: Store, own_chain: bytes = b"", leads: Callable[[], bool] = lambda: True
    ) -> None:
        """`own_chain` is this manager's certificate: what it trusts for as long as its store is still empty. Who does not
        lead may not have heard of a node that has just joined."""
        self._leads = leads
        self._store = store
        self._trust = _own_trust(own_chain) if own_chain else _Trust()
        self._refresh()
        store.subscribe(self._changed)

    def close(self) -> None:
        """Stops following the store."""
        self._store.unsubscribe(self._changed)

    def _changed(self, changes: ChangeSet) -> None:
        if changes.resync or any(isinstance(c.subject, model.Cluster) for c in changes.changes):
            self._refresh()

    def _refresh(self) -> None:
        """A rotated token or root makes every earlier classification void."""
        cluster = self._store.view().cluster
        known = self._trust
        if cluster.id and (cluster.id, cluster.root_ca) != (known.cluster_id, known.root):
            joins = authority.join_authorities(cluster.root_ca)
            self._trust = _Trust(cluster.id, cluster.root_ca, joins)

    def roots(self) -> bytes:
        """What the TLS handshake trusts: the swarm's root and the CAs that stand for the join tokens (PEM)."""
        trust = self._trust
        return trust.root.cert + b"".join(trust.joins.values())

    def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        presented = tuple(context.auth_context().get("x509_pem_cert", ()))
        if len(presented) != 1:
            raise errors.Unauthenticated("a certificate of this swarm is needed")
        caller = self.caller(bytes(presented[0]), peer_address(str(context.peer())))
        for key, value in context.invocation_metadata() or ():
            if key == ON_BEHALF:
                return self._named(caller, value)
        return caller

    def _named(self, passing: Caller, named: str | bytes) -> Caller:
        if model.Role.ROLE_MANAGER not in passing.roles or not isinstance(named, bytes):
            raise errors.PermissionDenied("only a manager calls on behalf of others")
        try:
            first = model.ForwardedCaller.from_bytes(named)
        except DecodeError as exc:
            raise errors.InvalidArgument("the first caller cannot be read") from exc
        if not first.certificate:
            raise errors.Unauthenticated("a certificate of this swarm is needed")
        return self.first(first)

    def first(self, named: model.ForwardedCaller) -> Caller:
        """The first caller of a call that a manager has passed on; raises errors.Unauthenticated."""
        if not named.certificate:
            return replace(_LOCAL, forwarded=True)
        return replace(self.caller(named.certificate, named.address), forwarded=True)

    def caller(self, leaf: bytes, address: str) -> Caller:
        """The caller with this certificate; raises errors.Unauthenticated for one that is nobody here."""
        trust = self._trust
        peer = trust.classified(leaf)
        if peer is None:
            raise errors.Unauthenticated("the certificate is not one of this swarm")
        if peer.join_role is not None:
            return Caller(_JOINER, address=address, join_role=peer.join_role, certificate=leaf)
        if peer.cluster_id != trust.cluster_id:
            raise errors.Unauthenticated("the certificate is of another swarm")
        node = self._store.view().nodes.get(peer.node_id)
        roles = _PEER if peer.role is model.NodeRole.MANAGER else frozenset()
        if node is not None:
            manager = peer.role is model.NodeRole.MANAGER is node.role
            roles |= _MANAGER if manager else _WORKER
        elif not roles:
            kind = errors.Unauthenticated if self._leads() else errors.Unavailable
            raise kind(f"node {peer.node_id} is not part of this swarm (any more)")
        if peer.renewal:
            roles = _RENEWER
        return Caller(roles, peer.node_id, address, certificate=leaf)


def _own_trust(chain: bytes) -> _Trust:
    _, cluster_id, _ = pki.leaf_identity(chain)
    return _Trust(cluster_id, model.RootCA(cert=pki.split_chain(chain)[-1]))
