"""tests/soak/limit.py: work that does not end is ended, wherever it hangs."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.soak import limit
from tests.soak.limit import Overlong, limited


def spin() -> None:
    while True:
        pass


def test_what_spins_is_ended_and_named() -> None:
    with (
        pytest.raises(Overlong, match=r"not over within 0\.3 s; it was in spin \(test_soak_limit\.py:\d+\)"),
        limited(0.3),
    ):
        spin()


def test_a_task_that_spins_is_ended() -> None:
    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(endless())

    async def endless() -> None:
        spin()

    with pytest.raises(Overlong), limited(0.3):
        asyncio.run(work())


def test_what_hangs_while_it_is_ended_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "AGAIN", 0.05)

    def work() -> None:
        try:
            spin()
        finally:
            spin()

    with pytest.raises(Overlong), limited(0.3):
        work()


def test_what_ends_in_time_is_left_alone() -> None:
    handler, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    with limited(60):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(left, abs=30)
    assert signal.getsignal(signal.SIGALRM) is handler
