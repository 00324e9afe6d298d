"""Managers end when they are told to, whatever happens between them in that moment."""

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from managers import Machines, machines

from common import errors, model


def under_way(swarm: Machines, rng: random.Random) -> list[Coroutine[Any, Any, Any]]:
    """Joins, and perhaps a departure."""
    a, b, c = swarm.all.values()
    work = [b.join(a)]
    if rng.random() < 0.5:
        work.append(c.join(a))
    if rng.random() < 0.3:
        work.append(a.leave(force=True))
    if rng.random() < 0.3:
        work.append(a.running.local.Init(model.InitRequest(force_new_cluster=True), timeout=60))
    return work


@pytest.mark.parametrize("seed", range(8))
async def test_told_to_end_at_any_moment(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with machines(tmp_path, "a", "b", "c") as swarm:
        tasks = [asyncio.ensure_future(each) for each in under_way(swarm, rng)]
        await asyncio.wait(tasks, timeout=rng.choice((0.02, 0.1, 0.3, 0.8, 1.5)) * rng.random())
        names = list(swarm.all)
        rng.shuffle(names)
        await asyncio.gather(*(swarm.off(name) for name in names))
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, AssertionError):
            raise result
        assert not isinstance(result, BaseException) or fails_well(result), repr(result)


def fails_well(exc: BaseException) -> bool:
    """How a call may end whose manager ended: with it went the channel, in the middle of the call or before it began."""
    ends = (asyncio.CancelledError, errors.ShoalError, grpc.aio.AioRpcError, grpc.aio.UsageError)
    return isinstance(exc, ends)
