"""Runs scenarios and seeds until the managers are caught at something wrong: for managers with a planted bug.

    python -P -m tests.simulation.managers.catch --code DIRECTORY [--scenario NAME]... [--seeds N]

PYTHONPATH must lead to the code that is meant before it leads to the right one; it is checked that it does. Prints a
line of JSON for each way of looking: what, caught (a sentence, or empty), runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import manager
from tests.simulation.managers import directed
from tests.simulation.managers.checks import Violation
from tests.simulation.managers.room import run_seed


def by_scenario(name: str) -> str:
    """What a scenario says, empty if it is content."""
    try:
        directed.SCENARIOS[name](None)
    except Violation as exc:
        return str(exc)
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
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=0)
    options = parser.parse_args()
    found = Path(manager.__path__[0]).resolve().parent
    if found != options.code.resolve():
        sys.exit(f"the code is in {found}, not in {options.code}")
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
