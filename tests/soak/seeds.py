"""Runs of many seeds that go on where they were stopped: what raft.py and managers.py have in common.

The result is a file of JSON in tests/soak/results/, saved every few seconds. A range of seeds that does not begin with
0 has a file of its own, so that several may run side by side. A run that takes too long is a violation, too.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.soak.limit import Overlong, limited

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
SAVE_SECONDS = 5.0
LIMIT = 120.0
"""Seconds of wall time for one run."""


@dataclass(slots=True)
class Soak(ABC):
    """What is known so far; runs are those of the seeds first..first+runs-1."""

    code: str
    first: int
    runs: int = 0
    longest_settling: float = 0.0
    seconds: float = 0.0
    violations: list[dict[str, int | str]] = field(default_factory=list)
    date: str = ""
    commit: str = ""

    @abstractmethod
    def once(self, seed: int) -> str:
        """One run, added to what is known; says what is wrong with it."""

    @abstractmethod
    def told(self) -> str:
        """The figures of all runs, for the sentence."""

    def sentence(self) -> str:
        """What came out."""
        return (
            f"{self.date}, commit {self.commit}: {self.runs} runs (seeds {self.first} to "
            f"{self.first + self.runs - 1}), {len(self.violations)} violations, {self.told()}, {self.seconds:.0f} s"
        )


S = TypeVar("S", bound=Soak)


def fingerprint(*places: str) -> str:
    """Changes with the code in these files and folders of the project, tests of it apart."""
    digest = hashlib.sha256()
    for place in (ROOT / name for name in places):
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if not path.name.startswith("test_"):
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str:
    """The one that is checked out."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def load(path: Path, kind: type[S], code: str, first: int) -> S:
    """What an earlier call has reached with this code, or nothing."""
    if path.exists():
        known = json.loads(path.read_text())
        if (known["code"], known["first"]) == (code, first):
            return kind(**known)
        print(f"{path} is of other code or seeds: from the beginning")
    return kind(code, first, commit=commit())


def save(path: Path, soak: Soak) -> None:
    """Replaces the file at once."""
    soak.date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(soak), indent=1) + "\n")
    draft.replace(path)


def run(soak: Soak, runs: int, path: Path, limit: float = LIMIT) -> bool:
    """Goes on until so many runs are done, or one was broken off: False then, as its ruins are still about."""
    before, begun = soak.seconds, time.monotonic()
    saved = begun
    broken = False
    while soak.runs < runs and not broken:
        seed = soak.first + soak.runs
        try:
            with limited(limit):
                wrong = soak.once(seed)
        except Overlong as exc:
            wrong, broken = str(exc), True
        soak.runs += 1
        now = time.monotonic()
        soak.seconds = before + now - begun
        if wrong:
            soak.violations.append({"seed": seed, "wrong": wrong})
            print(f"seed {seed}: {wrong}", flush=True)
        if wrong or now - saved >= SAVE_SECONDS or soak.runs >= runs:
            saved = now
            save(path, soak)
            print(f"{soak.runs}/{runs} runs, {len(soak.violations)} violations", flush=True)
    return not broken


def arguments(parser: argparse.ArgumentParser, runs: int) -> None:
    """The options of a soak of many seeds."""
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true")


def soak(kind: type[S], name: str, code: str, options: argparse.Namespace) -> int:
    """All that the options ask for; 0 if nothing is wrong."""
    path = RESULTS / (f"{name}-{options.first}.json" if options.first else f"{name}.json")
    found = load(path, kind, code, options.first)
    if not run(found, options.runs, path):
        os.execv(sys.executable, sys.orig_argv)  # the next seeds get a process that is as new
    print(found.sentence())
    return 1 if found.violations else 0
