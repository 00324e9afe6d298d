"""The one place that changes records, and turns at containers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.single.record import Leg, SingleRecord
from agent.single.records import Records
from agent.turns import Turns
from common import errors


class Memory:
    """A disk that takes its time, and writes in the order of the calls."""

    def __init__(self) -> None:
        self.rows: dict[str, SingleRecord] = {}
        self.writes = 0

    async def put_single(self, record: SingleRecord) -> None:
        self.rows[record.container_id] = record
        self.writes += 1
        await asyncio.sleep(0)

    async def drop_single(self, container_id: str) -> None:
        self.rows.pop(container_id, None)
        await asyncio.sleep(0)


async def test_changes_at_once_undo_nothing() -> None:
    memory = Memory()
    records = Records(memory, {"one": SingleRecord("one", "name")})
    await asyncio.gather(
        records.change("one", lambda now: replace(now, stopped=True)),
        records.change("one", lambda now: replace(now, name="new")),
        records.change("one", lambda now: replace(now, legs=(*now.legs, Leg("net")))),
    )
    assert records["one"] == memory.rows["one"]
    assert records["one"] == SingleRecord("one", "new", legs=(Leg("net"),), stopped=True)


async def test_what_changes_nothing_is_not_written_and_what_has_gone_is_not_changed() -> None:
    memory = Memory()
    records = Records(memory, {})
    await records.add(SingleRecord("one"))
    await records.change("one", lambda now: replace(now, stopped=False))
    assert (memory.writes, len(records), list(records)) == (1, 1, ["one"])
    await records.drop("one")
    await records.drop("one")
    with pytest.raises(errors.NotFound, match="No such container: one"):
        await records.change("one", lambda now: replace(now, stopped=True))
    assert memory.rows == {}


async def test_turns_come_in_order_and_leave_nothing() -> None:
    turns, goes, seen = Turns(), asyncio.Event(), list[int]()

    async def take(number: int) -> None:
        async with turns.of("one"):
            seen.append(number)
            await goes.wait()
            seen.append(number)

    jobs = [asyncio.create_task(take(number)) for number in range(4)]
    await asyncio.sleep(0)
    jobs[1].cancel()
    await asyncio.wait(jobs[1:2])
    assert seen == [0]
    goes.set()
    await asyncio.wait(jobs)
    assert seen == [0, 0, 2, 2, 3, 3]
    assert turns._known == {}
