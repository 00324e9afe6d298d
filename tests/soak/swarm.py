"""Five machines of the lab with three managers, for the soaks that run on it, and their results on disk.

Takes the lab that is there if it has five machines, else a new one; LAB_KEEP=1 leaves it standing at the end.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.managers import MANAGERS, UP, WORKERS, Managers
from tests.lab.support import LAB

RESULTS = Path(__file__).parent / "results"
RECORD = (
    Path("/var/lib") / "-".join(filter(None, ("shoal-lab", os.environ.get("SHOAL_LAB", "")))) / "lab.json"
)


@contextmanager
def five() -> Iterator[Managers]:
    """The lab, its swarm whole."""
    lab = Managers()
    if lab.tool("status", check=False).returncode == 0:
        lab.read_env()
        if set(lab.machines) != {*MANAGERS, *WORKERS}:
            lab.tool("down")
    subprocess.run([str(LAB), *UP], check=True, timeout=600)
    lab.read_env()
    try:
        lab.ensure()
        lab.services()
        yield lab
    finally:
        if not os.environ.get("LAB_KEEP"):
            lab.tool("down")


def program() -> str:
    """Names the program that the machines run."""
    return "+".join(
        sorted({Path(machine["layer"]).parent.name for machine in json.loads(RECORD.read_text())})
    )


def load(path: Path, empty: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run has found out about the same program, or `empty`."""
    fresh = {"program": program(), "date": "", **empty}
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["program"] == fresh["program"]:
            return found
        print(f"{path} is about another program: from the beginning")
    return fresh


def save(path: Path, found: dict[str, Any]) -> None:
    """Replaces the file at once."""
    found["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(found, indent=1) + "\n")
    draft.replace(path)
