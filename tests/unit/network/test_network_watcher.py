"""When agent/network/watcher.py looks, and whose turn it is."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import watcher
from agent.network.watcher import next_turn, watch

NAMES = st.sets(st.text("abcdef", min_size=1, max_size=4), max_size=40).map(sorted)


@given(NAMES, st.integers(1, 9))
def test_everybody_has_a_turn_once_a_round(names: list[str], count: int) -> None:
    seen: list[str] = []
    last = ""
    for _ in range(-(-len(names) // count)):
        turn, last = next_turn(names, last, count)
        assert len(turn) <= count
        seen += turn
    assert seen == names
    assert last == ""


@given(NAMES, st.text("abcdef", max_size=4), st.integers(1, 9))
def test_names_that_went_do_not_stop_the_round(names: list[str], last: str, count: int) -> None:
    turn, _ = next_turn(names, last, count)
    assert bool(turn) == bool(names)


async def test_looks_when_there_is_news_and_tells_of_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PAUSE", 0.0)
    reading, writing = os.pipe()
    outcomes: list[dict[str, str] | OSError] = [{}, OSError("once"), {"n-one": "interface br0"}]
    told, looks = asyncio.Event(), 0

    async def look() -> dict[str, str]:
        nonlocal looks
        outcome = outcomes[looks]
        looks += 1
        if looks == len(outcomes):
            os.read(reading, 1)  # news stay until they are read
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    watching = asyncio.create_task(watch(lambda: [reading], look, told.set))
    try:
        await asyncio.sleep(0)
        assert looks == 0
        os.write(writing, b"x")
        await asyncio.wait_for(told.wait(), 30)
        assert looks == 3
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        os.close(reading)
        os.close(writing)
