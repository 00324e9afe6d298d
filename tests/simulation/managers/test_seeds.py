"""A fixed range of seeds, and some that nobody has seen; `make soak-managers` runs many more."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.simulation.managers.runs import run_seed

BLOCK = 10


def check(seeds: Iterable[int]) -> None:
    """Fails with all that is wrong, and how to see it again."""
    wrong = [result for seed in seeds if (result := run_seed(seed)).wrong]
    assert not wrong, "\n".join(
        f"{result.wrong}\n    python -m tests.soak.managers --seed {result.seed} --trace" for result in wrong
    )


@pytest.mark.parametrize("first", range(0, 100, BLOCK))
def test_known_seeds(first: int) -> None:
    check(range(first, first + BLOCK))


def test_fresh_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    first = random.SystemRandom().randrange(1 << 20, 1 << 40)
    with capsys.disabled():
        print(f" seeds {first} to {first + BLOCK - 1}: ", end="")
    check(range(first, first + BLOCK))


def test_a_seed_is_one_run() -> None:
    assert run_seed(6) == run_seed(6)
    assert run_seed(6) != run_seed(16)


def test_runs_leave_no_open_files() -> None:
    """Managers are killed in them, and removed, and their logs are opened again: thousands of runs fit into a process."""
    run_seed(0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    check((4, 5, 9, 13))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_runs_do_something() -> None:
    """A run whose clients never get through would find nothing."""
    results = [run_seed(seed) for seed in range(100, 110)]
    assert sum(result.writes for result in results) > 10 * 10
    assert sum(result.operations for result in results) > 10 * 50
