"""The Local service: this node's own agent makes a swarm or a manager, asks how it is, and ends it. Unix socket only.

Each change is whole or not at all: a new state is made in a folder of its own, which counts from one rename on, and is
taken back when the manager then cannot start.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Final

from common import errors, ids, model, pki
from common.clock import Clock
from common.rpc import Caller
from manager import autolock, bootstrap, departure, identity, keeper, origin, promotion, rescue
from manager.ca.service import expiry, utc
from manager.host import Host
from manager.identity import Folder, Membership
from manager.raft.seal import Damaged, Keys, Locked, WrongKey, new_keys, read_keys, unlock
from manager.raft.service import REMOVED
from manager.raft_membership import raft_id

log = logging.getLogger("local")

ALREADY: Final = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
NOT_MANAGER: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)
_RAFT_LEAVE: Final = 5.0


class Local:
    """Init, Join, Status, Unlock, Leave."""

    def __init__(self, host: Host, root: Path, clock: Clock) -> None:
        self._host = host
        self._root = root
        self._clock = clock
        self._changing = asyncio.Lock()

    @property
    def changing(self) -> asyncio.Lock:
        """Held by whoever changes what this machine is a manager of; backups.py does too."""
        return self._changing

    async def init(self, request: model.InitRequest, caller: Caller) -> model.InitReply:
        """Makes a swarm of this one manager."""
        async with self._changing:
            if request.force_new_cluster:
                return await self._force_new_cluster(request)
            if self._host.member is not None or self._host.failure:
                raise errors.Unavailable(ALREADY)
            bootstrap.check(request)
            try:
                reply, unlock_key = await self._make(request)
                await self._host.begin(identity.finish(self._root), unlock_key)
            except BaseException as exc:
                identity.erase(self._root)
                if isinstance(exc, OSError):
                    raise errors.Internal(f"the swarm's state could not be written: {exc}") from exc
                raise
            log.info("swarm %s made, this node is %s", reply.cluster_id, reply.node_id)
            return reply

    async def _make(self, request: model.InitRequest) -> tuple[model.InitReply, bytes]:
        now, folder = utc(self._clock), identity.begin(self._root)
        root = pki.create_root(now)
        own = raft_id(secrets.token_bytes)
        swarm = bootstrap.plan(request, root, ids.new_id, secrets.token_bytes, own)
        cluster, node_id, key = swarm.cluster, swarm.node.id, pki.new_key()
        life = expiry(cluster)

        def issue(csr: bytes, role: model.NodeRole) -> bytes:
            return pki.issue_node(root, csr, node_id, role, cluster.id, now, life)

        member = Membership(node_id, cluster.id, request.listen_addr, request.advertise_addr, own)
        keys = new_keys().locked_by(cluster.unlock_key, cluster.unlock_generation)
        stored = keeper.private(pki.key_pem(key), keys)
        folder.write(member, issue(pki.create_csr(key), model.NodeRole.MANAGER), stored)
        await asyncio.to_thread(self._first_state, folder, swarm, keys)
        agent = issue(request.csr, model.NodeRole.WORKER)
        renewal = pki.issue_renewal(root, request.csr, node_id, cluster.id, swarm.node.certificate_number)
        reply = model.InitReply(node_id, cluster.id, agent, request.advertise_addr, renewal)
        return reply, cluster.unlock_key

    def _first_state(self, folder: Folder, swarm: bootstrap.NewSwarm, keys: Keys) -> None:
        """Writes the swarm's first objects as a snapshot that its log begins after."""
        assert swarm.node.manager_status is not None
        status = swarm.node.manager_status
        member = model.RaftMember(status.raft_id, swarm.node.id, status.addr)
        snapshot = origin.first_snapshot(swarm.objects(), member, self._clock.now_ns())
        keys.save(folder.seal)
        rescue.write_first(folder, keys.sealer(), snapshot)

    async def status(self, request: model.StatusRequest, caller: Caller) -> model.StatusReply:
        """How this manager is."""
        member, states = self._host.member, model.StatusReplyState
        if member is None:
            state = states.ERROR if self._host.failure else states.INACTIVE
            state = states.LOCKED if self._host.locked else state
            state = states.REMOVED if self._host.failure == REMOVED else state
            return model.StatusReply(state=state, error=self._host.failure)
        view, known = member.store.view(), member.membership
        managers = sum(1 for n in view.nodes.all() if n.role is model.NodeRole.MANAGER)
        leader_id = member.consensus.leader_id
        return model.StatusReply(
            states.ACTIVE, known.node_id, known.cluster_id, "", known.advertise_addr,
            member.consensus.leader, managers, len(view.nodes), bool(leader_id), leader_id,
        )  # fmt: skip

    # ---- autolock

    async def unlock(self, request: model.UnlockRequest, caller: Caller) -> model.UnlockReply:
        """Starts a locked manager with the swarm's unlock key, or with the one that counted when it was last on."""
        async with self._changing:
            folder = identity.current(self._root)
            if folder is None or not self._host.locked:
                raise errors.Conflict(autolock.NOT_LOCKED)
            key = autolock.parse(request.key)
            try:
                await self._host.begin(folder, key)
            except WrongKey as exc:
                raise errors.Unauthenticated(autolock.WRONG_KEY) from exc
            except (errors.ShoalError, OSError, Damaged) as exc:
                await self._host.resume(folder)  # with the key, which was right: what may pass is tried again
                if self._host.member is None:
                    raise errors.Internal(self._host.failure) from exc
            log.info("unlocked")
            return model.UnlockReply()

    def _keys(self, folder: Folder) -> Keys:
        try:
            return unlock(read_keys(folder.seal), self._host.unlock_key)
        except (Locked, WrongKey) as exc:
            raise errors.Unavailable(errors.SWARM_LOCKED) from exc

    # ---- --force-new-cluster

    async def _force_new_cluster(self, request: model.InitRequest) -> model.InitReply:
        """The swarm goes on with this manager alone; without an address in the request, at those it has."""
        folder = identity.current(self._root)
        if folder is None:
            raise errors.Unavailable(NOT_MANAGER)
        membership, _, _ = folder.load()
        listen = request.listen_addr or membership.listen_addr
        advertise = request.advertise_addr or membership.advertise_addr
        bootstrap.routable(advertise, bootstrap.NO_ADDRESS)
        bootstrap.host_port(listen, bootstrap.BAD_LISTEN)
        wanted = rescue.Wanted(raft_id(secrets.token_bytes), listen, advertise)
        self._keys(folder)
        await self._host.end()
        made, before = folder, membership
        try:
            sealer = self._keys(folder).sealer()  # only now nobody replaces them any more
            made, before = await asyncio.to_thread(rescue.rescue, folder, sealer, wanted, self._clock)
            await self._host.begin(made)
        except BaseException as exc:
            await self._go_back(made, before)
            if isinstance(exc, Damaged | OSError):
                raise errors.Internal(f"no new cluster could be made: {exc}") from exc
            raise
        made.clear_others()
        log.warning("swarm %s goes on with node %s alone", before.cluster_id, before.node_id)
        return model.InitReply(before.node_id, before.cluster_id, b"", advertise)

    async def _go_back(self, made: Folder, before: Membership) -> None:
        """The manager as it was; when even that can't start, the daemon says why and tries again."""
        folder = made
        if made.raft_name != before.raft:
            folder = await asyncio.to_thread(rescue.take_back, made, before)
        await self._host.resume(folder)

    # ---- a manager for a node that is in a swarm already

    async def join(self, request: model.JoinRequest, caller: Caller) -> model.JoinReply:
        """Makes this node a manager; one that it is already is no error, one that was taken out begins anew."""
        async with self._changing:
            member = self._host.member
            if member is not None and member.membership.node_id != request.node_id:
                raise errors.Unavailable(ALREADY)
            if member is not None and await promotion.stands(self._host, member):
                return model.JoinReply()
            if self._host.locked or self._host.failure not in ("", REMOVED):
                raise errors.Unavailable(self._host.failure)
            if member is not None:
                await self._host.end()
                await asyncio.to_thread(identity.erase, self._root)
            try:
                await promotion.promote(request, self._host, self._root)
            except OSError as exc:
                raise errors.Internal(f"the manager's state could not be written: {exc}") from exc
            return model.JoinReply()

    # ---- the end

    async def leave(self, request: model.LeaveRequest, caller: Caller) -> model.LeaveReply:
        """Erases this manager's state; by force it tells the others before, where they can be reached soon."""
        async with self._changing:
            member = self._host.member
            if member is None and not self._host.failure:
                raise errors.Unavailable(NOT_MANAGER)
            if request.demoted:
                if member is not None and member.consensus.leader:
                    raise errors.FailedPrecondition("this manager leads the swarm: it was not demoted")
            elif not request.force and self._host.locked:
                raise errors.Unavailable(autolock.LEAVE_LOCKED)
            elif not request.force:
                raise errors.Unavailable(departure.warning(member.store.view() if member else None))
            elif member is not None:
                await departure.depart(member, _RAFT_LEAVE)
            await self._host.end()
            await asyncio.to_thread(identity.erase, self._root)
            log.info(
                "left the swarm: state erased" if not request.demoted else "no manager any more: state erased"
            )
            return model.LeaveReply()
