"""``make bench``: Shoal beside a real Docker Swarm, in one run, in alternating order.

    python -m benchmarks.swarm [--rounds N] [--only NAME]… [--side NAME]… [--keep] [--file FILE] [--no-page]

Two labs of three machines each stand side by side on this host. In every round each measure is taken on both, and the one
that goes first changes. Each repetition is saved at once: called again on the same day and commit (or with --file),
a run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.docker_lab import DockerSide
from benchmarks.engine import BenchError
from benchmarks.lab import Side
from benchmarks.measure import MEASURES, Measure, settle
from benchmarks.report import comparison, per_daemon, write_page
from benchmarks.results import Repetition, Results, now

ROUNDS = 7
SIDES: dict[str, Callable[[], Side]] = {"shoal": Side, "docker": DockerSide}

_began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _began:6.0f} s] {text}", flush=True)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swarm", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"repetitions of each measure ({ROUNDS})")
    names = ", ".join(m.name for m in MEASURES)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"only measures that begin so: {names}"
    )
    parser.add_argument("--side", action="append", choices=list(SIDES), help="only this side: no comparison")
    parser.add_argument("--keep", action="store_true", help="use labs that stand, and leave them standing")
    parser.add_argument("--file", type=Path, help="the results file to begin or to go on with")
    parser.add_argument("--no-page", action="store_true", help="leave docs/measurements.md as it is")
    return parser.parse_args(argv)


def wanted(only: list[str] | None) -> list[Measure]:
    chosen = [m for m in MEASURES if not only or any(m.name.startswith(prefix) for prefix in only)]
    if not chosen:
        raise BenchError(f"no measure begins with {', '.join(only or [])}")
    return chosen


def bring_up(sides: list[Side], keep: bool) -> None:
    for side in sides:
        if not keep:
            side.down()
        say(f"{side.name}: three machines and a swarm")
        side.up()


def take(measure: Measure, sides: list[Side], turn: int, results: Results) -> None:
    """One repetition, saved; one that fails is noted and its leftovers are removed."""
    order = sides if (turn + MEASURES.index(measure)) % 2 else sides[::-1]
    busy = settle()
    say(f"round {turn}: {measure.name} ({', '.join(s.name for s in order)})")
    results.measures[measure.name] = measure.what
    try:
        figures = measure.take(order)
    except BenchError as error:
        say(f"FAILED: {error}")
        results.failures.append({"measure": measure.name, "round": turn, "at": now(), "text": str(error)})
        results.save()
        for side in sides:
            side.clear()
        return
    for name, values in figures.items():
        say(f"  {name}: " + ", ".join(f"{k} {' '.join(f'{v:.3g}' for v in vs)}" for k, vs in values.items()))
    plain = {side: {k: list(v) for k, v in values.items()} for side, values in figures.items()}
    names = [s.name for s in order]
    results.failures = [f for f in results.failures if (f["measure"], f["round"]) != (measure.name, turn)]
    results.repetitions.append(Repetition(measure.name, turn, names, now(), round(busy, 3), plain))
    results.save()


def run_all(options: argparse.Namespace, sides: list[Side], results: Results) -> None:
    measures = wanted(options.only)
    bring_up(sides, options.keep)
    results.sides = {side.name: side.about() for side in sides}
    for turn in range(1, options.rounds + 1):
        for measure in measures:
            if results.done(measure.name, turn):
                say(f"round {turn}: {measure.name} is in the file")
            else:
                take(measure, sides, turn, results)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    if os.geteuid() != 0:
        print("bench: must be run as root", file=sys.stderr)
        return 1
    sides = [SIDES[name]() for name in options.side or SIDES]
    try:
        wanted(options.only)
        results = Results.open(options.file)
        try:
            run_all(options, sides, results)
        finally:
            if not options.keep:
                with ThreadPoolExecutor(len(sides)) as pool:
                    list(pool.map(lambda side: side.down(), sides))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("\n".join([*comparison(results), "", *per_daemon(results)]))
    if not options.no_page:
        write_page(results)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
