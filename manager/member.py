"""A manager that is part of a swarm: state loaded, consensus running, the mTLS port open, leading while it is elected.

daemon.py makes one at start when there is state, and after init, join and unlock. `open` fails cleanly; `run` serves until
it is cancelled or its storage fails. The port and Raft have a loop in a thread of their own; the store, and all that
reads and writes it, is in the main loop (docs/consensus.md).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc.aio

from common import errors, ids, model, rpc
from common.clock import Clock
from common.pb import ca_pb2, control_pb2, dispatcher_pb2, raft_pb2
from manager.anywhere import Anywhere, Channels, Own
from manager.auth import Authorizer
from manager.bridge import Bridge
from manager.ca.service import CertificateAuthority
from manager.control.service import Control
from manager.elsewhere import Papers
from manager.handshake import Handshakes, Shown
from manager.identity import Folder, Membership
from manager.keeper import Keeper, open_private
from manager.leader import Leader
from manager.raft.disk import FileDisk
from manager.raft.group import Group
from manager.raft.loop import ThreadLoop
from manager.raft.seal import read_keys, unlock
from manager.raft.service import RaftService
from manager.raft.transport import Peers
from manager.raft_membership import RaftMembership
from manager.renewal import OwnCertificate
from manager.store.store import Store

log = logging.getLogger("manager")

_GRACE: Final = 1.0
_ELECTED: Final = 5.0


class Member:
    """See the module's text; `control` is also served on the unix socket, by the daemon."""

    def __init__(self, folder: Folder, clock: Clock, unlock_key: bytes = b"") -> None:
        self._folder = folder
        self._clock = clock
        keys = unlock(read_keys(folder.seal), unlock_key)
        self._membership, stored, chain = folder.load()
        papers = Papers(open_private(stored, keys.sealer(), folder), chain)
        self._loop = ThreadLoop()
        self._main = asyncio.get_running_loop()
        self._disk = FileDisk(folder.raft, keys.sealer())
        self.store: Final = Store(clock)
        self.keeper: Final = Keeper(folder, keys, self.store, self._disk.rotate)
        self._certificate = OwnCertificate(papers, folder, self.store, self.keeper, clock)
        self.consensus: Final = Group(
            self._membership.raft_id,
            self._disk,
            self.store,
            self._transport,
            self._loop,
            self._membership.peers,
        )
        self._leader = Leader(self.store, clock, self.consensus, self._membership.node_id)
        self._bridges: list[Bridge] = []
        self._authorize: Authorizer | None = None
        self._anywhere: Anywhere | None = None
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def membership(self) -> Membership:
        """Who this manager is."""
        return self._membership

    @property
    def control(self) -> Any:
        """The Control service, here or at the leader."""
        assert self._anywhere is not None, "open was not called"
        return self._anywhere.control

    @property
    def papers(self) -> Papers:
        """What it shows to other managers."""
        return self._certificate.papers

    async def open(self) -> None:
        """Loads the state and opens the port; raises errors.ShoalError, Damaged or OSError and leaves nothing open."""
        self._loop.start()
        try:
            await self.consensus.start()
            self._certificate.check()
            self.store.attach(self.consensus.propose)
            self._authorize = Authorizer(self.store, self.papers.chain, lambda: self.consensus.leader)
            self._anywhere = self._serves(self._authorize)
            await self._loop.run(self._listen())
        except BaseException:
            await _to_the_end(self._close())
            raise

    def _serves(self, authorize: Authorizer) -> Anywhere:
        node_id, store, consensus = self._membership.node_id, self.store, self.consensus
        own = Own(
            Control(store, consensus, self._clock, node_id, ids.new_id, secrets.token_bytes),
            CertificateAuthority(store, self._clock, ids.new_id),
            RaftMembership(store, consensus, node_id, secrets.token_bytes),
            self._leader,
        )
        channels = Channels(self._where, lambda: self.papers)
        return Anywhere(own, store, consensus, node_id, authorize.first, channels)

    def _where(self, node_id: str) -> Sequence[str]:
        """The addresses of a manager."""
        found = (s.member for s in self.consensus.members() if s.member.node_id == node_id)
        return next((self._addresses(member) for member in found), ())

    # ---- the way to other managers, in Raft's loop

    def _transport(self, group: Group) -> Peers:
        return Peers(group.raft_id, self._dial, self._addresses, lambda: group.runner, self._disk.snapshot)

    @asynccontextmanager
    async def _dial(self, addr: str) -> AsyncIterator[grpc.aio.Channel]:
        async with self.papers.channel(addr) as channel:
            yield channel

    def _addresses(self, member: model.RaftMember) -> Sequence[str]:
        """Where a manager may be: what it joined with, what the store says, where its node was seen last."""
        node = self.store.view().nodes.get(member.node_id)
        found = [member.addr]
        if node is not None and node.manager_status is not None:
            found.append(node.manager_status.addr)
            port = node.manager_status.addr.rpartition(":")[2]
            host = f"[{node.status.addr}]" if ":" in node.status.addr else node.status.addr
            found.append(f"{host}:{port}" if node.status.addr else "")
        return tuple(dict.fromkeys(a for a in found if a))

    # ---- the port, in Raft's loop

    async def _listen(self) -> None:
        authorize = self._authorize
        assert authorize is not None
        server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
        for descriptor, service in self._services():
            server.add_generic_rpc_handlers((rpc.handler(descriptor, service, authorize),))
        addr = self._membership.listen_addr
        try:
            self.port = server.add_secure_port(addr, Handshakes(self._shown).credentials())
        except RuntimeError as exc:
            raise errors.ShoalError(
                f"manager could not listen on {addr}: is another process using this port?"
            ) from exc
        self._server = server
        await server.start()
        log.info("node %s listens on %s", self._membership.node_id, addr)

    def _services(self) -> tuple[tuple[Any, object], ...]:
        """What the port serves. All but Raft's messages are answered in the main loop."""
        anywhere = self._anywhere
        assert anywhere is not None
        changes, calls = self._bridge(anywhere.membership), self._bridge(anywhere.forwarded)
        raft = RaftService(self.consensus.runner, changes.join, changes.leave, calls.forward)
        return (
            (ca_pb2.DESCRIPTOR.services_by_name["CA"], self._bridge(anywhere.ca)),
            (control_pb2.DESCRIPTOR.services_by_name["Control"], self._bridge(anywhere.control)),
            (dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"], self._bridge(anywhere.sessions)),
            (raft_pb2.DESCRIPTOR.services_by_name["Raft"], raft),
        )

    def _bridge(self, service: object) -> Bridge:
        made = Bridge(service, self._main)
        self._bridges.append(made)
        return made

    def _shown(self) -> Shown:
        """What counts in the next handshake. gRPC asks from a thread of its own."""
        assert self._authorize is not None
        papers = self.papers
        return Shown(papers.key, papers.chain, self._authorize.roots())

    async def run(self) -> None:
        """Serves until it is cancelled, or returns when this manager was removed from the swarm; raises OSError (in a
        group) when the storage cannot be trusted any more."""
        try:
            async with asyncio.TaskGroup() as parts:
                tasks = (
                    parts.create_task(self.consensus.run(), name="consensus"),
                    parts.create_task(self._lead(), name="leader"),
                    parts.create_task(self._certificate.run(), name="renewal"),
                    parts.create_task(self._passing(), name="forwarding"),
                    parts.create_task(self.keeper.run(), name="keys"),
                )
                while not self.consensus.removed:
                    await self.consensus.changed()
                log.warning("this manager was removed from the swarm: it ends")
                for task in tasks:
                    task.cancel()
        finally:
            await _to_the_end(self._close())

    async def elected(self) -> None:
        """Returns when this member leads, if nobody else could; at once otherwise."""
        if self.consensus.runner.replica.alone:
            with suppress(TimeoutError):
                async with asyncio.timeout(_ELECTED):
                    await self.consensus.leading(True)

    async def _lead(self) -> None:
        """Whenever this member is the leader: its loops."""
        while True:
            await self.consensus.leading(True)
            async with asyncio.TaskGroup() as term:
                loops = term.create_task(self._leader.run(), name="loops")
                await self.consensus.leading(False)
                log.info("this manager leads no more")
                loops.cancel()

    async def _passing(self) -> None:
        assert self._anywhere is not None
        await self._anywhere.run()

    async def _close(self) -> None:
        self.store.attach(None)
        if self._server is not None:
            await self._loop.run(self._server.stop(_GRACE))
        for bridge in self._bridges:
            await bridge.close()
        if self._authorize is not None:
            self._authorize.close()
        await self.store.close()
        await self.consensus.stop()
        await self._loop.stop()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Awaits `work`, also when the caller is cancelled meanwhile: a port that is half closed stays taken."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
