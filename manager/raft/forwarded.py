"""The leader's end of forward.py: Raft.Forward, the calls that other managers took and passed on.

A stream of batches each way, one from each manager. Every call is judged by what the first caller's certificate says
here, whatever the passing manager thinks of it, and answered by this manager's own services; nothing is passed on
twice. Made by member.py, served by raft/service.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError

from common import errors, model, rpc
from common.rpc import Caller
from manager.raft.consensus import NotLeader
from manager.raft.forward import NOT_LEADER, PATIENCE, UNKNOWN, Leadership, only_at_leader, path_of
from manager.store.store import NO_LEADER

log = logging.getLogger("forward")

_BATCH: Final = 256
_UNANSWERED: Final = 4096


@dataclass(frozen=True, slots=True)
class _Method:
    descriptor: MethodDescriptor
    roles: frozenset[model.Role]
    function: Callable[[Any, Caller], Coroutine[Any, Any, Any]]
    request: Any


@dataclass(slots=True)
class _Stream:
    """One manager's calls: what runs, and what is ready to be sent back."""

    running: set[asyncio.Task[model.ForwardedReply]] = field(default_factory=set)
    ready: list[model.ForwardedReply] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_UNANSWERED))


class Forwarded:
    """Raft.Forward: answers what other managers pass on, by the local `services` (not by AtLeader)."""

    def __init__(
        self,
        consensus: Leadership,
        node_id: str,
        services: Iterable[tuple[ServiceDescriptor, object]],
        first: Callable[[model.ForwardedCaller], Caller],
    ) -> None:
        self._consensus = consensus
        self._node_id = node_id
        self._first = first
        self._methods: Mapping[str, _Method] = {
            path_of(method): _Method(
                method,
                rpc.method_roles(method),
                getattr(implementation, rpc.snake_case(method.name)),
                getattr(model, method.input_type.name),
            )
            for service, implementation in services
            for method in service.methods
            if only_at_leader(method)
        }

    async def forward(
        self, requests: AsyncIterator[model.ForwardedCalls], caller: Caller
    ) -> AsyncIterator[model.ForwardedReplies]:
        """One manager's stream, until it hangs up. What it has not heard the end of is cancelled then."""
        stream = _Stream()
        reader = asyncio.create_task(self._read(stream, requests), name=f"calls of {caller.node_id}")
        reader.add_done_callback(lambda _: stream.wake.set())
        try:
            yield model.ForwardedReplies()  # says that calls may come
            while not reader.done() or stream.running or stream.ready:
                await stream.wake.wait()
                stream.wake.clear()
                while stream.ready:
                    batch, stream.ready = stream.ready[:_BATCH], stream.ready[_BATCH:]
                    yield model.ForwardedReplies(tuple(batch))
            reader.result()
        finally:
            tasks = (reader, *stream.running)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self, stream: _Stream, requests: AsyncIterator[model.ForwardedCalls]) -> None:
        async for calls in requests:
            for call in calls.calls:
                await stream.room.acquire()
                task = asyncio.create_task(self._answer(call))
                stream.running.add(task)
                task.add_done_callback(partial(_answered, stream, call))

    async def _answer(self, call: model.ForwardedCall) -> model.ForwardedReply:
        try:
            reply = await self._run(call)
        except NotLeader as exc:
            return model.ForwardedReply(call.number, NOT_LEADER, exc.message)
        except errors.ShoalError as exc:
            return model.ForwardedReply(call.number, exc.code, exc.message, index=self._consensus.applied)
        return model.ForwardedReply(call.number, reply=reply.to_bytes(), index=self._consensus.applied)

    async def _run(self, call: model.ForwardedCall) -> Any:
        method = self._methods.get(call.method)
        if method is None:
            raise errors.Unimplemented(f"{call.method} is not passed on")
        caller = self._first(call.caller)
        rpc.check(method.descriptor, method.roles, caller)
        try:
            request = method.request.from_bytes(call.request)
        except DecodeError as exc:
            raise errors.InvalidArgument(f"a request of {call.method} that cannot be read") from exc
        await self._leads()
        return await method.function(request, caller)

    async def _leads(self) -> None:
        """Returns when this manager leads, maybe after the moment that a new leader needs; raises NotLeader."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self._consensus.leader and self._consensus.leader_id == self._node_id:
                    await self._consensus.changed()
        if not self._consensus.leader:
            raise NotLeader(NO_LEADER)


def _answered(stream: _Stream, call: model.ForwardedCall, task: asyncio.Task[model.ForwardedReply]) -> None:
    stream.running.discard(task)
    stream.room.release()
    if task.cancelled():
        reply = model.ForwardedReply(call.number, errors.ShoalError.code, UNKNOWN)
    elif (failure := task.exception()) is not None:
        log.error("%s failed", call.method, exc_info=failure)
        reply = model.ForwardedReply(call.number, errors.Internal.code, f"{call.method} failed: {failure}")
    else:
        reply = task.result()
    stream.ready.append(reply)
    stream.wake.set()
