"""Whether the machine's kernel can seal networks: labs share it, so tests of what then happens ask here first."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def in_new_namespace(program: str) -> str:
    """What a Python program prints in a network namespace of its own."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@cache
def lacking() -> str:
    """The module that is missing; empty where sealing works."""
    return in_new_namespace("from agent.network.xfrm import missing_module; print(missing_module())")
