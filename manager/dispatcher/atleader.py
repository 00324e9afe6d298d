"""Dispatcher.Session at any manager: an agent's stream goes on to the leader, which is told who the agent is.

One stream to the leader for each agent, that ends when the agent's does and the other way round, at once; nothing is
added to it. It also ends when leadership moves: the agent comes back with its usual back-off. Made by member.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol

import grpc.aio

from common import errors, model, rpc
from common.cancellation import still_wanted
from common.model.stubs import DispatcherStub
from common.rpc import Caller
from manager.auth import ON_BEHALF, first_caller
from manager.raft.forward import Leadership
from manager.store.store import NO_LEADER

log = logging.getLogger("dispatcher")

_AHEAD: Final = 16
Messages = AsyncIterator[model.ManagerMessage]


class Sessions(Protocol):
    """Who serves sessions while this manager leads: leader.Leader."""

    def session(self, requests: AsyncIterator[model.AgentMessage], caller: Caller) -> Messages:
        """Dispatcher.Session."""


class SessionAtLeader:
    """See the module's text. `dial` gives the channel to a manager, which stays the giver's."""

    def __init__(
        self,
        local: Sessions,
        consensus: Leadership,
        node_id: str,
        dial: Callable[[str], grpc.aio.Channel],
    ) -> None:
        self._local = local
        self._consensus = consensus
        self._node_id = node_id
        self._dial = dial

    async def session(self, requests: AsyncIterator[model.AgentMessage], caller: Caller) -> Messages:
        """Dispatcher.Session, by the leader."""
        leader = self._consensus.leader_id
        if caller.forwarded or self._node_id == leader:
            # Whether it leads (already, still) is for this manager's dispatcher to say.
            messages: Any = self._local.session(requests, caller)
        elif leader:
            messages = self._passed(requests, caller, leader)
        else:
            raise errors.Unavailable(NO_LEADER)
        async with aclosing(messages):
            async for message in messages:
                yield message

    async def _passed(
        self, requests: AsyncIterator[model.AgentMessage], caller: Caller, leader: str
    ) -> Messages:
        call = DispatcherStub(self._dial(leader)).Session(
            metadata=((ON_BEHALF, first_caller(caller).to_bytes()),)
        )
        replies: asyncio.Queue[model.ManagerMessage | errors.ShoalError | None] = asyncio.Queue(_AHEAD)
        tasks = (
            asyncio.create_task(_read(call, replies), name=f"session of {caller.node_id} at {leader}"),
            asyncio.create_task(_write(requests, call), name=f"agent {caller.node_id}"),
            asyncio.create_task(self._moved(leader, replies), name=f"leader {leader}"),
        )
        tasks[1].add_done_callback(lambda task: _failed(task, call))
        try:
            while (message := await replies.get()) is not None:
                if isinstance(message, errors.ShoalError):
                    raise message
                yield message
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _moved(self, leader: str, replies: asyncio.Queue[Any]) -> None:
        while self._consensus.leader_id == leader:
            await self._consensus.changed()
        await replies.put(errors.Unavailable(NO_LEADER))


async def _read(call: Any, replies: asyncio.Queue[Any]) -> None:
    end: errors.ShoalError | None = None
    try:
        async for message in call:
            await replies.put(message)
    except grpc.aio.AioRpcError as exc:
        still_wanted()
        end = rpc.error_from(exc)
    except asyncio.CancelledError:
        still_wanted()
        end = errors.Unavailable(NO_LEADER)  # the channel was closed
    await replies.put(end)


async def _write(requests: AsyncIterator[model.AgentMessage], call: Any) -> None:
    """What the agent says; its end is passed on, what is wrong with the call to the leader is the reader's business."""
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return


def _failed(task: asyncio.Task[None], call: Any) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("reading an agent's session failed", exc_info=failure)
        call.cancel()
