"""A virtual event loop that many processes share: each can be stopped and go on, or be killed, at any moment.

Whatever belongs to a process runs in a context that names its `Process`. While that is halted nothing of it runs: what
is due waits, and comes all at once afterwards, as after SIGSTOP. A killed process is one that stays halted; when all is
over, `bury` lets what is left of it end. Calls to threads are answered by the process's own `in_thread`.

A run is a function of its seed, so nothing here may depend on addresses of objects: tasks and futures have hashes of
their own, by which sets order them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from manager.raft.disk import FileDisk
from tests.simulation.virtual import STILL, Deadlock

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """What runs together, and stands still together."""

    def __init__(self, name: str, in_thread: Callable[[Any, Callable[[], Any]], Awaitable[Any]]) -> None:
        self.name = name
        self.in_thread = in_thread
        self.halted = False
        self.killed = False
        self.disks: list[FileDisk] = []
        self.gone = asyncio.Event()  # what waits for its answer hears that it is killed
        self.held: list[asyncio.Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def kill(self) -> None:
        """It does nothing any more; what it had open is closed, as the kernel does it."""
        self.killed = True
        self.gone.set()
        for disk in self.disks:
            disk.close()
        self.disks.clear()


class _Nothing:
    """A selector for a loop that hears of nothing from outside: it moves the loop's clock on."""

    loop: SharedLoop
    rounds = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("every task waits for another one")
        self.rounds = 0 if timeout > 0 else self.rounds + 1
        if self.rounds > STILL:
            raise Deadlock(f"at {self.loop.now:.3f} s something goes round without waiting")
        self.loop.now += timeout
        return []

    def register(self, *_: Any) -> None: ...

    def unregister(self, *_: Any) -> None: ...

    def modify(self, *_: Any) -> None: ...

    def get_map(self) -> dict[Any, Any]:
        return {}

    def get_key(self, _: Any) -> Any:
        raise KeyError

    def close(self) -> None: ...


class _Numbered:
    """Hashes in the order of creation."""

    count = 0

    def __hash__(self) -> int:
        try:
            return self.number
        except AttributeError:
            _Numbered.count += 1
            self.number: int = _Numbered.count
            return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Task(_Numbered, asyncio.Task):  # type: ignore[type-arg]
    pass


class _Future(_Numbered, asyncio.Future):  # type: ignore[type-arg]
    pass


class _Timer:
    """A timer of a process."""

    __slots__ = ("args", "callback", "handle", "process")

    def __init__(self, process: Process, callback: Any, args: Any) -> None:
        self.process = process
        self.callback = callback
        self.args = args
        self.handle: asyncio.TimerHandle | None = None


class SharedLoop(asyncio.SelectorEventLoop):
    """See the module's text."""

    def __init__(self) -> None:
        selector: Any = _Nothing()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)
        _Numbered.count = 0
        self.set_task_factory(lambda loop, coro, **kw: _Task(coro, loop=loop, **kw))

    def time(self) -> float:
        return self.now

    def create_future(self) -> Any:
        return _Future(loop=self)

    # ---- callbacks

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        handle = asyncio.Handle(callback, args, self, context)
        if process is not None and process.halted:
            process.held.append(handle)
        else:
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    call_soon_threadsafe = call_soon  # there are no threads

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if context is None:
            context = contextvars.copy_context()
        process = context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        timer = _Timer(process, callback, args)
        timer.handle = super().call_at(when, self._due, timer, context=context)
        return timer.handle

    def _due(self, timer: _Timer) -> None:
        handle = timer.handle
        assert handle is not None
        if timer.process.halted:
            timer.process.held.append(
                asyncio.Handle(self._due, (timer,), self, handle._context)  # type: ignore[attr-defined]
            )
        elif not handle.cancelled():
            timer.callback(*timer.args)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        process = PROCESS.get()
        call = lambda: func(*args)  # noqa: E731
        if process is None:
            done = self.create_future()
            done.set_result(call())
            return done
        return self.create_task(_through(process, executor, call))

    # ---- processes

    def halt(self, process: Process) -> None:
        """Nothing of it runs from now on."""
        process.halted = True
        nothing = asyncio.Handle(lambda: None, (), self)
        ready: Any = self._ready  # type: ignore[attr-defined]
        for place, handle in enumerate(ready):
            if handle._context is not None and handle._context.get(PROCESS) is process:
                process.held.append(handle)
                ready[place] = nothing

    def proceed(self, process: Process) -> None:
        """It goes on, with all that has waited."""
        process.halted = False
        held, process.held = process.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]


async def _through(process: Process, executor: Any, call: Callable[[], Any]) -> Any:
    return await process.in_thread(executor, call)
