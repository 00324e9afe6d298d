"""Many seeds of the simulated managers, or one seed again: `make soak-managers N=5000 FIRST=0`.

python -m tests.soak.managers --runs 5000        goes on where it was stopped, unless the code has changed
python -m tests.soak.managers --first 5000       from another seed on, with a result of its own
python -m tests.soak.managers --seed 4711          one run again, with its verdict
python -m tests.soak.managers --seed 4711 --trace  and with all that happened in it, and the managers' own log
python -m tests.soak.managers --story NAME         a directed scenario, told like that
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.managers import directed, runs
from tests.simulation.managers.checks import Violation
from tests.soak import seeds

CODE = (
    "manager", "common", "agent", "tests/simulation/history.py", "tests/simulation/swarm.py",
    "tests/simulation/virtual.py", "tests/simulation/managers",
)  # fmt: skip


@dataclass(slots=True)
class Soak(seeds.Soak):
    """Runs of whole managers."""

    entries: int = 0
    operations: int = 0
    writes: int = 0

    def once(self, seed: int) -> str:
        result = runs.run_seed(seed)
        self.entries += result.entries
        self.operations += result.operations
        self.writes += result.writes
        self.longest_settling = max(self.longest_settling, result.settled)
        return result.wrong

    def told(self) -> str:
        return (
            f"{self.operations} operations of clients, {self.writes} acknowledged writes, {self.entries} entries, all in "
            f"order at most {self.longest_settling:.1f} s after the faults"
        )


def show_log() -> None:
    """The managers' own log, between what happens to them."""
    logging.basicConfig(level=logging.INFO, format="            %(name)s: %(message)s", stream=sys.stdout)


def replay(seed: int, size: int, trace: bool) -> int:
    """One run again."""
    if trace:
        show_log()
    result = runs.run_seed(seed, size, print if trace else None)
    print(f"seed {seed}, {result.managers} managers, {result.entries} entries, run {result.digest}")
    print(result.wrong or result.verdict)
    return 1 if result.wrong else 0


def tell(name: str) -> int:
    """A directed scenario again."""
    show_log()
    try:
        directed.SCENARIOS[name](print)
    except Violation as exc:
        print(f"{name}: {exc}")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    seeds.arguments(parser, 5_000)
    parser.add_argument("--managers", type=int, default=0, help="how many, if the seed isn't to decide")
    parser.add_argument("--story", choices=directed.SCENARIOS, help="a directed scenario")
    options = parser.parse_args(arguments)
    if options.story is not None:
        return tell(options.story)
    if options.seed is not None:
        return replay(options.seed, options.managers, options.trace)
    return seeds.soak(Soak, "managers", seeds.fingerprint(*CODE), options)


if __name__ == "__main__":
    sys.exit(main())
