"""Ten thousand services of state: what a snapshot, a newcomer and a restart cost (by hand).

python -m benchmarks.state [--services N] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.consensus import Shoal, keep, until
from benchmarks.results import FOLDER, environment, now


class Managers(Shoal):
    """One manager with a large state; others join and restart."""

    def resident(self, i: int) -> float:
        """RSS of a manager's process, MiB."""
        status = Path(f"/proc/{self.processes[i].pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    async def restart(self, i: int, count: int) -> float:
        """Seconds from the start of the process until it has all and leads."""
        process = self.processes[i]
        process.send_signal(signal.SIGKILL)
        process.wait()
        began = time.monotonic()
        found = list(self.processes)
        await self.launch(i)
        found[i] = self.processes.pop()
        self.processes = found

        async def back() -> bool:
            status = await asyncio.to_thread(self.ask, i, do="status")
            return bool(status["leads"] and status["services"] == count)

        await until(back, "the manager leads again")
        return time.monotonic() - began


async def once(count: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="state-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    side = Managers(folder)
    try:
        addr, token = await side.init()
        empty = side.resident(0)
        filled = await asyncio.to_thread(side.ask, 0, do="fill", count=count)
        full = side.resident(0)
        taken = await asyncio.to_thread(side.ask, 0, do="snapshot")
        restarted = await side.restart(0, count)
        await side.launch(1)
        began = time.monotonic()
        await side.join(1, addr, token)
        joined = time.monotonic() - began
        status: Any = await asyncio.to_thread(side.ask, 1, do="status")
        assert status["services"] == count, status
        return {
            "fill, s": filled["seconds"], "snapshot, s": taken["seconds"], "main loop held for it, ms": 1e3 * taken["held"],
            "snapshot, MiB": taken["bytes"] / 2**20, "restart until leading, s": restarted,
            "newcomer until voter, s": joined, "RSS empty, MiB": empty, "RSS full, MiB": full,
            "RSS of the newcomer, MiB": side.resident(1),
        }  # fmt: skip
    finally:
        await side.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    about = environment()
    raw: dict[str, Any] = {"about": about, "services": given.services, "repetitions": []}
    path = FOLDER / f"{about['date']}-{about['commit']}-state.json"
    for turn in range(given.rounds):
        one = await once(given.services)
        raw["repetitions"].append({"at": now(), **one})
        keep(raw, path)
        print(f"round {turn}: {json.dumps({k: round(v, 2) for k, v in one.items()})}", flush=True)
    print(f"| {given.services} services | min | median | max |\n|---|---|---|---|")
    for name in raw["repetitions"][0]:
        if name != "at":
            values = [r[name] for r in raw["repetitions"]]
            print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} |")


if __name__ == "__main__":
    asyncio.run(main())
