"""Asking for network checks: whoever asks on and on costs the manager no memory, and others have their turn."""

from __future__ import annotations

import asyncio
from typing import cast

from common import errors, model
from common.clock import Clock
from manager.dispatcher.check_plan import Planned
from manager.dispatcher.checks import OF_ONE, WAITING, Checks
from manager.dispatcher.feed import Feed
from manager.dispatcher.session import MOST_TOLD, Session


def session(node_id: str) -> Session:
    return Session("s", node_id, b"", "", "192.0.2.1", Feed(str), 0.0)


def refusing(ask: model.CheckAsk, asker: str) -> Planned:
    raise errors.NotFound(f"network {ask.network_id} not found")


def checks() -> Checks:
    return Checks(dict, refusing, lambda _: (), cast(Clock, None), "m")


def ids(of: Session) -> list[str]:
    return [m.checked.id for m in of.told if m.checked is not None]


def test_a_flood_is_bounded_and_leaves_others_their_turn() -> None:
    made, flood, others = checks(), session("n1"), [session(f"n{n}") for n in range(2, 9)]
    for n in range(10_000):
        made.asked(flood, model.CheckAsk(str(n), "net"))
    assert len(flood.told) == MOST_TOLD
    assert ids(flood) == [str(n) for n in range(OF_ONE, OF_ONE + MOST_TOLD)]
    for other in others:
        made.asked(other, model.CheckAsk("mine", "net"))
    assert [len(other.told) for other in others] == [0] * (WAITING - OF_ONE) + [1] * (7 - WAITING + OF_ONE)
    assert others[-1].told[0].checked == model.NetworkCheck(
        id="mine", code="Unavailable", error="too many network checks at once: try again"
    )


async def test_each_that_was_taken_is_answered_and_makes_room() -> None:
    made, one = checks(), session("n1")
    running = asyncio.create_task(made.run())
    try:
        for turn in range(3):
            one.told.clear()
            for n in range(OF_ONE):
                made.asked(one, model.CheckAsk(f"{turn}.{n}", "net"))
            async with asyncio.timeout(30):
                while len(one.told) < OF_ONE:
                    one.wake.clear()
                    await one.wake.wait()
            assert ids(one) == [f"{turn}.{n}" for n in range(OF_ONE)]
            assert {m.checked.code for m in one.told if m.checked} == {"NotFound"}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_refusals_of_places_are_those_of_the_last_word() -> None:
    """An agent names all places that it wants each time: what was refused before is refused again, or wanted no more."""
    one = session("n1")
    for n in range(1000):
        one.refuse([model.AttachmentRefused(f"a{n}"), model.AttachmentRefused(f"b{n}")])
    assert [r.id for r in one.refused] == ["a999", "b999"]
