"""A whole run: machines with managers and agents, clients, faults, then peace, and the verdict. All from one seed.

`run_seed` is the way in for seeds, `staged` for directed scenarios.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from manager.raft.replica import Limits
from tests.simulation.managers.checks import Violation
from tests.simulation.managers.clients import Client
from tests.simulation.managers.faults import Faults
from tests.simulation.managers.loop import SharedLoop
from tests.simulation.managers.room import Room
from tests.simulation.managers.standins import standins
from tests.simulation.virtual import Deadlock

T = TypeVar("T")
FAULTS = 30.0
"""Seconds with faults."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a run."""

    seed: int
    managers: int
    wrong: str
    operations: int
    writes: int
    entries: int
    settled: float
    verdict: str
    digest: str


def staged(
    story: Callable[[Room], Awaitable[T]],
    seed: int,
    trace: Callable[[str], None] | None = None,
    **limits: Any,
) -> T:
    """Runs a story in a room of its own; raises Violation."""
    try:
        return _staged(story, seed, Limits(**limits), trace)
    except BaseExceptionGroup as group:
        found = group.subgroup(Violation)
        if found is None:
            raise
        raise _first(found) from group


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _staged(
    story: Callable[[Room], Awaitable[T]], seed: int, limits: Limits, trace: Callable[[str], None] | None
) -> T:
    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="shoal-managers-", dir=base))
    loop = SharedLoop()
    room = Room(loop, path, seed, limits, trace)
    loop.set_exception_handler(room.noise)

    async def whole() -> T:
        try:
            return await story(room)
        finally:
            await room.bury()

    level = logging.root.manager.disable
    if trace is None:
        logging.disable(logging.CRITICAL)
    try:
        # The stand-ins stay until the runner has ended all that is left.
        with (
            standins(room.network, random.Random(seed), room.checks, limits),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            return runner.run(whole())
    finally:
        logging.disable(level)
        shutil.rmtree(path, ignore_errors=True)


async def faulty(room: Room, managers: int) -> tuple[float, str]:
    """Faults and clients for a while, then peace; gives how long it took to settle, and the verdict."""
    rng = room.rng
    await room.grow(managers, rng.choice((0, 1, 1)))
    await room.services(rng.choice((1, 3, 5)), rng.choice((1, 2, 3)), rng.random() < 0.5)
    await room.until(lambda: not room.unsettled(), 60, room.unsettled)
    room.say("faults begin")
    room.think = rng.choice((0.1, 0.3, 1.0))
    room.clients = [Client(room, f"c{n}") for n in range(rng.randrange(2, 5))]
    async with asyncio.TaskGroup() as group:
        busy = [group.create_task(c.run()) for c in room.clients]
        busy.append(group.create_task(Faults(room).run()))
        end = room.loop.now + FAULTS
        await room.until(lambda: room.loop.now >= end, FAULTS + 1, "the faults end")
        for task in busy:
            task.cancel()
    room.say("peace")
    room.calm()
    took = await room.settle()
    return took, room.judge()


def size_of(seed: int) -> int:
    """Managers of a seed: mostly three."""
    return (3, 3, 3, 5, 3, 3, 2, 3, 3, 1)[seed % 10]


def run_seed(seed: int, size: int = 0, trace: Callable[[str], None] | None = None) -> Result:
    """One run; what is wrong is in the result."""
    size = size or size_of(seed)
    choice = random.Random(seed * 7 + 1)
    interval = choice.choice((10_000, 200, 60, 25))
    limits = Limits(snapshot_interval=interval, keep_entries=min(interval, choice.choice((5, 20, 500))))
    kept: list[Room] = []
    settled, verdict, wrong = 0.0, "", ""

    async def story(room: Room) -> tuple[float, str]:
        kept.append(room)
        return await faulty(room, size)

    collects = gc.isenabled()
    gc.disable()
    try:
        settled, verdict = _staged(story, seed, limits, trace)
    except (Violation, Deadlock) as exc:
        wrong = f"{type(exc).__name__}: {exc}"
    finally:
        if collects:
            gc.enable()
    room = kept[0]
    return Result(
        seed, size, wrong, len(room.history.operations), sum(c.written for c in room.clients), room.checks.last,
        settled, verdict, room.digest.hexdigest()[:16],
    )  # fmt: skip
