"""Random cycles: whatever happened, every machine's names, balancers, entries and conntrack come to say what the store says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab.cycles import Cycles
from tests.lab.support import Lab

pytestmark = pytest.mark.lab
MOST, SECONDS = 20, 25.0  # `make soak-network` has more


@pytest.fixture
def cycles(swarm: Lab) -> Iterator[Cycles]:
    made = Cycles(swarm, long=False)
    made.begin()
    yield made
    made.end()


def test_every_machine_agrees_with_the_store(cycles: Cycles, say: Callable[[str], None]) -> None:
    began, done = time.monotonic(), 0
    assert cycles.sampler is not None
    # At least until it has seen a task end, however slow the machine is.
    while done < MOST and (time.monotonic() < began + SECONDS or not cycles.sampler.ended):
        wrong = cycles.once(done)
        assert not wrong, f"seed {done}: {', '.join(cycles.told)}: {wrong}"
        done += 1
    assert cycles.sampler.ended
    say(f"{cycles.sampler.ended} tasks ended, {done} cycles in {time.monotonic() - began:.0f} s")
