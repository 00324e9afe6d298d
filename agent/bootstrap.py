"""A swarm that begins with this node's own manager: init, force-new-cluster, and a restored backup.

Asks the manager and makes the node's papers of its answer; agent/membership.py takes them and sees that a session follows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from agent import backups, description, identity
from agent.engine.backend import InitOptions, RestoreOptions
from agent.identity import Identity
from agent.own_manager import OwnManager
from common import errors, joining, model, pki

_INIT_TIMEOUT: Final = 30.0
_UNDO_TIMEOUT: Final = 20.0


class Bootstrap:
    """See the module's text. `routes` are the machine's own networks, which the swarm's keep clear of."""

    def __init__(self, manager: OwnManager, routes: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        self._manager = manager
        self._routes = routes

    async def init(self, options: InitOptions) -> Identity:
        """Makes a swarm with this node as its first manager."""
        key = pki.key_pem(pki.new_key()).decode()
        request = await self._init_request(options, key)
        try:
            reply = await self._ask(request)
        except errors.InvalidArgument as exc:
            raise errors.InvalidArgument(exc.described()) from exc
        except errors.DeadlineExceeded:
            await self.undo()  # it may be through a moment later
            raise
        papers = identity.issued(
            key, reply.node_id, reply.cluster_id, reply.certificate,
            managers=(reply.advertise_addr or request.advertise_addr,),
            advertise_addr=joining.split_address(request.advertise_addr)[0],
            data_path_addr=request.data_path_addr, renewal=reply.renewal,
        )  # fmt: skip
        return replace(
            papers, manager=True, listen_addr=request.listen_addr, manager_addr=request.advertise_addr
        )

    async def undo(self) -> None:
        """Takes an init back that the node cannot follow."""
        with contextlib.suppress(errors.ShoalError):
            await self._manager.ask("Leave", model.LeaveRequest(force=True), _UNDO_TIMEOUT)

    async def force_new_cluster(self, options: InitOptions, mine: Identity) -> Identity:
        """The swarm goes on with this node's manager alone."""
        reply = await self._ask(
            model.InitRequest(
                listen_addr=options.listen_addr, advertise_addr=options.advertise_addr, force_new_cluster=True
            )
        )
        host = joining.split_address(reply.advertise_addr)[0]
        known = replace(mine, managers=(reply.advertise_addr,), manager_addr=reply.advertise_addr)
        known = replace(known, listen_addr=options.listen_addr or mine.listen_addr, advertise_addr=host)
        if options.data_path_addr or mine.data_path_addr == mine.advertise_addr:
            known = replace(known, data_path_addr=options.data_path_addr or host)
        return known

    async def restore(self, options: RestoreOptions, data: bytes) -> tuple[model.RestoreReply, Identity]:
        """Makes this node's manager the only one of the swarm in a backup."""
        key = pki.key_pem(pki.new_key()).decode()
        request = model.RestoreRequest(
            b"", options.passphrase, options.force, options.listen_addr, options.advertise_addr,
            options.data_path_addr, pki.create_csr(pki.load_key(key.encode())), description.hostname(),
            identity.machine_hash(), await self._routes(),
        )  # fmt: skip
        reply = await backups.restore(self._manager.channel(), request, data)
        papers = identity.issued(
            key, reply.node_id, reply.cluster_id, reply.certificate, managers=(reply.advertise_addr,),
            advertise_addr=joining.split_address(reply.advertise_addr)[0],
            data_path_addr=options.data_path_addr,
        )  # fmt: skip
        return reply, replace(
            papers, manager=True, listen_addr=options.listen_addr, manager_addr=reply.advertise_addr
        )

    async def _ask(self, request: model.InitRequest) -> model.InitReply:
        reply = await self._manager.ask("Init", request, _INIT_TIMEOUT)
        if not isinstance(reply, model.InitReply):
            raise errors.Internal("the manager's answer is of another kind")
        return reply

    async def _init_request(self, options: InitOptions, key: str) -> model.InitRequest:
        return model.InitRequest(
            listen_addr=options.listen_addr,
            advertise_addr=options.advertise_addr,
            data_path_addr=options.data_path_addr,
            data_path_port=options.data_path_port,
            force_new_cluster=options.force_new_cluster,
            spec=options.spec,
            default_address_pool=options.default_address_pool,
            subnet_size=options.subnet_size,
            availability=options.availability,
            csr=pki.create_csr(pki.load_key(key.encode())),
            hostname=description.hostname(),
            machine=identity.machine_hash(),
            routes=await self._routes(),
        )
