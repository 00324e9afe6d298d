"""Many seeds of the simulated agreement, or one seed again: `make soak-raft N=100000`.

    python -m tests.soak.raft --runs 100000        goes on where it was stopped, unless the code has changed
    python -m tests.soak.raft --seed 4711          one run again, with its verdict
    python -m tests.soak.raft --seed 4711 --trace  and with all that happened in it

The result is a file of JSON in tests/soak/results/, saved every few seconds.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import manager.raft.core as core
import tests.simulation.raft as simulation
from manager.raft import members, replica
from tests.simulation import history
from tests.simulation.raft.cluster import run_seed

RESULTS = Path(__file__).parent / "results"
SAVE_SECONDS = 5.0


@dataclass(slots=True)
class Soak:
    """What is known so far; runs are those of the seeds first..first+runs-1."""

    code: str
    first: int
    runs: int = 0
    events: int = 0
    operations: int = 0
    commits: int = 0
    longest_settling: float = 0.0
    seconds: float = 0.0
    violations: list[dict[str, int | str]] = field(default_factory=list)
    date: str = ""

    def sentence(self) -> str:
        """What came out."""
        return (
            f"{self.date}: {self.runs} runs (seeds {self.first} to {self.first + self.runs - 1}), "
            f"{len(self.violations)} violations, {self.events} events, {self.operations} operations of clients, "
            f"{self.commits} commits, agreement at most {self.longest_settling:.0f} ticks after the faults, "
            f"{self.seconds:.0f} s, {self.events / max(self.seconds, 0.001):.0f} events/s"
        )


def fingerprint() -> str:
    """Changes with the code that a run depends on."""
    digest = hashlib.sha256()
    folders = [Path(package.__path__[0]) for package in (core, simulation)]
    files = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    for path in (*files, *(Path(module.__file__ or "") for module in (replica, members, history))):
        if not path.name.startswith("test_"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def load(path: Path, first: int) -> Soak:
    """What an earlier call has reached with this code, or nothing."""
    code = fingerprint()
    if path.exists():
        soak = Soak(**json.loads(path.read_text()))
        if (soak.code, soak.first) == (code, first):
            return soak
        print(f"{path} is of other code or seeds: from the beginning")
    return Soak(code, first)


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
        result = run_seed(seed)
        soak.runs += 1
        soak.events += result.events
        soak.operations += result.operations
        soak.commits += result.commits
        soak.longest_settling = max(soak.longest_settling, result.settled)
        now = time.monotonic()
        soak.seconds = before + now - begun
        if result.wrong:
            soak.violations.append({"seed": seed, "size": result.size, "wrong": result.wrong})
            print(f"seed {seed}, {result.size} members: {result.wrong}", flush=True)
        if now - saved >= SAVE_SECONDS or soak.runs >= runs:
            saved = now
            save(path, soak)
            print(f"{soak.runs}/{runs} runs, {len(soak.violations)} violations", flush=True)


def replay(seed: int, size: int, trace: bool) -> int:
    """One run again."""
    result = run_seed(seed, size, print if trace else None)
    print(f"seed {seed}, {result.size} members, {result.events} events, {result.commits} commits")
    print(result.wrong or result.verdict)
    return 1 if result.wrong else 0


def main() -> int:
    """0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--size", type=int, default=0, help="members, if the seed isn't to decide")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if options.seed is not None:
        return replay(options.seed, options.size, options.trace)
    path = RESULTS / "raft.json"
    soak = load(path, options.first)
    run(soak, options.runs, path)
    print(soak.sentence())
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main())
