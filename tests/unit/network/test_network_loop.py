"""When passes are made, and what those are told who wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.network import loop
from agent.network.loop import Loop, Outcome
from common import errors


class Passes:
    """Made by a loop: how they ended, and what the loop said of each."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.made: list[tuple[bool, bool]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.changed = asyncio.Event()

    async def carry_out(self, afresh: bool, asked: bool) -> Outcome:
        self.made.append((afresh, asked))
        self.changed.set()
        await self.free.wait()
        return self.outcomes.pop(0) if self.outcomes else Outcome()

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not met():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def running(passes: Passes, reconcile_every: float = 1000.0) -> AsyncIterator[Loop]:
    made = Loop(passes.carry_out, reconcile_every)
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def test_a_burst_is_one_pass_and_who_comes_during_it_gets_the_next() -> None:
    passes = Passes()
    passes.free.clear()
    async with running(passes) as made, asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(made.served())
        await passes.until(lambda: len(passes.made) == 1)
        late = group.create_task(made.served())
        passes.free.set()
        await late
    assert passes.made == [(False, True), (False, True)]


async def test_what_went_wrong_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETRY", 0.01)
    passes = Passes(Outcome("no way", again=True), Outcome(again=True))
    async with running(passes) as made:
        with pytest.raises(errors.Internal, match="no way"):
            await made.served()
        await passes.until(lambda: len(passes.made) == 3)
        made.wake()
        await passes.until(lambda: len(passes.made) == 4)
    assert passes.made == [(False, True), (True, False), (True, False), (False, False)]


async def test_everything_is_read_afresh_in_time_also_when_somebody_asks_all_the_time() -> None:
    passes = Passes()
    async with running(passes, reconcile_every=0.0) as made:
        await passes.until(lambda: len(passes.made) == 2)
        await made.served()
    assert all(afresh for afresh, _ in passes.made)


async def test_the_end_is_told() -> None:
    passes = Passes()
    passes.free.clear()
    async with running(passes) as made:
        waiting = asyncio.create_task(made.served())
        await passes.until(lambda: len(passes.made) == 1)
    with pytest.raises(errors.Internal, match="has ended"):
        await waiting
    with pytest.raises(errors.Internal, match="has ended"):
        await made.served()


async def test_a_loop_that_fails_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(afresh: bool, asked: bool) -> Outcome:
        raise RuntimeError("a fault")

    made = Loop(fail)
    made.start()
    with pytest.raises(errors.Internal, match="has ended"):
        await made.served()
    assert "the network's loop failed: RuntimeError('a fault')" in caplog.text
    await made.close()
