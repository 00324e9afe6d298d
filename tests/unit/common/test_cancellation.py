"""Work that cancellations don't cut through."""

from __future__ import annotations

import asyncio

import pytest

from common.cancellation import to_the_end


async def test_it_goes_on_however_often_its_caller_is_cancelled() -> None:
    goes, done = asyncio.Event(), []

    async def work() -> int:
        await goes.wait()
        done.append(1)
        return 5

    task = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    goes.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]
    assert await to_the_end(work()) == 5


async def test_its_error_is_the_callers() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await to_the_end(work())
    task = asyncio.create_task(to_the_end(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_may_be_cancelled_itself() -> None:
    started: list[asyncio.Task[None] | None] = []

    async def work() -> None:
        started.append(asyncio.current_task())
        await asyncio.Event().wait()

    task = asyncio.create_task(to_the_end(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert started[0] is not None
    started[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
