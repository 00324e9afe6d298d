"""The loop that Raft has for itself: a thread in the daemon, the running loop in the simulator.

Raft's ticks and messages must not wait for the API or the scheduler; they share a processor with them, and no queue.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

log = logging.getLogger("raft")
T = TypeVar("T")


class Loop(Protocol):
    """Where Raft runs. Called from the store's loop."""

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls it there soon; calls keep their order."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine there to its end; cancelling this cancels it, and waits for it."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine there without waiting for it; a failure is logged."""


class _Spawning:
    """Keeps what was spawned until it ends."""

    def __init__(self) -> None:
        self._spawned: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._spawned.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("a task of raft failed", exc_info=exc)

    async def end(self) -> None:
        tasks = tuple(self._spawned)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class SameLoop:
    """No thread: everything in the running loop."""

    def __init__(self) -> None:
        self._spawning = _Spawning()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(function, *arguments)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        finally:
            await self._spawning.end()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._spawning.begin(work)


class ThreadLoop:
    """A loop in a thread of its own, from `start` to `stop`."""

    def __init__(self, name: str = "raft") -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._spawning = _Spawning()

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *arguments)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        here = asyncio.get_running_loop()
        ended: asyncio.Future[asyncio.Task[T]] = here.create_future()
        begun: list[asyncio.Task[T]] = []

        def tell(task: asyncio.Task[T]) -> None:
            if not here.is_closed():
                here.call_soon_threadsafe(ended.set_result, task)

        def begin() -> None:
            task = self.loop.create_task(work)
            begun.append(task)
            task.add_done_callback(tell)

        self.call(begin)
        try:
            return (await asyncio.shield(ended)).result()
        except asyncio.CancelledError:
            if not ended.done():
                self.call(lambda: begun[0].cancel())
                await asyncio.wait((ended,))
            raise

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.call(self._spawning.begin, work)

    async def stop(self) -> None:
        """Ends what was spawned, then the loop and its thread."""
        if self._thread.is_alive():
            await self.run(self._spawning.end())
            await self.run(self.loop.shutdown_asyncgens())
            self.loop.call_soon_threadsafe(self.loop.stop)
            await asyncio.to_thread(self._thread.join)
        self.loop.close()
