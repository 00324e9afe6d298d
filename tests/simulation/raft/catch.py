"""Runs scenarios and seeds until the core is caught at something wrong: for cores with a planted bug.

    python -P -m tests.simulation.raft.catch --core DIRECTORY [--scenario NAME]... [--seeds N]

PYTHONPATH must lead to the core that is meant before it leads to the right one; it is checked that it does. Prints a
line of JSON for each way of looking: what, caught (a sentence, or empty), runs. Errors that aren't of Raft go through.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import manager.raft.core as core
from manager.raft.core.errors import RaftError
from tests.simulation.raft import directed_membership, directed_reads
from tests.simulation.raft.cluster import run_seed
from tests.simulation.raft.invariants import Violation
from tests.simulation.raft.stage import Failed


def by_scenario(name: str) -> str:
    """What a scenario says, empty if it is content."""
    try:
        (directed_membership.SCENARIOS | directed_reads.SCENARIOS)[name]()
    except (Failed, Violation, RaftError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return ""


def by_seeds(count: int) -> tuple[str, int]:
    """What the first bad seed says, and how many runs it took."""
    for seed in range(count):
        wrong = run_seed(seed).wrong
        if wrong:
            return wrong, seed + 1
    return "", count


def main() -> int:
    """0 if everything that was asked for has caught something."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--core", type=Path, required=True)
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=0)
    options = parser.parse_args()
    found = Path(core.__path__[0]).resolve()
    if found != options.core.resolve():
        sys.exit(f"the core is {found}, not {options.core}")
    missed = 0
    for name in options.scenario:
        wrong = by_scenario(name)
        missed += not wrong
        print(json.dumps({"what": name, "caught": wrong, "runs": 1}), flush=True)
    if options.seeds:
        wrong, runs = by_seeds(options.seeds)
        missed += not wrong
        print(json.dumps({"what": "seeds", "caught": wrong, "runs": runs}), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
