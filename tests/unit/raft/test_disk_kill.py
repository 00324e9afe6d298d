"""`kill -9` of a process that writes, in a process of its own: it forks. More rounds: `make soak-log N=200`."""

import json
import subprocess
import sys
from pathlib import Path


def test_what_was_acknowledged_outlives_kills(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.soak.log"]
    for rounds in ("4", "10"):  # the second run goes on from the first
        done = subprocess.run(
            [*command, rounds, "1", str(tmp_path)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "log-1.json").read_text())
    assert (kept["rounds"], kept["lost"], kept["seed"]) == (10, "", 1)
    assert kept["calls"] > 0 and kept["torn"] > 0 and kept["torn"] == kept["flipped"]
