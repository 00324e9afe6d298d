"""Many seeds of the simulated managers, or one seed again: `make soak-managers N=5000`.

    python -m tests.soak.managers --runs 5000        goes on where it was stopped, unless the code has changed
    python -m tests.soak.managers --seed 4711          one run again, with its verdict
    python -m tests.soak.managers --seed 4711 --trace  and with all that happened in it, and the managers' own log
    python -m tests.soak.managers --story NAME         a directed scenario, told like that

The result is a file of JSON in tests/soak/results/, saved every few seconds.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.simulation.managers import directed, room
from tests.simulation.managers.checks import Violation

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
SAVE_SECONDS = 5.0


@dataclass(slots=True)
class Soak:
    """What is known so far; runs are those of the seeds first..first+runs-1."""

    code: str
    first: int
    runs: int = 0
    entries: int = 0
    operations: int = 0
    writes: int = 0
    longest_settling: float = 0.0
    seconds: float = 0.0
    violations: list[dict[str, int | str]] = field(default_factory=list)
    date: str = ""
    commit: str = ""

    def sentence(self) -> str:
        """What came out."""
        return (
            f"{self.date}, commit {self.commit}: {self.runs} runs (seeds {self.first} to "
            f"{self.first + self.runs - 1}), {len(self.violations)} violations, {self.operations} operations of "
            f"clients, {self.writes} acknowledged writes, {self.entries} entries, all in order at most "
            f"{self.longest_settling:.1f} s after the faults, {self.seconds:.0f} s"
        )


def fingerprint() -> str:
    """Changes with the code that a run depends on."""
    digest = hashlib.sha256()
    for folder in ("manager", "common", "agent", "tests/simulation/managers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str:
    """The one that is checked out."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def load(path: Path, first: int) -> Soak:
    """What an earlier call has reached with this code, or nothing."""
    code = fingerprint()
    if path.exists():
        soak = Soak(**json.loads(path.read_text()))
        if (soak.code, soak.first) == (code, first):
            return soak
        print(f"{path} is of other code or seeds: from the beginning")
    return Soak(code, first, commit=commit())


def save(path: Path, soak: Soak) -> None:
    """Replaces the file at once."""
    soak.date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(soak), indent=1) + "\n")
    draft.replace(path)


def run(soak: Soak, runs: int, path: Path) -> None:
    """Goes on until so many runs are done."""
    before, begun = soak.seconds, time.monotonic()
    saved = begun
    while soak.runs < runs:
        seed = soak.first + soak.runs
        result = room.run_seed(seed)
        soak.runs += 1
        soak.entries += result.entries
        soak.operations += result.operations
        soak.writes += result.writes
        soak.longest_settling = max(soak.longest_settling, result.settled)
        now = time.monotonic()
        soak.seconds = before + now - begun
        if result.wrong:
            soak.violations.append({"seed": seed, "managers": result.managers, "wrong": result.wrong})
            print(f"seed {seed}, {result.managers} managers: {result.wrong}", flush=True)
        if now - saved >= SAVE_SECONDS or soak.runs >= runs:
            saved = now
            save(path, soak)
            print(f"{soak.runs}/{runs} runs, {len(soak.violations)} violations", flush=True)


def show_log() -> None:
    """The managers' own log, between what happens to them."""
    logging.basicConfig(level=logging.INFO, format="            %(name)s: %(message)s", stream=sys.stdout)


def replay(seed: int, size: int, trace: bool) -> int:
    """One run again."""
    if trace:
        show_log()
    result = room.run_seed(seed, size, print if trace else None)
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
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--managers", type=int, default=0, help="how many, if the seed isn't to decide")
    parser.add_argument("--story", choices=directed.SCENARIOS, help="a directed scenario")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args(arguments)
    if options.story is not None:
        return tell(options.story)
    if options.seed is not None:
        return replay(options.seed, options.managers, options.trace)
    path = RESULTS / "managers.json"
    soak = load(path, options.first)
    run(soak, options.runs, path)
    print(soak.sentence())
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main())
