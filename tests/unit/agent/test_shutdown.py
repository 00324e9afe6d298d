"""A machine that goes down: how it is known, and how containers end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "worker"))

from fakes import FakeRuntime

from agent import shutdown
from agent.runtime.api import ContainerConfig, ExitStatus, Status
from common import errors


@pytest.mark.parametrize(
    ("command", "stops"),
    [
        (("echo", "stopping"), True),
        (("echo", "running"), False),
        (("echo", "degraded"), False),
        (("/does/not/exist",), False),
    ],
)
async def test_what_systemd_says(command: Sequence[str], stops: bool) -> None:
    assert await shutdown.machine_is_stopping(command) is stops


async def test_a_systemd_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_ASKING", 0.05)
    assert not await shutdown.machine_is_stopping(("sleep", "1000"))


async def with_containers(runtime: FakeRuntime, *ids: str) -> None:
    for id in ids:
        await runtime.create(ContainerConfig(id, id, "alpine"))
        await runtime.start_container(id)


async def test_everything_that_runs_is_stopped_and_nothing_else() -> None:
    runtime = FakeRuntime()
    await with_containers(runtime, "a", "b", "c")
    runtime.exit("b", 0)
    await shutdown.stop_containers(runtime)
    assert sorted(call for call in runtime.calls if call.startswith("stop")) == ["stop a", "stop c"]
    assert {state.status for state in await runtime.containers()} == {Status.STOPPED}


async def test_one_that_cannot_be_stopped_holds_up_no_other() -> None:
    runtime = FakeRuntime()
    await with_containers(runtime, "a", "b")
    runtime.fail["stop"] = errors.Unavailable("containerd is away")
    await shutdown.stop_containers(runtime)
    assert sorted(call for call in runtime.calls if call.startswith("stop")) == ["stop a", "stop b"]


async def test_a_stop_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_KILLING", 0.05)

    class Deaf(FakeRuntime):
        async def stop(self, id: str, signal: str = "", grace_s: float | None = None) -> ExitStatus:
            await asyncio.Event().wait()
            raise AssertionError

    runtime = Deaf()
    await runtime.create(ContainerConfig("a", "a", "alpine", stop_grace_ns=0))
    await runtime.start_container("a")
    async with asyncio.timeout(30):
        await shutdown.stop_containers(runtime)
