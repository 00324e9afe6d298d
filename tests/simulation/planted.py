"""Bugs in patches: plants one in a copy of the code and lets a simulation look for it there.

A patch begins with a sentence that says what is wrong, and a line `Caught by: ` with the names of scenarios, and
`seeds` if seeds are to find it as well. To make one: copy the code, break it, `diff -u`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def catchers(patch: Path) -> list[str]:
    """The names in the patch's line `Caught by`."""
    for line in patch.read_text().splitlines():
        if line.startswith("Caught by: "):
            return line.removeprefix("Caught by: ").split(", ")
    raise AssertionError(f"{patch.name} doesn't say what catches it")


def plant(patch: Path, folders: tuple[str, ...], into: Path) -> None:
    """A copy of these folders of the code with the bug in it."""
    for folder in folders:
        shutil.copytree(ROOT / folder, into / folder, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        ["git", "apply", str(patch)], cwd=into, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, (
        f"{patch.name} doesn't fit the code any more; plant the bug again and renew it:\n{done.stderr}"
    )


def check_caught(patch: Path, code: Path, catch: str, seeds: int) -> None:
    """All that the patch names must catch its bug in `code`; `catch` is the module that looks for it."""
    command = [sys.executable, "-P", "-m", catch, "--code", str(code)]
    for name in catchers(patch):
        command += ["--seeds", str(seeds)] if name == "seeds" else ["--scenario", name]
    environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command, cwd=code, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, (
        f"{patch.name} breaks more than the simulation judges:\n{done.stderr}"
    )
    for line in done.stdout.splitlines():
        found = json.loads(line)
        print(f"{patch.stem}: {found['what']}, {found['runs']} runs: {found['caught'] or 'NOT CAUGHT'}")
        assert found["caught"], f"{patch.name} isn't caught by {found['what']} ({found['runs']} runs)"
    assert done.returncode == 0, done.stdout + done.stderr
