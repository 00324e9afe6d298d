"""Services that live in one event loop, served from another: the port's gRPC server has a loop (and a thread) of its own.

Raft's messages come in on the same port as the API, and must not wait for it. So the server runs in the loop of
the thread "raft", and `Bridge` runs each call of the other services in the loop that they and the store live in.
member.py puts one around each of them, and closes it after the server. A call that comes alone costs 55 to 75 µs more
than without (two threads are woken), one of many 9 to 11 µs, a message of a stream both ways 3 to 4 µs.

In one and the same loop (the simulator) a Bridge passes calls through as they are.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, Generic, Self, TypeVar

from common import errors
from common.rpc import Caller

T = TypeVar("T")

WINDOW: Final = 64
"""Messages of a stream that are on their way to a loop that does not take them; then the sender waits."""
STOPPING: Final = "this manager is stopping"


class Post:
    """Calls for one loop from other threads: all that gather before it turns cost it one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], object]] = deque()
        self._woken = False

    def __call__(self, call: Callable[[], object]) -> None:
        """Runs `call` in the loop, in the order of the calls; raises RuntimeError when the loop is closed."""
        self._waiting.append(call)
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                self._woken = False
                self._waiting.clear()
                raise

    def _run(self) -> None:
        # First this: what is put in from now on is either seen below, or wakes the loop again.
        self._woken = False
        for _ in range(len(self._waiting)):
            self._waiting.popleft()()
        if self._waiting and not self._woken:
            self._woken = True
            self._loop.call_soon(self._run)

    def last(self, call: Callable[[], object]) -> None:
        """The same for an answer: nobody waits for it any more in a loop that is closed."""
        try:
            self(call)
        except RuntimeError:
            if not self._loop.is_closed():
                raise


class Pipe(Generic[T]):
    """A bounded queue from one loop to another: `put` and `end` in the first, iteration in the second."""

    def __init__(self, source: Post, sink: Post) -> None:
        self._source = source
        self._sink = sink
        # In the source's loop.
        self._room = WINDOW
        self._more: asyncio.Future[None] | None = None
        # In the sink's.
        self._items: deque[T] = deque()
        self._taken = 0
        self._over = False
        self._error: BaseException | None = None
        self._arrival: asyncio.Future[None] | None = None

    async def put(self, item: T) -> None:
        """Hands over `item`, when there is room for it."""
        while not self._room:
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        self._room -= 1
        self._sink.last(lambda: self._arrived(item))

    def end(self, error: BaseException | None = None) -> None:
        """Ends the iteration once it has seen what was put in, with `error` if there is one."""
        self._sink.last(lambda: self._ended(error))

    def _gave(self, count: int) -> None:
        self._room += count
        _wake(self._more)

    def _arrived(self, item: T) -> None:
        self._items.append(item)
        _wake(self._arrival)

    def _ended(self, error: BaseException | None) -> None:
        if not self._over:
            self._over, self._error = True, error
            _wake(self._arrival)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._over:
                error, self._error = self._error, None
                raise StopAsyncIteration if error is None else error
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        item = self._items.popleft()
        self._taken += 1
        if self._taken >= WINDOW // 2:
            count, self._taken = self._taken, 0
            self._source.last(lambda: self._gave(count))
        return item


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class Bridge:
    """Has the methods of `implementation`, each of which runs in `loop`, whichever loop calls it.

    A cancelled call cancels the work, and is over without waiting for that. `close` ends what is under way.
    """

    def __init__(self, implementation: object, loop: asyncio.AbstractEventLoop) -> None:
        self._implementation = implementation
        self._loop = loop
        self._there = Post(loop)
        self._back: dict[asyncio.AbstractEventLoop, Post] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._implementation, name)
        call = self._stream if inspect.isasyncgenfunction(function) else self._unary

        def bridged(request: Any, caller: Caller) -> Any:
            if asyncio.get_running_loop() is self._loop:
                return function(request, caller)
            return call(function, request, caller)

        return bridged

    async def close(self) -> None:
        """Ends every call that is under way and refuses others; called in the loop of the implementation."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    # ---- in the loop of the caller

    def _post(self) -> Post:
        here = asyncio.get_running_loop()
        if here not in self._back:
            self._back[here] = Post(here)
        return self._back[here]

    async def _unary(self, function: Callable[..., Any], request: Any, caller: Caller) -> Any:
        back, done = self._post(), asyncio.get_running_loop().create_future()
        work = _Work(
            self, lambda: function(request, caller), lambda task: back.last(lambda: _answer(done, task))
        )
        try:
            self._go(work)
            return await done
        except asyncio.CancelledError:
            self._there.last(work.cancel)
            raise

    async def _stream(
        self, function: Callable[..., Any], requests: AsyncIterator[Any], caller: Caller
    ) -> AsyncIterator[Any]:
        back = self._post()
        there: Pipe[Any] = Pipe(back, self._there)
        replies: Pipe[Any] = Pipe(self._there, back)
        work = _Work(
            self, lambda: _reply(function, there, replies, caller), lambda task: _finish(replies, task)
        )
        reader = asyncio.create_task(_read(requests, there), name="bridge reader")
        try:
            self._go(work)
            async for reply in replies:
                yield reply
        finally:
            self._there.last(work.cancel)
            reader.cancel()
            await asyncio.wait([reader])

    def _go(self, work: _Work) -> None:
        try:
            self._there(work.start)
        except RuntimeError as exc:
            raise errors.Unavailable(STOPPING) from exc

    # ---- in the loop of the implementation

    def begin(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any] | None:
        """A task that `close` knows of; None when there are to be no more."""
        if self._closed:
            return None
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Work:
    """One call in the loop of the implementation."""

    __slots__ = ("_begin", "_cancelled", "_done", "_task", "_work")

    def __init__(
        self,
        bridge: Bridge,
        work: Callable[[], Coroutine[Any, Any, Any]],
        done: Callable[[asyncio.Task[Any] | None], None],
    ) -> None:
        self._begin = bridge.begin
        self._work = work
        self._done = done
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        self._task = self._begin(self._work)
        if self._task is None:
            self._done(None)
        else:
            self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _answer(done: asyncio.Future[Any], task: asyncio.Task[Any] | None) -> None:
    error = _error(task)
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    elif task is not None:
        done.set_result(task.result())


def _finish(replies: Pipe[Any], task: asyncio.Task[Any] | None) -> None:
    replies.end(_error(task))


def _error(task: asyncio.Task[Any] | None) -> BaseException | None:
    """How the work failed; work that was cancelled from its own side says so in words that the caller can pass on."""
    if task is None or task.cancelled():
        return errors.Unavailable(STOPPING)
    return task.exception()


async def _read(requests: AsyncIterator[Any], there: Pipe[Any]) -> None:
    """Takes in the caller's messages; how they end is the implementation's business."""
    try:
        async for request in requests:
            await there.put(request)
    except Exception as exc:  # noqa: BLE001 - goes to whoever reads the messages
        there.end(exc)
    finally:
        there.end()


async def _reply(
    function: Callable[..., Any], requests: Pipe[Any], replies: Pipe[Any], caller: Caller
) -> None:
    async with aclosing(function(requests, caller)) as messages:
        async for message in messages:
            await replies.put(message)
