"""The ring of keys: who seals with which is known to everybody at every turn, and the time of the last one survives."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from common import model
from manager import keys_loop, lifecycle
from manager.keys import INTERVAL, SUBSYSTEMS, Keys, turned
from manager.store import Store

NOW = 1_000_000 * lifecycle.SECOND


def entropy() -> Callable[[int], bytes]:
    count = itertools.count(1)
    return lambda length: next(count).to_bytes(length, "big")


def cluster() -> model.Cluster:
    ring = tuple(model.EncryptionKey(use, bytes([9]) * 16, 1) for use in SUBSYSTEMS)
    return model.Cluster(id="c", network_keys=ring, key_clock=1, created_at=NOW)


def of(swarm: model.Cluster, use: str) -> list[model.EncryptionKey]:
    return [key for key in swarm.network_keys if key.subsystem == use]


def test_three_of_each_use_the_oldest_goes() -> None:
    swarm, make = cluster(), entropy()
    seen = []
    for turn in range(5):
        swarm = turned(swarm, NOW + turn, make)
        seen.append([key.lamport_time for key in of(swarm, "networking:gossip")])
        assert seen[-1] == [key.lamport_time for key in of(swarm, "networking:ipsec")]
    assert seen == [[1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]]
    assert (swarm.key_clock, swarm.network_keys_turned_at) == (6, NOW + 4)
    assert len({key.key for key in swarm.network_keys}) == 6
    assert {len(key.key) for key in swarm.network_keys} == {16}


class View:
    def __init__(self, swarm: model.Cluster) -> None:
        self.cluster = swarm


def loop_for(swarm: model.Cluster) -> Keys:
    made = Keys(entropy())
    made.reset(View(swarm))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        (0, NOW + INTERVAL - 1, False),
        (0, NOW + INTERVAL, True),
        (NOW + 5, NOW + INTERVAL, False),
        (NOW + 2 * INTERVAL, NOW, True),  # by a clock that was wrong
    ],
)
def test_when_a_turn_is_due(last: int, now: int, due: bool) -> None:
    loop = loop_for(replace(cluster(), network_keys_turned_at=last))
    assert loop.pending(now) is due
    view = View(replace(cluster(), network_keys_turned_at=last))
    plan = loop.reconcile(view, now)  # type: ignore[arg-type]
    assert bool(plan.changes) is due
    assert not loop.pending(now)


def test_without_a_swarm_there_is_nothing_to_turn() -> None:
    assert loop_for(model.Cluster()).deadline() is None


@pytest.mark.parametrize(
    ("asked", "seconds"), [("", 43_200), ("60", 60), ("1", 10), ("often", 43_200), ("-5", 43_200)]
)
def test_how_often(asked: str, seconds: int) -> None:
    assert keys_loop.interval(asked) == seconds * lifecycle.SECOND


async def test_the_leader_turns_them_and_writes_down_when() -> None:
    class Clock:
        def now_ns(self) -> int:
            return NOW + INTERVAL

        def monotonic(self) -> float:
            return 0.0

    store = Store(Clock())
    indexes = itertools.count(1)

    async def propose(data: bytes) -> int:
        index = next(indexes)
        store.apply(index, 1, data)
        return index

    store.attach(propose)
    await store.update(lambda tx: tx.put(cluster()))
    turned_once = asyncio.Event()
    store.subscribe(lambda changes: turned_once.set())
    loop = asyncio.create_task(keys_loop.run(store, Clock()))
    async with asyncio.timeout(30):
        await turned_once.wait()
    loop.cancel()
    await asyncio.wait([loop])
    after = store.view().cluster
    assert len(of(after, "networking:gossip")) == 2
    assert after.network_keys_turned_at == NOW + INTERVAL
