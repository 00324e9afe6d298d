"""Runs scenarios and seeds until a simulation catches something wrong: for code with a planted bug.

What raft/catch.py and managers/catch.py have in common:

    python -P -m tests.simulation.NAME.catch --code DIRECTORY [--scenario NAME]... [--seeds N]

PYTHONPATH must lead to the code that is meant before it leads to the right one; it is checked that it does. Prints a
line of JSON for each way of looking: what, caught (a sentence, or empty), runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import manager


def catch(scenario: Callable[[str], str], seed: Callable[[int], str]) -> int:
    """Both say what is wrong, empty if nothing is. 0 if everything that was asked for has caught something."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--code", type=Path, required=True)
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=0)
    options = parser.parse_args()
    found = Path(manager.__path__[0]).resolve().parent
    if found != options.code.resolve():
        sys.exit(f"the code is in {found}, not in {options.code}")
    caught = [_tell(name, scenario(name), 1) for name in options.scenario]
    if options.seeds:
        caught.append(_tell("seeds", *_first_of(seed, options.seeds)))
    return 0 if all(caught) else 1


def _first_of(seed: Callable[[int], str], count: int) -> tuple[str, int]:
    """What the first bad seed says, and how many runs it took."""
    for number in range(count):
        if wrong := seed(number):
            return wrong, number + 1
    return "", count


def _tell(what: str, wrong: str, runs: int) -> bool:
    print(json.dumps({"what": what, "caught": wrong, "runs": runs}), flush=True)
    return bool(wrong)
