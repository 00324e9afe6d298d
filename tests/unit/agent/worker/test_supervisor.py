"""A task's supervisor, and what waits like it: told to end in the very moment in which the wait is over, it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agent.database import TaskRecord
from agent.runtime.live import happens_within
from agent.worker import worker
from agent.worker.machine import Action
from agent.worker.supervisor import Supervisor, Wanted
from agent.worker.worker import Worker
from common import model

Wait = tuple[Callable[[], Awaitable[object]], Callable[[], None]]


def after_a_failure() -> Wait:
    wanted = Wanted(model.TaskAssignment(model.Task(id="t1")))
    tools: Any = None
    supervisor = Supervisor(tools, wanted, TaskRecord("t1", "", model.TaskStatus(), True))
    return lambda: supervisor._wrong(Action.STOP, "no"), lambda: supervisor.want(wanted)


def for_a_process_to_end() -> Wait:
    ended = asyncio.Event()
    return lambda: happens_within(ended, 10), ended.set


def for_a_manager() -> Wait:
    given: Any = SimpleNamespace(tools=SimpleNamespace(may_revive=asyncio.Event()))
    return lambda: Worker._allow_revival(given), given.tools.may_revive.set


@pytest.mark.parametrize("what", [after_a_failure, for_a_process_to_end, for_a_manager])
@pytest.mark.parametrize("turns", range(4))
async def test_the_end_is_not_missed(
    what: Callable[[], Wait], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "REVIVAL_DELAY", 10)
    wait, over = what()
    waiting = asyncio.ensure_future(wait())
    for _ in range(3):
        await asyncio.sleep(0)
    over()
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
