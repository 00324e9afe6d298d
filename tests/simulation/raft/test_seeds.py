"""A fixed range of seeds, and some that nobody has seen; `make soak-raft` runs many more."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tests.simulation.raft.cluster import run_seed
from tests.simulation.raft.member import Answer, Member

BLOCK = 250


def check(seeds: Iterable[int]) -> None:
    """Fails with all that is wrong, and how to see it again."""
    wrong = [result for seed in seeds if (result := run_seed(seed)).wrong]
    assert not wrong, "\n".join(
        f"{result.wrong}\n    python -m tests.soak.raft --seed {result.seed} --trace" for result in wrong
    )


@pytest.mark.parametrize("first", range(0, 2_000, BLOCK))
def test_known_seeds(first: int) -> None:
    check(range(first, first + BLOCK))


def test_fresh_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    first = random.SystemRandom().randrange(1 << 20, 1 << 40)
    with capsys.disabled():
        print(f" seeds {first} to {first + 199}: ", end="")
    check(range(first, first + 200))


def test_a_seed_is_one_run() -> None:
    assert run_seed(7) == run_seed(7)
    assert run_seed(7) != run_seed(17)


def test_clients_alone_notice_stale_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What members do is checked step by step; the clients' history must be enough too."""

    def read_here(self: Member, key: str, answer: Answer) -> None:
        if self.leads and not self.paused:
            answer(True, self.values.get(key))

    monkeypatch.setattr(Member, "read", read_here)
    verdicts = [run_seed(seed).wrong for seed in range(150)]
    assert any("not linearizable" in verdict for verdict in verdicts)


def test_runs_do_something() -> None:
    """A run whose clients never get through would find nothing."""
    results = [run_seed(seed) for seed in range(40)]
    assert sum(result.commits for result in results) > 40 * 20
    assert sum(result.operations for result in results) > 40 * 40
