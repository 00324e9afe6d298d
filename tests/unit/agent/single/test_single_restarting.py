"""Restart policies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from agent.runtime.api import ExitStatus, Status
from agent.single.record import SingleRecord
from agent.single.restarting import next_delay, wanted
from common import errors
from tests.unit.agent.single.single_bench import Bench

RECORD = SingleRecord("c" * 64)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("policy", "code", "stopped", "fresh", "expected"),
    [
        ("", 1, False, False, False), ("no", 1, False, True, False), ("always", 0, False, False, True),
        ("always", 0, True, False, False), ("always", 0, True, True, True), ("unless-stopped", 0, False, False, True),
        ("unless-stopped", 0, True, True, False), ("on-failure", 0, False, False, False),
        ("on-failure", 1, False, False, True), ("on-failure", 1, True, True, False),
    ],
)  # fmt: skip
def test_who_is_started_again(policy: str, code: int, stopped: bool, fresh: bool, expected: bool) -> None:
    assert wanted(replace(RECORD, restart=policy, stopped=stopped), code, fresh) is expected


def test_only_so_often() -> None:
    record = replace(RECORD, restart="on-failure", most_restarts=2)
    assert [wanted(replace(record, restarts=n), 1) for n in range(4)] == [True, True, False, False]


def test_longer_each_time() -> None:
    delays = [next_delay(0.0, 0.0)]
    for _ in range(11):
        delays.append(next_delay(delays[-1], 1.0))
    assert delays[:3] == [0.1, 0.2, 0.4] and delays[-1] == 60.0
    assert next_delay(60.0, 11.0) == 0.1


async def test_again_until_somebody_stops_it(bench: Bench) -> None:
    one = await bench.create("one", restart="always")
    async with bench.running():
        await bench.singles.start(one)
        await bench.runtime.exit(one)
        await bench.until(lambda: bench.singles.restarts.waits(one))
        await bench.until(lambda: bench.runtime.found[one].status is Status.RUNNING)
        assert bench.memory.rows[one].restarts == 1
        await bench.singles.stop(one)
        await bench.until(lambda: not bench.network.local)
        assert not bench.singles.restarts.waits(one) and bench.memory.rows[one].stopped


async def test_a_stop_while_it_waits(bench: Bench) -> None:
    one = await bench.create("one", restart="on-failure")
    async with bench.running():
        await bench.singles.start(one)
        bench.runtime.fail = errors.ShoalError("not now")
        bench.singles.restarts.after(one, 0.0)
        assert await bench.singles.stop(one)
        assert not bench.singles.restarts.waits(one)


async def test_a_start_that_fails_is_tried_again(bench: Bench) -> None:
    one = await bench.create("one", restart="always")
    async with bench.running():
        await bench.singles.start(one)
        bench.runtime.fail = errors.ShoalError("not now")
        await bench.runtime.exit(one)
        await bench.until(lambda: bench.memory.rows[one].restarts >= 2)
        bench.runtime.fail = None
        await bench.until(lambda: bench.runtime.found[one].status is Status.RUNNING)


async def test_the_next_agent_starts_what_should_run(bench: Bench) -> None:
    ids = {
        policy: await bench.create(policy, restart=policy) for policy in ("always", "unless-stopped", "no")
    }
    left = await bench.create("left", restart="unless-stopped")
    for id in (*ids.values(), left):
        await bench.singles.start(id)
        await bench.runtime.exit(id)
    await bench.singles.stop(left)
    await bench.singles.stop(ids["always"])
    bench.runtime.events = asyncio.Queue()
    bench.again()
    async with bench.running():
        for policy in ("always", "unless-stopped"):
            await bench.until(lambda id=ids[policy]: bench.runtime.found[id].status is Status.RUNNING)
    assert all(bench.runtime.found[id].status is Status.STOPPED for id in (ids["no"], left))


async def test_a_stop_before_the_next_agent_has_looked(bench: Bench) -> None:
    one = await bench.create("one", restart="always")
    async with bench.running():
        await bench.singles.start(one)
    bench.again()
    await bench.singles.stop(one)
    async with bench.running():
        await bench.until(lambda: not bench.network.local)
        await asyncio.sleep(0)
        assert not bench.singles.restarts.waits(one)


async def test_a_start_that_fails_is_tried_as_often_as_the_policy_says(bench: Bench) -> None:
    one = await bench.create("one", restart="on-failure", most_restarts=2)
    async with bench.running():
        await bench.singles.start(one)
        bench.runtime.fail = errors.ShoalError("not now")
        await bench.runtime.exit(one, 1)
        await bench.until(lambda: bench.singles.restarts.waits(one))
        await bench.until(lambda: not bench.singles.restarts.waits(one))
    assert (bench.memory.rows[one].restarts, bench.memory.rows[one].error) == (2, "not now")


async def end_of(bench: Bench, id: str, condition: str = "not-running") -> ExitStatus | None:
    await bench.until(lambda: bench.runtime.found[id].status is Status.STOPPED)
    return bench.runtime.found[id].exit


async def test_a_wait_is_for_an_end_that_stays_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await bench.create("one", restart="on-failure", most_restarts=1)

    monkeypatch.setattr(bench.runtime, "wait", partial(end_of, bench))
    async with bench.running():
        await bench.singles.start(one)
        waiting = asyncio.create_task(bench.singles.ended(one, "next-exit"))
        await bench.runtime.exit(one, 1)
        await bench.until(lambda: bench.memory.rows[one].restarts and bench.runtime.found[one].pid)
        assert not waiting.done()
        await bench.runtime.exit(one, 2)
        assert (await waiting).code == 2
        # Nor does one wait for a start that somebody calls off.
        await bench.singles.start(one)
        with mock.patch("agent.single.restarting._FIRST", 1000.0):
            await bench.runtime.exit(one, 3)
            await bench.until(lambda: bench.singles.restarts.waits(one))
        waiting = asyncio.create_task(bench.singles.ended(one, "not-running"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert await bench.singles.stop(one)
        assert (await waiting).code == 3


async def test_a_wait_that_hears_of_an_end_after_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await bench.create("one", restart="on-failure", most_restarts=1)

    heard: list[str] = []

    async def late(id: str, condition: str = "not-running") -> ExitStatus | None:
        if heard:
            return await end_of(bench, id)
        await bench.until(lambda: bench.memory.rows[one].restarts and bench.runtime.found[one].pid)
        heard.append(condition)
        return ExitStatus(1)

    monkeypatch.setattr(bench.runtime, "wait", late)
    async with bench.running():
        await bench.singles.start(one)
        waiting = asyncio.create_task(bench.singles.ended(one, "next-exit"))
        await bench.runtime.exit(one, 1)
        await bench.until(lambda: heard)
        assert not waiting.done()
        await bench.runtime.exit(one, 2)
        assert (await waiting).code == 2
