"""What several users, a policy and the container itself do to it at once: whoever comes last gets what he wants, and nothing is lost.

The world is made of steps: every call of the runtime, the network, the managers and the disk takes some, drawn by hypothesis, and
so are the moments at which somebody asks for something.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.network.api import Sandbox
from agent.runtime.api import ContainerEvent, EventKind, ExitStatus, Status
from agent.single.record import Leg, SingleRecord
from common import errors
from tests.unit.agent.single.single_bench import Attachments, Bench, Memory, Network, Runtime

ID = "one"
RUNNING = (Status.RUNNING, Status.PAUSED)


@dataclass
class Steps:
    """How long each call takes, in turn."""

    drawn: tuple[int, ...]
    _next: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._next = itertools.cycle(self.drawn or (0,))

    async def take(self) -> None:
        for _ in range(next(self._next)):
            await asyncio.sleep(0)


class SlowRuntime(Runtime):
    """As agent/runtime/containers.py: one start or removal at a time, a stop is for the run that it found."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        super().__init__(folder)
        self.steps = steps
        self.changing = asyncio.Lock()
        self.run = 0
        self.short = self.refused = (
            0  # how many of the next runs end at once, how many of the next starts fail
        )
        self.ended = asyncio.Event()

    async def start_container(self, id: str) -> int:
        async with self.changing:
            await self.steps.take()
            if id not in self.found:
                raise errors.NotFound(f"No such container: {id}")
            if self.found[id].status not in RUNNING:
                if self.refused:
                    self.refused -= 1
                    raise errors.ShoalError("not now")
                await super().start_container(id)
                self.run, self.ended = self.run + 1, asyncio.Event()
                if self.short:
                    self.short -= 1
                    await self.exit(id, 1)
            await self.steps.take()
        return 7

    async def exit(self, id: str, code: int = 0) -> None:
        if id in self.found and self.found[id].status in RUNNING:
            self.found[id] = replace(
                self.found[id], status=Status.STOPPED, pid=0, exit=ExitStatus(code, self.run)
            )
            self.ended.set()
            self.events.put_nowait(ContainerEvent(EventKind.EXIT, id, 0))

    async def stop(self, id: str, signal: str, grace_s: float | None) -> None:
        run, ended = self.run, self.ended
        if self.found[id].status not in RUNNING:
            return
        await self.steps.take()
        if self.run == run:
            await self.exit(id, 143)
        await ended.wait()

    async def kill(self, id: str, signal: str = "SIGKILL") -> None:
        await self.steps.take()
        if id not in self.found or self.found[id].status not in RUNNING:
            raise errors.Conflict("is not running")
        if signal == "SIGKILL":
            await self.exit(id, 137)
        await self.steps.take()

    async def wait(self, id: str) -> None:  # type: ignore[override]
        await self.ended.wait()

    async def remove(self, id: str, force: bool = False) -> None:
        async with self.changing:
            await self.steps.take()
            await super().remove(id, force)
            await self.steps.take()

    async def readdress(self, id: str, addresses: Any) -> None:
        await self.steps.take()

    async def rename(self, id: str, name: str) -> None:
        await self.steps.take()
        if id not in self.found:
            raise errors.NotFound(f"No such container: {id}")
        await super().rename(id, name)
        await self.steps.take()


class SlowNetwork(Network):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    async def attach_local(self, id: str) -> Sandbox:
        await self.steps.take()
        return await super().attach_local(id)

    async def detach(self, id: str) -> None:
        await self.steps.take()
        await super().detach(id)


class SlowAttachments(Attachments):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    async def acquire(self, record: SingleRecord, leg: Leg) -> str:
        await self.steps.take()
        place = await super().acquire(record, leg)
        self.names[place] = record.name
        await self.steps.take()
        return place


class SlowMemory(Memory):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    async def put_single(self, record: SingleRecord) -> None:
        await super().put_single(record)
        await self.steps.take()


class World(Bench):
    def __init__(self, folder: Path, steps: Steps) -> None:
        self.runtime, self.network = SlowRuntime(folder, steps), SlowNetwork(steps)
        self.attachments, self.memory = SlowAttachments(steps), SlowMemory(steps)
        self.singles = self.again()
        self.singles.settling.first = 0.0
        self.results: list[BaseException | object] = []

    async def quiet(self, known: set[asyncio.Task[Any]]) -> None:
        """Nothing is left to do."""
        idle = 0
        while idle < 5:
            await asyncio.sleep(0)
            busy = asyncio.all_tasks() - known or not self.runtime.events.empty()
            idle = 0 if busy else idle + 1


@dataclass(frozen=True)
class Ask:
    """Somebody wants something, some steps after the one before."""

    what: str
    after: int = 0


async def arrange(what: Callable[[], None]) -> None:
    what()


def call(world: World, ask: Ask, number: int) -> Any:
    singles = world.singles
    calls: dict[str, Callable[[], Any]] = {
        "start": lambda: singles.start(ID),
        "stop": lambda: singles.stop(ID),
        "restart": lambda: singles.restart(ID),
        "kill": lambda: singles.kill(ID, "SIGKILL"),
        "signal": lambda: singles.kill(ID, "SIGHUP"),
        "rename": lambda: singles.rename(ID, f"name-{number}"),
        "remove": lambda: singles.remove(ID, force=True),
        "crash": lambda: world.runtime.exit(ID, 1),
        "look": lambda: world.runtime.events.put(ContainerEvent(EventKind.RESYNC, "", 0)),
        "stuck": lambda: arrange(lambda: world.network.stuck.append(errors.Internal("stuck"))),
        "short": lambda: arrange(lambda: setattr(world.runtime, "short", world.runtime.short + 1)),
        "refused": lambda: arrange(lambda: setattr(world.runtime, "refused", world.runtime.refused + 1)),
    }
    return calls[ask.what]()


ASKS = (
    "start", "stop", "restart", "kill", "signal", "rename", "remove", "crash", "look", "stuck", "short", "refused",
)  # fmt: skip
asks = st.lists(st.builds(Ask, st.sampled_from(ASKS), st.integers(0, 12)), min_size=1, max_size=8)


async def live(folder: Path, steps: Steps, said: list[Ask], record: dict[str, Any]) -> World:
    """All of it, until nothing happens any more; then what must be true whatever came when."""
    world = World(folder, steps)
    await world.create(ID, legs=(Leg("net"),), network_mode="net", **record)
    running = asyncio.create_task(world.singles.run())
    known = {running, *asyncio.all_tasks()}
    async with asyncio.timeout(60):
        await world.quiet(known)
        jobs = []
        for number, ask in enumerate(said):
            for _ in range(ask.after):
                await asyncio.sleep(0)
            jobs.append(asyncio.ensure_future(call(world, ask, number)))
        world.results = await asyncio.gather(*jobs, return_exceptions=True)
        await world.quiet(known)
    running.cancel()
    await asyncio.wait([running])
    for result in world.results:
        assert not isinstance(result, BaseException) or isinstance(result, errors.ShoalError), result
    return world


def check(world: World, said: list[Ask]) -> None:
    state, record = world.runtime.found.get(ID), world.memory.rows.get(ID)
    assert dict(world.singles.records()) == world.memory.rows
    assert (state is None) == (record is None)
    assert not world.singles.restarts.waits(ID)
    runs = state is not None and state.status in RUNNING
    assert world.network.local == ({ID} if runs else set())
    assert world.attachments.held == (set(record.attachments) if record is not None else set())
    if record is not None and state is not None:
        assert record.name == state.name and not record.removing
        assert bool(record.attachments) == runs == bool(record.sandbox)
        assert all(world.attachments.names[place] == state.name for place in record.attachments)
        renamed = [n for n, ask in enumerate(said) if ask.what == "rename" and world.results[n] is None]
        assert record.name == (f"name-{renamed[-1]}" if renamed else "name-one")
        if runs:
            assert not record.stopped
        if state.status is Status.STOPPED:
            assert not record.auto_remove
            assert record.stopped or record.error or record.restart != "always"
    ends = [ask.what for ask in said if ask.what in ("start", "stop", "restart", "remove")]
    if "remove" in ends:
        assert state is None
    elif ends and ends[-1] == "stop":
        assert not runs


@pytest.mark.parametrize("record", [{"restart": "always"}, {}, {"auto_remove": True}], ids=str)
@settings(max_examples=80, deadline=None)
@given(steps=st.lists(st.integers(0, 4), min_size=1, max_size=9), said=asks)
@example(steps=[3], said=[Ask("start"), Ask("stop", 2)])
@example(steps=[3], said=[Ask("start"), Ask("crash", 60), Ask("stop", 6)])
@example(steps=[2], said=[Ask("start"), Ask("restart", 60), Ask("stop", 6)])
@example(steps=[1], said=[Ask("start"), Ask("remove", 3)])
@example(steps=[0, 0, 0, 4, 0, 0], said=[Ask("short"), Ask("short"), Ask("start", 1)])
@example(steps=[1], said=[Ask("refused"), Ask("start", 1), Ask("stuck", 3)])
@example(steps=[1], said=[Ask("start"), Ask("rename", 4), Ask("crash", 40), Ask("look")])
def test_whoever_comes_last_gets_what_he_wants(
    steps: list[int], said: list[Ask], record: dict[str, Any]
) -> None:
    async def at_once(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(mock.patch("agent.single.restarting._FIRST", 0.0))
        stack.enter_context(mock.patch("agent.single.namespaces.asyncio.to_thread", at_once))
        check(asyncio.run(live(folder, Steps(tuple(steps)), said, record)), said)
