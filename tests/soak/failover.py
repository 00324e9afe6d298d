"""How long nobody answers a write when the leader is lost, in each of the ways: `make soak-failover N=50`.

N times each, in turn. A time begins before the blow and ends when the docker CLI on another manager has been told that
its write is done: it holds what the blow and the command itself take. The result is a file of JSON in
tests/soak/results/, saved after each; a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.lab.managers import LOSSES, Managers, lose_leader
from tests.soak import swarm

RESULT = swarm.RESULTS / "failover.json"


def percentile(values: list[float], part: float) -> float:
    """The smallest of the values that at least this part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]


def table(found: dict[str, Any]) -> str:
    """The distribution, a line for each way."""
    lines = [f"{'leader':<12} {'times':>5} {'min':>6} {'median':>6} {'p90':>6} {'max':>6}  seconds"]
    everything: list[float] = []
    for loss in LOSSES:
        seconds = found["seconds"].get(loss.name, [])
        everything += seconds
        if seconds:
            lines.append(_line(loss.name, seconds))
    if everything:
        lines.append(_line("all", everything))
    return "\n".join(lines)


def _line(name: str, seconds: list[float]) -> str:
    figures = (min(seconds), statistics.median(seconds), percentile(seconds, 0.9), max(seconds))
    return f"{name:<12} {len(seconds):>5} " + " ".join(f"{figure:>6.2f}" for figure in figures)


def run(lab: Managers, found: dict[str, Any], times: int, path: Path) -> None:
    """Goes on until each way was tried so many times."""
    seconds_of = found["seconds"]
    while True:
        loss = min(LOSSES, key=lambda each: len(seconds_of.setdefault(each.name, [])))
        if len(seconds_of[loss.name]) >= times:
            return
        victim, seconds = lose_leader(lab, loss)
        seconds_of[loss.name].append(round(seconds, 3))
        swarm.save(path, found)
        print(f"{victim.name} {loss.name}: {seconds:.2f} s", flush=True)
        loss.repair(lab, victim)
        lab.wait_settled(60)


def main() -> int:
    """0 when it was done."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=50, help="of each way")
    options = parser.parse_args()
    with swarm.five() as lab:
        found = swarm.load(RESULT, {"seconds": {}})
        try:
            run(lab, found, options.times, RESULT)
        finally:
            print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
