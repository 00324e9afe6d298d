"""An event loop in a thread of its own, for tests of what goes between two loops."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Other:
    """The thread's loop; `failures` are what its exception handler was told."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.failures: list[dict[str, Any]] = []
        self.left: set[asyncio.Task[Any]] = set()
        self.loop.set_exception_handler(lambda _loop, context: self.failures.append(context))

    async def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Awaits what `call` makes there."""

        async def work() -> Any:
            return await call()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self.loop))

    def serve(self) -> None:
        """The thread's life."""
        self.loop.run_forever()
        self.left = self.pending()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def pending(self) -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks(self.loop)


@contextmanager
def other_loop() -> Iterator[Other]:
    """A second loop; at the end nothing of it may be left, and nothing may have gone wrong in it."""
    other = Other()
    thread = threading.Thread(target=other.serve, name="other loop")
    thread.start()
    try:
        yield other
    finally:
        other.loop.call_soon_threadsafe(other.loop.stop)
        thread.join()
    assert not other.left
    assert not other.failures
