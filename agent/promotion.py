"""A manager beside this agent for as long as the node's role is MANAGER; the agent's own work goes on all the time.

The role comes from the managers with every welcome. What fails is tried again for as long as the role stays. A manager
that has lost its state, or was taken out of the agreement while its machine was off, begins anew. A node may be demoted and
promoted while its agent hears nothing, and hear of the second before its manager hears of the first: so a manager
counts only once it has read in the agreement after each word that it is to be one. agent/membership.py makes one
`Promotion`, runs it beside the session, and calls `now` itself for `swarm join` with a manager's token.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from agent.identity import Identity
from agent.own_manager import OwnManager
from common import errors, joining, model

log = logging.getLogger("promotion")

DEFAULT_LISTEN: Final = "0.0.0.0:2377"
JOIN_TIMEOUT: Final = 120.0
_TIMEOUT: Final = 20.0
_BACK_OFF: Final = (0.5, 30.0)
_LEFT_BEHIND: Final = "this node's manager takes part in an agreement that is over"
_STATES: Final = model.StatusReplyState


class Node(Protocol):
    """What is asked of agent/standing.py."""

    @property
    def identity(self) -> Identity | None: ...

    @property
    def role(self) -> model.NodeRole | None:
        """What the managers want this node to be; None while they have not said so."""

    @property
    def role_fence(self) -> model.Fence:
        """How new that is."""

    def addresses(self) -> list[str]:
        """host:port of the managers."""

    def keep(self, papers: Identity) -> None:
        """These are the node's papers now."""


def manager_address(mine: Identity) -> str:
    """host:port that a manager on this node advertises."""
    if mine.manager_addr:
        return mine.manager_addr
    _, port = joining.split_address(mine.listen_addr or DEFAULT_LISTEN)
    host = mine.advertise_addr or mine.remote_addr
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Promotion:
    """See the module's text."""

    def __init__(self, node: Node, manager: OwnManager, back_off: tuple[float, float] = _BACK_OFF) -> None:
        self._node = node
        self._manager = manager
        self._back_off = back_off
        self._heard = asyncio.Event()
        self._attempt: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()  # one attempt at a time, whoever makes it
        self._past: model.Fence | None = None  # what was heard up to here is older than the manager

    def heard(self) -> None:
        """The managers have said something of the role."""
        self._heard.set()

    def stop(self) -> None:
        """What is under way ends: the node leaves."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        delay: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._heard.wait()
            self._heard.clear()
            failure: list[errors.ShoalError] = []
            async with asyncio.TaskGroup() as group:
                self._attempt = group.create_task(self._try(failure))
            self._attempt = None
            if not failure:
                delay = None
                continue
            delay = min(2 * delay, self._back_off[1]) if delay else self._back_off[0]
            log.warning("this node's role does not stand yet: %s; again in %.1f s", failure[0].message, delay)

    async def _try(self, failure: list[errors.ShoalError]) -> None:
        try:
            async with self._busy:
                await self._agree()
        except errors.ShoalError as exc:
            failure.append(exc)

    async def _agree(self) -> None:
        mine, role = self._node.identity, self._node.role
        if mine is None or role is None:
            return
        if role is model.NodeRole.MANAGER:
            await self._manage(mine)
        elif (mine.manager or mine.joining) and self._node.role_fence != self._past:
            await self._work_only()

    async def _manage(self, mine: Identity) -> None:
        status = await self._manager.status(_TIMEOUT)
        if not mine.manager or status.state in (_STATES.INACTIVE, _STATES.REMOVED):
            await self._join(mine)
        elif status.state is _STATES.ACTIVE:
            await self._takes_part()

    async def _takes_part(self) -> None:
        if await self._manager.epoch(_TIMEOUT) < self._node.role_fence.epoch:
            raise errors.Unavailable(_LEFT_BEHIND)

    async def _work_only(self) -> None:
        if (await self._manager.status(_TIMEOUT)).state is not _STATES.INACTIVE:
            await self._manager.ask("Leave", model.LeaveRequest(force=True, demoted=True), _TIMEOUT)
        self._keep(manager=False)
        log.info("this node is a worker now")

    async def now(self, mine: Identity) -> None:
        """Makes this node a manager; returns when the others count on it. Raises errors.ShoalError: it is none then."""
        async with self._busy:
            await self._join(mine)

    async def _join(self, mine: Identity) -> None:
        request = model.JoinRequest(
            mine.node_id, mine.cluster_id, mine.listen_addr or DEFAULT_LISTEN, manager_address(mine),
            tuple(self._node.addresses()), mine.certificate.encode(), mine.key.encode(),
        )  # fmt: skip
        past = self._node.role_fence
        self._keep(mine.manager, joining=True)
        await self._manager.ask("Join", request, JOIN_TIMEOUT)
        self._keep(manager=True)
        self._past = past
        log.info("this node is a manager now")

    async def undo(self, node_id: str) -> None:
        """Erases what is left of a manager that was to be made for this node, where that ended on the way."""
        try:
            if (await self._manager.status(_TIMEOUT)).node_id == node_id:
                await self._manager.ask("Leave", model.LeaveRequest(force=True), _TIMEOUT)
        except errors.ShoalError as exc:
            log.warning("what is left of a manager here was not erased: %s", exc.message)

    def _keep(self, manager: bool, joining: bool = False) -> None:
        """The papers may have been renewed meanwhile: only this changes."""
        mine = self._node.identity
        if mine is not None and (mine.manager, mine.joining) != (manager, joining):
            self._node.keep(replace(mine, manager=manager, joining=joining))
