"""A manager's process for benchmarks/consensus.py: the real daemon, and a line of JSON for each thing it is asked to do.

    python -m benchmarks.consensus_manager STATE SOCKET

{"do": "write", "count": 1000, "at_once": 256, "bytes": 512} writes objects through the store of this manager, which
must lead; the answer holds the seconds and each write's own. {"do": "status"} tells how it stands.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from common import ids, logs, model
from common.clock import SystemClock
from manager.daemon import Daemon
from manager.settings import Settings

OVERHEAD = 150  # bytes of a stored config around its data


async def write(daemon: Daemon, count: int, at_once: int, size: int) -> dict[str, Any]:
    """`count` updates of the store, `at_once` of them under way."""
    member = daemon.member
    assert member is not None, "no member runs"
    store, taken = member.store, list[float]()
    things = [
        model.Config(id=ids.new_id(), spec=model.ConfigSpec(name=f"bench-{n}", data=b"x" * (size - OVERHEAD)))
        for n in range(count)
    ]
    left = iter(things)

    async def writer() -> None:
        for thing in left:
            began = time.perf_counter()
            await store.update(lambda tx, thing=thing: tx.put(thing))  # type: ignore[misc]
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    await store.batch([lambda tx, thing=thing: tx.remove(thing) for thing in things])  # type: ignore[misc]
    return {"seconds": seconds, "taken": taken}


def status(daemon: Daemon) -> dict[str, Any]:
    """How the member stands."""
    member = daemon.member
    if member is None:
        return {"leads": False, "voters": 0, "failure": daemon.failure}
    members = member.consensus.members()
    return {"leads": member.consensus.leader, "voters": sum(m.voter for m in members), "failure": ""}


async def serve(daemon: Daemon) -> None:
    """Answers lines of standard input until it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        if asked["do"] == "write":
            answer = await write(daemon, asked["count"], asked["at_once"], asked["bytes"])
        else:
            answer = status(daemon)
        print(json.dumps(answer), flush=True)


async def main(state: str, socket: str) -> None:
    daemon, stop = Daemon(Settings(state=state, socket=socket), SystemClock()), asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    await serve(daemon)
    stop.set()
    await running


if __name__ == "__main__":
    logs.configure("warning")
    asyncio.run(main(*sys.argv[1:3]))
