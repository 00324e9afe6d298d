"""The Backup service: this node's own agent takes a backup of the swarm, or makes this node its manager from one. Unix socket only.

A backup is the state at an index that holds everything acknowledged before the call, on whichever manager; nothing
stops for it. A restore is whole or not at all: the new state lies beside the old one until it counts, and the old one
comes back when the manager then cannot start. daemon.py serves it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from common import errors, model
from common.clock import Clock
from common.rpc import Caller
from manager import autolock, backup, bootstrap, identity, restoration
from manager.backup import SealedBy
from manager.host import Host
from manager.local import NOT_MANAGER
from manager.member import Member
from manager.raft.seal import Damaged, Locked, WrongKey

log = logging.getLogger("backup")

CHUNK: Final = 1 << 20
LARGEST: Final = 1 << 30
ALREADY: Final = (
    'This node is already part of a swarm. Use "shoal swarm leave" to leave this swarm, or --force to replace '
    "its state by the backup."
)


class Backups:
    """Save and Restore. `changing` is held by whoever changes what this machine is a manager of."""

    def __init__(self, host: Host, root: Path, clock: Clock, changing: asyncio.Lock) -> None:
        self._host = host
        self._root = root
        self._clock = clock
        self._changing = changing

    # ---- the way out

    async def save(self, request: model.BackupRequest, caller: Caller) -> AsyncIterator[model.BackupChunk]:
        """The file, in chunks."""
        member = self._host.member
        if member is None:
            raise errors.Unavailable(self._host.failure or NOT_MANAGER)
        data = await self._taken(member, request.passphrase)
        for start in range(0, len(data), CHUNK):
            yield model.BackupChunk(data[start : start + CHUNK])

    async def _taken(self, member: Member, passphrase: str) -> bytes:
        await member.consensus.read_index()
        captured, cluster = member.store.capture(), member.store.view().cluster
        members = [m.member for m in member.consensus.members()]
        state = model.RaftConfState(voters=tuple(m.raft_id for m in members))
        sealed, key = SealedBy.NOTHING, passphrase
        if passphrase:
            sealed = SealedBy.PASSPHRASE
        elif cluster.unlock_key:
            sealed, key = SealedBy.UNLOCK_KEY, autolock.text(cluster.unlock_key)
        created = self._clock.now_ns()

        def encode() -> bytes:
            content = model.RaftSnapshot(
                captured.index, captured.term, state, tuple(members), (), captured.encode(), cluster.epoch
            )
            return backup.write(
                content.to_bytes(), cluster.id, member.membership.node_id, created, captured.index, sealed, key,
                secrets.token_bytes(backup.SALT_BYTES), secrets.token_bytes(backup.NONCE_BYTES),
            )  # fmt: skip

        data = await asyncio.to_thread(encode)
        log.info("backup of entry %d: %d bytes, sealed by %s", captured.index, len(data), sealed)
        return data

    # ---- the way in

    async def restore(
        self, requests: AsyncIterator[model.RestoreRequest], caller: Caller
    ) -> AsyncIterator[model.RestoreReply]:
        """This node becomes the only manager of the swarm in the file."""
        first: model.RestoreRequest | None = None
        data = bytearray()
        async for request in requests:
            first = first or request
            data += request.data
            if len(data) > LARGEST:
                raise errors.InvalidArgument(f"a backup of more than {LARGEST} bytes cannot be restored")
        if first is None:
            raise errors.InvalidArgument(backup.NOT_A_BACKUP)
        async with self._changing:
            reply = await self._restore(first, bytes(data))
        yield reply

    async def _restore(self, request: model.RestoreRequest, data: bytes) -> model.RestoreReply:
        there = bool(self._host.member or self._host.failure or identity.current(self._root))
        if there and not request.force:
            raise errors.Unavailable(ALREADY)
        bootstrap.routable(request.advertise_addr, bootstrap.NO_ADDRESS)
        bootstrap.host_port(request.listen_addr, bootstrap.BAD_LISTEN)
        try:
            made = await asyncio.to_thread(restoration.make, self._root, request, data, self._clock)
        except OSError as exc:
            raise errors.Internal(f"the swarm's state could not be written: {exc}") from exc
        key_before = self._host.unlock_key
        await self._host.end()
        try:
            await self._host.begin(identity.exchange(self._root), made.unlock_key)
        except BaseException as exc:
            await self._go_back(there, key_before)
            if isinstance(exc, Damaged | OSError):
                raise errors.Internal(f"the restored swarm could not be started: {exc}") from exc
            raise
        await asyncio.to_thread(identity.keep, self._root)
        reply = made.reply
        log.warning("swarm %s restored, with node %s as its manager", reply.cluster_id, reply.node_id)
        return reply

    async def _go_back(self, there: bool, unlock_key: bytes) -> None:
        """What this machine was before: a manager, which starts again, or none."""
        await self._host.end()
        if not there:
            await asyncio.to_thread(identity.erase, self._root)
        elif (before := await asyncio.to_thread(identity.put_back, self._root)) is not None:
            try:
                await self._host.begin(before, unlock_key)
            except (errors.ShoalError, Damaged, Locked, WrongKey, OSError):
                await self._host.resume(before)  # says what is wrong, and tries again
