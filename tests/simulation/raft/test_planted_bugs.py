"""Each patch in bugs/ puts one real fault into a copy of the core; the simulation must catch it.

A patch begins with a sentence that says what is wrong, and a line `Caught by: ` with the names of scenarios, and
`seeds` if a few hundred seeds are to find it as well. To make one: copy manager/raft/core, break it, `diff -u`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUGS = Path(__file__).parent / "bugs"
PATCHES = sorted(BUGS.glob("*.patch"))
SEEDS = 1_500


def catchers(patch: Path) -> list[str]:
    """The names in the patch's line `Caught by`."""
    for line in patch.read_text().splitlines():
        if line.startswith("Caught by: "):
            return line.removeprefix("Caught by: ").split(", ")
    raise AssertionError(f"{patch.name} doesn't say what catches it")


def plant(patch: Path, into: Path) -> Path:
    """A copy of the managers' code with the bug in it; gives the core's directory."""
    shutil.copytree(ROOT / "manager", into / "manager", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        ["git", "apply", str(patch)], cwd=into, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, (
        f"{patch.name} doesn't fit manager/raft/core any more; plant the bug again and renew it:\n{done.stderr}"
    )
    return into / "manager" / "raft" / "core"


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_planted_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    core = plant(patch, tmp_path)
    command = [sys.executable, "-P", "-m", "tests.simulation.raft.catch", "--core", str(core)]
    for name in catchers(patch):
        command += ["--seeds", str(SEEDS)] if name == "seeds" else ["--scenario", name]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, f"{patch.name} breaks more than Raft:\n{done.stderr}"
    for line in done.stdout.splitlines():
        found = json.loads(line)
        print(f"{patch.stem}: {found['what']}, {found['runs']} runs: {found['caught'] or 'NOT CAUGHT'}")
        assert found["caught"], f"{patch.name} isn't caught by {found['what']} ({found['runs']} runs)"
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_bugs() -> None:
    assert len(PATCHES) >= 10
