"""A manager that is part of a swarm: state loaded, consensus running, the mTLS port open, leading.

daemon.py makes one at start when there is state, and after `swarm init`. `open` fails cleanly; `run` serves until it is
cancelled or its storage fails.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import secrets
from typing import Any, Final

import grpc
import grpc.aio

from common import errors, ids, pki, rpc
from common.clock import Clock
from common.pb import ca_pb2, control_pb2, dispatcher_pb2
from manager.auth import Authorizer
from manager.ca import authority
from manager.ca.service import CertificateAuthority, expiry, utc
from manager.control.service import Control
from manager.identity import Folder, Membership
from manager.leader import Leader
from manager.raft.seal import load_key
from manager.raft.single import SingleNode
from manager.store.store import Store

log = logging.getLogger("manager")

_RENEW_CHECK: Final = 3600.0
_RENEW_AT: Final = 0.6  # of a certificate's life
_GRACE: Final = 1.0


class Member:
    """See the module's text; `control` is also served on the unix socket, by the daemon."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._membership, self._key, self._chain = folder.load()
        self.store: Final = Store(clock)
        self.consensus: Final = SingleNode(folder.raft, load_key(folder.seal), self.store)
        self.control: Final = Control(
            self.store, self.consensus, clock, self._membership.node_id, ids.new_id, secrets.token_bytes
        )
        self._leader = Leader(self.store, clock, lambda: self.consensus.term)
        self._authorize: Authorizer | None = None
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def membership(self) -> Membership:
        """Who this manager is."""
        return self._membership

    async def open(self) -> None:
        """Loads the state and opens the port; raises errors.ShoalError, Damaged or OSError and leaves nothing open."""
        try:
            await self.consensus.start()
            self.store.attach(self.consensus.propose)
            self._authorize = Authorizer(self.store)
            await self._listen()
        except BaseException:
            await self._close()
            raise

    async def _listen(self) -> None:
        authorize = self._authorize
        assert authorize is not None
        server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
        ca = CertificateAuthority(self.store, self._clock, ids.new_id)
        services: tuple[tuple[Any, object], ...] = (
            (ca_pb2.DESCRIPTOR.services_by_name["CA"], ca),
            (control_pb2.DESCRIPTOR.services_by_name["Control"], self.control),
            (dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"], self._leader),
        )
        server.add_generic_rpc_handlers(tuple(rpc.handler(d, i, authorize) for d, i in services))
        credentials = grpc.dynamic_ssl_server_credentials(
            self._tls(), self._tls, require_client_authentication=True
        )
        addr = self._membership.listen_addr
        try:
            self.port = server.add_secure_port(addr, credentials)
        except RuntimeError as exc:
            raise errors.ShoalError(
                f"manager could not listen on {addr}: is another process using this port?"
            ) from exc
        self._server = server
        await server.start()
        log.info("node %s listens on %s", self._membership.node_id, addr)

    def _tls(self) -> grpc.ServerCertificateConfiguration:
        """Key, chain and trusted roots for the next handshake. gRPC asks from a thread of its own."""
        assert self._authorize is not None
        return grpc.ssl_server_certificate_configuration([(self._key, self._chain)], self._authorize.roots())

    async def run(self) -> None:
        """Serves until it is cancelled; raises OSError (in a group) when the storage cannot be trusted any more."""
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.consensus.run(), name="consensus")
                parts.create_task(self._leader.run(), name="leader")
                parts.create_task(self._renew(), name="renewal")
        finally:
            await self._close()

    async def _renew(self) -> None:
        """Gives this manager a new certificate in good time."""
        while True:
            start, end = pki.validity(self._chain)
            if utc(self._clock) >= start + (end - start) * _RENEW_AT:
                self._new_certificate()
            await asyncio.sleep(_RENEW_CHECK)

    def _new_certificate(self) -> None:
        cluster, key = self.store.view().cluster, pki.new_key()
        _, _, role = pki.leaf_identity(self._chain)
        now: dt.datetime = utc(self._clock)
        root = authority.root_authority(cluster.root_ca)
        chain = pki.issue_node(
            root, pki.create_csr(key), self._membership.node_id, role, cluster.id, now, expiry(cluster)
        )
        self._folder.write_certificate(chain, key)
        self._key, self._chain = pki.key_pem(key), chain
        log.info("new certificate, valid until %s", pki.validity(chain)[1])

    async def _close(self) -> None:
        self.store.attach(None)
        if self._server is not None:
            await self._server.stop(_GRACE)
        if self._authorize is not None:
            self._authorize.close()
        await self.store.close()
        await self.consensus.stop()
