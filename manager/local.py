"""The Local service: this node's own agent makes a swarm, asks how the manager is, and ends it. Unix socket only.

Init is whole or not at all: everything is made in a folder of its own, which becomes the state in one rename, and is
taken back when the manager then cannot start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Final, Protocol

from common import errors, ids, model, pki
from common.clock import Clock
from common.rpc import Caller
from manager import bootstrap, identity
from manager.ca.service import expiry, utc
from manager.identity import Folder, Membership
from manager.member import Member
from manager.raft.seal import create_key
from manager.raft.single import SingleNode
from manager.store.store import Store

log = logging.getLogger("local")

ALREADY: Final = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
NOT_MANAGER: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)
LAST_MANAGER: Final = (
    "You are attempting to leave the swarm on a node that is participating as a manager. "
    "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
)


class Host(Protocol):
    """What the daemon offers: the member that runs in it."""

    @property
    def member(self) -> Member | None:
        """The running member."""

    @property
    def failure(self) -> str:
        """Why the member could not be started, if so."""

    async def begin(self, folder: Folder) -> None:
        """Starts the member whose state is in `folder`; raises when it cannot."""

    async def end(self) -> None:
        """Stops the member and waits until it is gone."""


class Local:
    """Init, Status, Leave."""

    def __init__(self, host: Host, root: Path, clock: Clock) -> None:
        self._host = host
        self._root = root
        self._clock = clock
        self._changing = asyncio.Lock()

    async def init(self, request: model.InitRequest, caller: Caller) -> model.InitReply:
        """Makes a swarm of this one manager."""
        async with self._changing:
            if self._host.member is not None or self._host.failure:
                raise errors.Unavailable(ALREADY)
            bootstrap.check(request)
            try:
                reply = await self._make(request)
                await self._host.begin(identity.finish(self._root))
            except BaseException as exc:
                identity.erase(self._root)
                if isinstance(exc, OSError):
                    raise errors.Internal(f"the swarm's state could not be written: {exc}") from exc
                raise
            log.info("swarm %s made, this node is %s", reply.cluster_id, reply.node_id)
            return reply

    async def _make(self, request: model.InitRequest) -> model.InitReply:
        now, folder = utc(self._clock), identity.begin(self._root)
        root = pki.create_root(now)
        swarm = bootstrap.plan(request, root, ids.new_id, secrets.token_bytes)
        cluster, node_id, key = swarm.cluster, swarm.node.id, pki.new_key()
        life = expiry(cluster)

        def issue(csr: bytes, role: model.NodeRole) -> bytes:
            return pki.issue_node(root, csr, node_id, role, cluster.id, now, life)

        member = Membership(node_id, cluster.id, request.listen_addr, request.advertise_addr)
        folder.write(member, issue(pki.create_csr(key), model.NodeRole.MANAGER), key)
        await self._first_entry(folder, swarm)
        agent = issue(request.csr, model.NodeRole.WORKER)
        return model.InitReply(node_id, cluster.id, agent, request.advertise_addr)

    async def _first_entry(self, folder: Folder, swarm: bootstrap.NewSwarm) -> None:
        """Writes the swarm's first objects as the first entry of its log."""
        store = Store(self._clock)
        consensus = SingleNode(folder.raft, create_key(folder.seal), store)
        await consensus.start()
        store.attach(consensus.propose)
        writing = asyncio.create_task(consensus.run(), name="first entry")
        try:
            await store.update(lambda tx: [tx.put(thing) for thing in swarm.objects()])
        finally:
            writing.cancel()
            await asyncio.wait([writing])
            await store.close()
            await consensus.stop()

    async def status(self, request: model.StatusRequest, caller: Caller) -> model.StatusReply:
        """How this manager is."""
        member, states = self._host.member, model.StatusReplyState
        if member is None:
            state = states.ERROR if self._host.failure else states.INACTIVE
            return model.StatusReply(state=state, error=self._host.failure)
        view, known = member.store.view(), member.membership
        managers = sum(1 for n in view.nodes.all() if n.role is model.NodeRole.MANAGER)
        return model.StatusReply(
            states.ACTIVE, known.node_id, known.cluster_id, "", known.advertise_addr,
            member.consensus.leader, managers, len(view.nodes),
        )  # fmt: skip

    async def leave(self, request: model.LeaveRequest, caller: Caller) -> model.LeaveReply:
        """Erases this manager's state."""
        async with self._changing:
            if self._host.member is None and not self._host.failure:
                raise errors.Unavailable(NOT_MANAGER)
            if not request.force:
                raise errors.Unavailable(LAST_MANAGER)
            await self._host.end()
            await asyncio.to_thread(identity.erase, self._root)
            log.info("left the swarm: state erased")
            return model.LeaveReply()
