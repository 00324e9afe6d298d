"""Who calls: the certificate says who, the store's role decides, on every call.

`Authorizer` is for the mTLS port, `local` for the unix socket that only this machine's root can open; neither falls
back to the other. Used by member.py and daemon.py with common/rpc.handler.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import grpc.aio

from common import errors, model, pki
from common.rpc import Caller
from manager.ca import authority
from manager.store.store import ChangeSet, Store

_CACHE: Final = 4096
_LOCAL: Final = Caller(frozenset({model.Role.ROLE_LOCAL, model.Role.ROLE_MANAGER}))
_JOINER: Final = frozenset({model.Role.ROLE_JOINER})
_WORKER: Final = frozenset({model.Role.ROLE_WORKER})
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


class Authorizer:
    """Classifies presented certificates (once each) and looks up the caller's node (every time)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers: dict[bytes, pki.Peer | None] = {}
        self._root = model.RootCA()
        self._joins: dict[model.NodeRole, bytes] = {}
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
        root = self._store.view().cluster.root_ca
        if root == self._root:
            return
        self._root, self._joins = root, authority.join_authorities(root)
        self._peers.clear()

    def roots(self) -> bytes:
        """What the TLS handshake trusts: the swarm's root and the CAs that stand for the join tokens (PEM)."""
        return self._root.cert + b"".join(self._joins.values())

    def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        presented = tuple(context.auth_context().get("x509_pem_cert", ()))
        if len(presented) != 1:
            raise errors.Unauthenticated("a certificate of this swarm is needed")
        return self.caller(bytes(presented[0]), peer_address(str(context.peer())))

    def caller(self, leaf: bytes, address: str) -> Caller:
        """The caller with this certificate; raises errors.Unauthenticated for one that is nobody here."""
        peer = self._classified(leaf)
        if peer is None:
            raise errors.Unauthenticated("the certificate is not one of this swarm")
        if peer.join_role is not None:
            return Caller(_JOINER, address=address, join_role=peer.join_role, certificate=leaf)
        view = self._store.view()
        if peer.cluster_id != view.cluster.id:
            raise errors.Unauthenticated("the certificate is of another swarm")
        node = view.nodes.get(peer.node_id)
        if node is None:
            raise errors.Unauthenticated(f"node {peer.node_id} is not part of this swarm (any more)")
        manager = peer.role is model.NodeRole.MANAGER is node.role
        return Caller(_MANAGER if manager else _WORKER, node.id, address, certificate=leaf)

    def _classified(self, leaf: bytes) -> pki.Peer | None:
        if leaf not in self._peers:
            if len(self._peers) >= _CACHE:
                self._peers.clear()
            self._peers[leaf] = pki.classify(leaf, self._root.cert, self._joins)
        return self._peers[leaf]
