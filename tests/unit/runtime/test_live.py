"""What a container is told to be from its creation to its removal, and who that wakes."""

import asyncio
from dataclasses import replace

import pytest

from agent.runtime.api import ContainerConfig, ExitStatus, Status
from agent.runtime.folder import Record
from agent.runtime.live import Live, happens_within
from common import errors


def created() -> Live:
    return Live(Record(ContainerConfig("c1", "web.1", "busybox"), "sha256:1", "SIGTERM", 7))


def ends(live: Live, code: int) -> None:
    live.record = replace(live.record, exit=ExitStatus(code))
    live.has_ended()


def test_a_life() -> None:
    live = created()
    assert (live.state.status, live.state.pid, live.state.exit) == (Status.CREATED, 0, None)
    live.has_started(42, at=8)
    assert (live.state.status, live.state.pid, live.state.started_at) == (Status.RUNNING, 42, 8)
    live.paused = True
    assert live.state.status is Status.PAUSED
    live.record = replace(live.record, exit=ExitStatus(3))
    assert live.state.exit is None, "what is written down before it is through is not told"
    live.has_ended()
    assert (live.state.status, live.state.pid, live.state.exit) == (Status.STOPPED, 0, ExitStatus(3))
    live.has_started(43, at=9)
    assert (live.state.status, live.state.exit, live.ended.is_set()) == (Status.RUNNING, None, False)


async def test_who_waits_for_what() -> None:
    live = created()
    live.has_started(42, at=8)
    first = asyncio.create_task(live.wait("not-running"))
    removed = asyncio.create_task(live.wait("removed"))
    await asyncio.sleep(0)
    ends(live, 3)
    assert await first == ExitStatus(3)
    following = asyncio.create_task(live.wait("next-exit"))
    await asyncio.sleep(0)
    assert await live.wait("not-running") == ExitStatus(3)
    live.has_started(43, at=9)
    ends(live, 4)
    assert await following == ExitStatus(4)
    assert not removed.done()
    live.is_gone()
    assert await removed == ExitStatus(4)


async def test_one_that_is_removed_before_it_ever_ran() -> None:
    live = created()
    waiting = asyncio.create_task(live.wait("not-running"))
    await asyncio.sleep(0)
    live.is_gone()
    with pytest.raises(errors.NotFound, match="No such container: c1"):
        await waiting
    assert await live.wait("removed") == ExitStatus(0)


async def test_an_end_within_a_time() -> None:
    live = created()
    live.has_started(42, at=8)
    of_this_run = live.next_end
    assert not await happens_within(of_this_run, 0.01)
    live.has_ended()
    live.has_started(43, at=9)
    assert await happens_within(of_this_run, 0.01)
    assert not await happens_within(live.next_end, 0.01)


def test_one_that_is_found_again_runs_whatever_was_written_down() -> None:
    live = created()
    live.record = replace(live.record, exit=ExitStatus(255))
    live.found_running(42, paused=True)
    assert (live.state.status, live.record.exit, live.runs.is_set()) == (Status.PAUSED, None, True)
