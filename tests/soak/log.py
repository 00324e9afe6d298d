"""Kills a writer of log and snapshots N times: python -m tests.soak.log N SEED [FOLDER]

What is kept in `results/log-SEED.json` after every round (and beside it the disk itself) is gone on with: a second run
with the same seed makes only the rounds that are missing.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from dataclasses import fields
from pathlib import Path

from tests.unit.raft.killing import Lost, Tally, load, round_of

RESULTS = Path(__file__).parent / "results"


def _counts(tally: Tally) -> dict[str, int]:
    return {f.name: getattr(tally, f.name) for f in fields(tally) if f.name != "now"}


def _save(path: Path, seed: int, tally: Tally, lost: str = "") -> None:
    path.write_text(json.dumps({"seed": seed, "lost": lost, **_counts(tally)}, indent=1) + "\n")


def _resumed(path: Path, folder: Path) -> Tally:
    """The counts so far, and what the disk holds: nothing was acknowledged since the last judgement."""
    if not path.exists() or not folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return Tally()
    known = json.loads(path.read_text())
    if known["lost"]:
        raise Lost(known["lost"])
    tally = Tally(**{name: known[name] for name in _counts(Tally())})
    tally.now = load(folder)
    return tally


def run(rounds: int, seed: int, results: Path) -> Tally:
    """Makes what is missing to `rounds`; raises Lost."""
    results.mkdir(parents=True, exist_ok=True)
    path, folder = results / f"log-{seed}.json", results / f"log-{seed}.disk"
    tally = _resumed(path, folder)
    while tally.rounds < rounds:
        rng = random.Random(f"{seed}/{tally.rounds}")
        try:
            round_of(folder, rng, tally)
        except Lost as exc:
            _save(path, seed, tally, str(exc))
            raise
        _save(path, seed, tally)
    return tally


def main(arguments: list[str]) -> int:
    """The entry point."""
    if len(arguments) not in (2, 3):
        print(__doc__)
        return 2
    try:
        tally = run(int(arguments[0]), int(arguments[1]), Path(arguments[2]) if arguments[2:] else RESULTS)
    except Lost as exc:
        print(f"LOST: {exc}")
        return 1
    print(json.dumps(_counts(tally)))
    print(
        f"{tally.rounds} kills: every acknowledged entry was there again ({tally.found} looked up, {tally.entries} written)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
