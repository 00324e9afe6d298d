"""The way to the manager process of this node: a unix socket, which under systemd is there before the process is.

Used by agent/membership.py and agent/promotion.py for the Local service, by the engine for Control.
"""

from __future__ import annotations

import os
import stat

import grpc.aio

from common import errors, model, rpc
from common.model.stubs import ControlStub, LocalStub


class OwnManager:
    """One channel, made when it is first needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._channel: grpc.aio.Channel | None = None

    def channel(self) -> grpc.aio.Channel:
        """The channel; raises errors.Unavailable where there can be no manager."""
        try:
            found = stat.S_ISSOCK(os.stat(self._path).st_mode)
        except OSError:
            found = False
        if not found:
            raise errors.Unavailable(
                f"there is no manager on this node: {self._path} does not exist (is shoal-manager.socket active?)"
            )
        if self._channel is None:
            self._channel = rpc.client(f"unix://{self._path}")
        return self._channel

    async def ask(self, method: str, request: model.Message, timeout: float) -> model.Message:
        """Calls a method of Local; raises errors of common/errors.py."""
        call = getattr(LocalStub(self.channel()), method)
        try:
            reply: model.Message = await call(request, timeout=timeout, wait_for_ready=True)
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
        return reply

    async def status(self, timeout: float) -> model.StatusReply:
        """How the manager is."""
        reply = await self.ask("Status", model.StatusRequest(), timeout)
        if not isinstance(reply, model.StatusReply):
            raise errors.Internal("the manager's answer is of another kind")
        return reply

    async def epoch(self, timeout: float) -> int:
        """The epoch of the agreement that the manager takes part in: a read, which one that was removed cannot answer,
        whether or not it has heard of that. Raises errors of common/errors.py."""
        try:
            reply = await ControlStub(self.channel()).GetCluster(model.Nothing(), timeout=timeout)
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
        return reply.cluster.epoch

    async def close(self) -> None:
        """Lets go of the socket."""
        if self._channel is not None:
            await self._channel.close()
