"""A leader's term: one failing loop ends all of them, and they begin anew, soon but not in a frenzy."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from manager_swarm import ask, manager

from common import errors, model, rpc
from manager import leader
from manager.leader import Leader
from manager.raft.consensus import NotLeader
from manager.store import Store


class Clock:
    def now_ns(self) -> int:
        return 1

    def monotonic(self) -> float:
        return 1000.0


class Alone:
    """As much of a Replicated as the loops need that run here."""

    term, leader = 7, True

    def members(self) -> tuple[()]:
        return ()

    async def changed(self) -> None:
        await asyncio.Event().wait()


async def nothing() -> AsyncIterator[model.AgentMessage]:
    return
    yield


async def test_a_failing_loop_ends_the_term_and_the_next_begins_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []
    paused = asyncio.Event()
    pauses: list[float] = []

    async def fails(*args: object) -> None:
        begun.append("scheduler")
        raise RuntimeError("a defect")

    async def goes_on(*args: object) -> None:
        begun.append("orchestrator")
        try:
            await asyncio.Event().wait()
        finally:
            begun.append("orchestrator ended")

    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds < 1:
            return await real(seconds)
        pauses.append(seconds)
        paused.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(leader.scheduler, "run", fails)
    monkeypatch.setattr(leader.orchestrator, "run", goes_on)
    monkeypatch.setattr(leader.asyncio, "sleep", sleep)
    made = Leader(Store(Clock()), Clock(), Alone(), "n1")  # type: ignore[arg-type]
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        await paused.wait()
    assert begun == ["orchestrator", "scheduler", "orchestrator ended"] * 2
    assert pauses == [leader.RESTART_INTERVAL]
    assert "a loop of the leader failed" in caplog.text
    assert "a defect" in caplog.text
    with pytest.raises(errors.Unavailable, match="does not have a leader"):
        await anext(made.session(nothing(), rpc.Caller(frozenset(), "n")))
    task.cancel()
    await asyncio.wait([task])


async def test_writes_that_are_not_agreed_on_are_no_failure_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While leadership is handed on, and when that does not come to be."""
    begun = 0
    often = asyncio.Event()

    async def lost(*args: object) -> None:
        nonlocal begun
        begun += 1
        if begun == 5:
            often.set()
        raise (
            NotLeader("node lost leader status")
            if begun % 2
            else errors.ShoalError("raft: failed to process the request: who knows")
        )

    class Going(Alone):
        async def leading(self, leads: bool) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(leader, "HAND_OVER", 0.01)
    monkeypatch.setattr(leader.scheduler, "run", lost)
    made = Leader(Store(Clock()), Clock(), Going(), "n1")  # type: ignore[arg-type]
    task = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        await often.wait()
    task.cancel()
    await asyncio.wait([task])
    assert "failed" not in caplog.text


async def test_a_disk_that_fails_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself: systemd starts it again, and it reads what the disk really holds."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def live() -> None:
        async with manager(tmp_path) as m:
            await m.init()
            await m.settled()
            monkeypatch.setattr(os, "fdatasync", fail)
            with pytest.raises(errors.ShoalError):
                await ask(m.control.CreateNetwork, model.CreateNetworkRequest(model.NetworkSpec(name="x")))
            async with asyncio.timeout(30):
                await asyncio.wait([m.task])
            monkeypatch.undo()

    with pytest.raises(ExceptionGroup) as raised:
        await live()
    assert raised.group_contains(OSError)
    async with manager(tmp_path) as m:
        await ask(m.control.CreateNetwork, model.CreateNetworkRequest(model.NetworkSpec(name="y")))
