"""Virtual time: an event loop whose clock jumps to the next timer, so that minutes of a swarm take milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
START = 1_800_000_000_000_000_000  # ns: some day

STILL = 100_000
"""Rounds of a loop within one moment of virtual time after which it is held to spin."""


class Deadlock(Exception):
    """Nothing is left that could ever happen, or nothing ever waits."""


class _Selector(selectors.DefaultSelector):
    """Doesn't wait: moves the loop's clock on instead."""

    loop: VirtualLoop
    rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Deadlock("every task waits for another one")
        self.rounds = 0 if timeout > 0 else self.rounds + 1
        if self.rounds > STILL:
            raise Deadlock(f"at {self.loop.now:.3f} s something goes round without waiting")
        self.loop.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop of its own time."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class VirtualClock:
    """common.clock.Clock on the running loop's time; `skew` (s) shifts the wall clock."""

    def __init__(self) -> None:
        self.skew = 0.0

    def now_ns(self) -> int:
        return START + int((asyncio.get_running_loop().time() + self.skew) * 1e9)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
