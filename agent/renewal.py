"""This node's certificate is renewed: in time, and when the node was off for so long that it has expired.

The way to a manager goes through here (`dial`): a node whose certificate has expired first asks that manager for a new one,
with its renewal certificate, which is good for nothing else. The new key is kept before anybody hears of it: whatever gets
lost on the way, the node can prove who it is. Run by agent/membership.py beside the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final, Protocol

import grpc
import grpc.aio

from agent.engine.backend import NOT_MEMBER
from agent.identity import Identity
from common import errors, model, pki, rpc
from common.model.stubs import CAStub

log = logging.getLogger("renewal")

BETWEEN: Final = (0.5, 0.8)
"""Of a certificate's life."""
CHECK: Final = 60.0
"""Seconds between two looks at the clock, which may jump."""
TIMEOUT: Final = 20.0
_BACK_OFF: Final = (1.0, 600.0)


class Node(Protocol):
    """What is asked of agent/standing.py."""

    @property
    def identity(self) -> Identity | None: ...

    def addresses(self) -> list[str]:
        """host:port of the managers."""

    def keep(self, papers: Identity) -> None:
        """These are the node's papers now."""


def wall_clock() -> dt.datetime:
    """What certificates go by."""
    return dt.datetime.now(dt.UTC)


class Renewal:
    """See the module's text."""

    def __init__(
        self,
        node: Node,
        now: Callable[[], dt.datetime] = wall_clock,
        rng: random.Random | None = None,
        back_off: tuple[float, float] = _BACK_OFF,
    ) -> None:
        self._node = node
        self._now = now
        self._rng = rng or random.Random()
        self._back_off = back_off
        self._busy = asyncio.Lock()
        self._chosen: tuple[str, dt.datetime] | None = None  # a certificate, and when it is to be renewed

    @contextlib.asynccontextmanager
    async def dial(self, addr: str) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to the manager at `addr`, with a certificate that is valid; raises errors.ShoalError."""
        if not pki.usable(self._mine().certificate.encode(), self._now()):
            await self._past_expiry(addr)
        mine = self._mine()
        async with _channel(mine, mine.certificate, addr) as channel:
            yield channel

    def _mine(self) -> Identity:
        mine = self._node.identity
        if mine is None:
            raise errors.Unavailable(NOT_MEMBER)
        return mine

    async def _past_expiry(self, addr: str) -> None:
        async with self._busy:
            mine, now = self._mine(), self._now()
            if pki.usable(mine.certificate.encode(), now):
                return  # somebody was faster
            start, end = pki.validity(mine.certificate.encode())
            if not mine.renewal:
                raise errors.Unauthenticated(
                    f"this node's certificate was valid from {start:%F %T} to {end:%F %T}, but it is {now:%F %T} by"
                    " this machine's clock, and it has no certificate to renew it with: leave the swarm and join again"
                )
            log.info(
                "this node's certificate was valid from %s to %s: asking %s for a new one", start, end, addr
            )
            async with _channel(mine, mine.renewal, addr) as channel:
                await self._renew(mine, channel)

    # ---- in time

    async def run(self) -> None:
        """Until cancelled: renews the certificate at a random moment between half and four fifths of its life. One that
        has no renewal certificate beside it yet, or whose renewal was cut off, is renewed at once."""
        pause = self._back_off[0]
        while mine := self._node.identity:
            try:
                left = (self._moment(mine) - self._now()).total_seconds()
            except ValueError as exc:
                log.error("this node's certificate cannot be read: %s", exc)
                return
            if left > 0 and mine.renewal and not mine.next_key:
                await asyncio.sleep(min(left, CHECK))
                continue
            try:
                await self._in_time()
                self._require_gain()
                pause = self._back_off[0]
            except errors.ShoalError as exc:
                log.warning("the certificate was not renewed: %s", exc.message)
                await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
                pause = min(2 * pause, self._back_off[1])

    def _require_gain(self) -> None:
        """Raises where the next renewal would be due at once."""
        now = self._node.identity
        if now is not None and not now.renewal:
            raise errors.Internal("the managers gave no renewal certificate")
        if now is not None and self._moment(now) <= self._now():
            raise errors.ClockSkew(
                "the new certificate is due for renewal already: is this machine's clock ahead of the managers'?"
            )

    def _moment(self, mine: Identity) -> dt.datetime:
        if self._chosen is None or self._chosen[0] != mine.certificate:
            share = self._rng.uniform(*BETWEEN)
            self._chosen = mine.certificate, pki.renewal_moment(mine.certificate.encode(), share)
        return self._chosen[1]

    async def _in_time(self) -> None:
        last: errors.ShoalError = errors.Unavailable("no manager is known")
        for addr in self._node.addresses():
            before = self._mine().certificate
            try:
                async with self.dial(addr) as channel, self._busy:
                    mine = self._mine()
                    if mine.certificate == before:  # the way there may have led through a renewal already
                        await self._renew(mine, channel)
            except errors.ShoalError as exc:
                last = exc
                continue
            return
        raise last

    async def _renew(self, mine: Identity, channel: grpc.aio.Channel) -> None:
        """A new key and a new certificate, which the next connection uses."""
        if not mine.next_key:
            mine = replace(mine, next_key=pki.key_pem(pki.new_key()).decode())
            self._keep(mine)
        request = model.RenewRequest(pki.create_csr(pki.load_key(mine.next_key.encode())))
        try:
            reply = await CAStub(channel).Renew(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
        start, end = pki.validity(reply.certificate)
        if not pki.usable(reply.certificate, now := self._now()):
            raise errors.Unauthenticated(
                f"the managers' certificate for this node is valid from {start:%F %T} to {end:%F %T}, but it is {now:%F %T}"
                " by this machine's clock: one of the clocks is wrong"
            )
        current = self._node.identity
        if current is None or (current.node_id, current.next_key) != (mine.node_id, mine.next_key):
            raise errors.Conflict("this node's papers have changed meanwhile")
        renewed = replace(
            current, key=mine.next_key, next_key="", certificate=reply.certificate.decode(),
            renewal=reply.renewal.decode(),
        )  # fmt: skip
        self._keep(renewed)
        log.info("this node has a new certificate, valid until %s", end)

    def _keep(self, papers: Identity) -> None:
        try:
            self._node.keep(papers)
        except OSError as exc:
            raise errors.Internal(f"this node's papers could not be written: {exc}") from exc


@contextlib.asynccontextmanager
async def _channel(mine: Identity, certificate: str, addr: str) -> AsyncIterator[grpc.aio.Channel]:
    credentials = grpc.ssl_channel_credentials(mine.root.encode(), mine.key.encode(), certificate.encode())
    async with rpc.client(addr, credentials, pki.SERVER_NAME) as channel:
        yield channel
