"""Asking other managers, whichever of them answers. Used by promotion.py and local.py, which have no agreement to ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import grpc
import grpc.aio

from common import errors, pki, rpc
from manager.store.store import NO_LEADER

log = logging.getLogger("manager")
T = TypeVar("T")

CALL_TIMEOUT: Final = 12.0
_BACK_OFF: Final = (0.1, 1.0)
_PASSING: Final = (errors.Unavailable, errors.DeadlineExceeded)
Call = Callable[[grpc.aio.Channel, float], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Papers:
    """What a caller shows: key and certificate chain (PEM, leaf first, root last)."""

    key: bytes = field(repr=False)
    chain: bytes

    @property
    def root(self) -> bytes:
        """The swarm's root, which the others must have too."""
        return pki.split_chain(self.chain)[-1]

    def channel(self, addr: str) -> grpc.aio.Channel:
        """To the manager at `addr`."""
        credentials = grpc.ssl_channel_credentials(self.root, self.key, self.chain)
        return rpc.client(addr, credentials, pki.SERVER_NAME)


async def ask(papers: Papers, addresses: Sequence[str], call: Call[T], seconds: float) -> T:
    """The first answer that is one. A manager that is away, or knows no leader, is asked again until `seconds` have
    passed; any other error is an answer. Raises errors.ShoalError."""
    last: errors.ShoalError = errors.Unavailable("no other manager is known")
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + seconds, _BACK_OFF[0]
    while addresses and loop.time() < deadline:
        for addr in addresses:
            left = min(CALL_TIMEOUT, deadline - loop.time())
            if left <= 0:
                break
            try:
                return await _one(papers, addr, call, left)
            except errors.ShoalError as exc:
                if not isinstance(exc, _PASSING) and exc.message != NO_LEADER:
                    raise
                last = exc
        await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
        pause = min(2 * pause, _BACK_OFF[1])
    raise last


async def _one(papers: Papers, addr: str, call: Call[T], seconds: float) -> T:
    async with papers.channel(addr) as channel:
        try:
            return await call(channel, seconds)
        except grpc.aio.AioRpcError as exc:
            failure = rpc.error_from(exc)
            log.debug("manager at %s: %s", addr, failure.message)
            raise failure from exc
