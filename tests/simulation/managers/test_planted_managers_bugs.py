"""Each patch in bugs/ puts one real fault into a copy of managers and agents; the simulation must catch it.

A patch begins with a sentence that says what is wrong, and a line `Caught by: ` with the names of scenarios, and
`seeds` if a hundred seeds are to find it as well. To make one: copy the code, break it, `diff -u`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.raft.test_planted_bugs import ROOT, catchers

BUGS = Path(__file__).parent / "bugs"
PATCHES = sorted(BUGS.glob("*.patch"))
SEEDS = 100


def plant(patch: Path, into: Path) -> None:
    """A copy of the code with the bug in it."""
    for folder in ("manager", "agent"):
        shutil.copytree(ROOT / folder, into / folder, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        ["git", "apply", str(patch)], cwd=into, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, (
        f"{patch.name} doesn't fit the code any more; plant the bug again and renew it:\n{done.stderr}"
    )


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_planted_bug_is_caught(patch: Path, tmp_path: Path) -> None:
    plant(patch, tmp_path)
    command = [sys.executable, "-P", "-m", "tests.simulation.managers.catch", "--code", str(tmp_path)]
    for name in catchers(patch):
        command += ["--seeds", str(SEEDS)] if name == "seeds" else ["--scenario", name]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    for line in done.stdout.splitlines():
        found = json.loads(line)
        print(f"{patch.stem}: {found['what']}, {found['runs']} runs: {found['caught'] or 'NOT CAUGHT'}")
        assert found["caught"], f"{patch.name} isn't caught by {found['what']} ({found['runs']} runs)"
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_bugs() -> None:
    assert len(PATCHES) >= 5
