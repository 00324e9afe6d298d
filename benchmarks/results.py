"""The raw file of one run: what was measured, when, on what, and every single figure. Written after each repetition.

A run that was interrupted goes on from its file. Called by swarm.py; read by report.py.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.lab import ROOT, run

FOLDER = Path(__file__).with_name("results")
PROGRAM = ("common", "manager", "agent", "cli", "deploy")


@dataclass(frozen=True, slots=True)
class Repetition:
    """One measure taken once on both sides."""

    measure: str
    round: int
    order: list[str]
    at: str
    busy: float  # share of the machine that was busy just before
    figures: dict[str, dict[str, list[float]]]


@dataclass(slots=True)
class Results:
    path: Path
    about: dict[str, Any]
    sides: dict[str, dict[str, str]] = field(default_factory=dict)
    measures: dict[str, str] = field(default_factory=dict)
    repetitions: list[Repetition] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def done(self, measure: str, turn: int) -> bool:
        return any(r.measure == measure and r.round == turn for r in self.repetitions)

    def values(self, side: str, measure: str, metric: str) -> list[float]:
        """All values of one figure on one side, of every round."""
        found: list[float] = []
        for repetition in self.repetitions:
            if repetition.measure == measure:
                found += repetition.figures.get(side, {}).get(metric, [])
        return found

    def metrics(self, side: str, measure: str) -> list[str]:
        names: dict[str, None] = {}
        for repetition in self.repetitions:
            if repetition.measure == measure:
                names.update(dict.fromkeys(repetition.figures.get(side, {})))
        return list(names)

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "about": self.about,
            "sides": self.sides,
            "measures": self.measures,
            "repetitions": [asdict(r) for r in self.repetitions],
            "failures": self.failures,
        }
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(document, indent=1) + "\n")
        temporary.replace(self.path)

    @classmethod
    def load(cls, path: Path) -> Results:
        document = json.loads(path.read_text())
        repetitions = [Repetition(**r) for r in document["repetitions"]]
        return cls(
            path,
            document["about"],
            document["sides"],
            document["measures"],
            repetitions,
            document["failures"],
        )

    @classmethod
    def open(cls, path: Path | None) -> Results:
        """The named file; or today's of this commit, where there is one, or a new one."""
        about = environment()
        path = path or FOLDER / f"{about['date']}-{about['commit']}.json"
        return cls.load(path) if path.exists() else cls(path, about)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def environment() -> dict[str, Any]:
    """What a run was made on."""
    commit = run(["git", "-C", str(ROOT), "rev-parse", "--short=10", "HEAD"]).strip()
    compared = subprocess.run(
        ["git", "-C", str(ROOT), "diff", "--quiet", "HEAD", "--", *PROGRAM], check=False
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return {
        "date": now().partition("T")[0],
        "commit": commit,
        "uncommitted_changes": compared.returncode != 0,
        "processors": os.cpu_count(),
        "memory_mib": memory,
        "kernel": platform.release(),
        "client": run(["docker", "--version"]).strip(),
    }
