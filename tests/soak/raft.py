"""Many seeds of the simulated agreement, or one seed again: `make soak-raft N=100000 FIRST=0`.

python -m tests.soak.raft --runs 100000        goes on where it was stopped, unless the code has changed
python -m tests.soak.raft --first 50000        from another seed on, with a result of its own
python -m tests.soak.raft --seed 4711          one run again, with its verdict
python -m tests.soak.raft --seed 4711 --trace  and with all that happened in it
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from tests.simulation.raft.cluster import run_seed
from tests.soak import seeds

CODE = (
    "manager/raft/core", "manager/raft/members.py", "manager/raft/replica.py", "manager/raft/stable.py", "tests/simulation/history.py",
    "tests/simulation/raft",
)  # fmt: skip


@dataclass(slots=True)
class Soak(seeds.Soak):
    """Runs of the agreement alone."""

    events: int = 0
    operations: int = 0
    commits: int = 0

    def once(self, seed: int) -> str:
        result = run_seed(seed)
        self.events += result.events
        self.operations += result.operations
        self.commits += result.commits
        self.longest_settling = max(self.longest_settling, result.settled)
        return result.wrong

    def told(self) -> str:
        return (
            f"{self.events} events, {self.operations} operations of clients, {self.commits} commits, agreement at most "
            f"{self.longest_settling:.0f} ticks after the faults, "
            f"{self.events / max(self.seconds, 0.001):.0f} events/s"
        )


def replay(seed: int, size: int, trace: bool) -> int:
    """One run again."""
    result = run_seed(seed, size, print if trace else None)
    print(f"seed {seed}, {result.size} members, {result.events} events, {result.commits} commits")
    print(result.wrong or result.verdict)
    return 1 if result.wrong else 0


def main() -> int:
    """0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    seeds.arguments(parser, 100_000)
    parser.add_argument("--size", type=int, default=0, help="members, if the seed isn't to decide")
    options = parser.parse_args()
    if options.seed is not None:
        return replay(options.seed, options.size, options.trace)
    return seeds.soak(Soak, "raft", seeds.fingerprint(*CODE), options)


if __name__ == "__main__":
    sys.exit(main())
