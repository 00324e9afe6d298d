"""What is tried again until it works: waits and words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from unittest import mock

import pytest

from agent.single.settling import LONGEST, Settling
from common import errors


class Work:
    """Fails as often as it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls: list[tuple[str, bool]] = []

    async def __call__(self, key: str, fresh: bool) -> None:
        self.calls.append((key, fresh))
        if self.failures:
            raise self.failures.pop(0)


def no_waiting(waits: list[float]) -> Callable[[float], Awaitable[None]]:
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    return sleep


async def test_the_waits_grow_and_the_log_stays_short(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    waits: list[float] = []
    work = Work(*[errors.Internal("no")] * 40, OSError(5, "Input/output error"), errors.Internal("no"))
    settling = Settling(work)
    with mock.patch("agent.single.settling.asyncio.sleep", no_waiting(waits)):
        async with asyncio.TaskGroup() as group:
            settling.within(group)
            await settling.now("c" * 64, fresh=True)
    assert waits[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST]
    assert (len(waits), waits[-1]) == (42, LONGEST)
    assert set(work.calls) == {("c" * 64, True)}
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "single container cccccccccccc: no; again in 0.5 s"
    assert said[8:] == [
        "single container cccccccccccc: input/output error; again in 60 s",
        "single container cccccccccccc: no; again in 60 s",
        "single container cccccccccccc: put right",
    ]


async def test_one_wait_for_each_and_none_where_all_is_well() -> None:
    work = Work(errors.Internal("no"), errors.Internal("no"))
    settling = Settling(work, first=0.0)
    async with asyncio.TaskGroup() as group:
        settling.within(group)
        await settling.now("one")
        await settling.now("one", fresh=True)  # while the first waits
        await settling.now("two")
    assert work.calls == [("one", False), ("one", True), ("two", False), ("one", True)]
    before = len(asyncio.all_tasks())
    settling.within(None)
    work.failures = [errors.Internal("no")]
    await settling.now("three")  # whoever begins anew looks at everything
    assert len(asyncio.all_tasks()) == before


async def test_a_mistake_of_the_programs_is_no_trouble_of_the_machines() -> None:
    with pytest.raises(AssertionError):
        await Settling(Work(AssertionError())).now("one")
