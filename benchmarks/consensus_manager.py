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
from collections.abc import Callable
from typing import Any

from common import ids, logs, model
from common.clock import SystemClock
from manager.daemon import Daemon
from manager.settings import Settings
from manager.store.store import Transaction
from manager.store.view import StoreObject

OVERHEAD = 150  # bytes of a stored config around its data


def put(thing: StoreObject) -> Callable[[Transaction], object]:
    """A change that writes it."""
    return lambda tx: tx.put(thing)


def remove(thing: StoreObject) -> Callable[[Transaction], object]:
    """A change that removes it."""
    return lambda tx: tx.remove(thing)


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
            await store.update(put(thing))
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    await store.batch([remove(thing) for thing in things])
    return {"seconds": seconds, "taken": taken}


async def fill(daemon: Daemon, count: int) -> dict[str, Any]:
    """`count` services without tasks."""
    member = daemon.member
    assert member is not None, "no member runs"
    began = time.perf_counter()
    await member.store.batch([put(service(n)) for n in range(count)])
    return {"seconds": time.perf_counter() - began}


def service(number: int) -> model.Service:
    """A service as a stack makes them: labels, environment, a port, a limit."""
    container = model.ContainerSpec(
        image="registry.example.com/team/app:1.2.3@sha256:" + "ab" * 32,
        env=tuple(f"VARIABLE_{n}=value-{n}" for n in range(8)),
        labels={"com.docker.stack.namespace": "bench"},
    )
    spec = model.ServiceSpec(
        name=f"bench_service-{number}",
        labels={"com.docker.stack.namespace": "bench", "com.docker.stack.image": "team/app:1.2.3"},
        task=model.TaskSpec(container=container),
        mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=0)),
    )
    return model.Service(id=ids.new_id(), spec=spec)


async def snapshot(daemon: Daemon) -> dict[str, Any]:
    """How long a snapshot of the state takes, and how large it is."""
    member = daemon.member
    assert member is not None, "no member runs"
    began = time.perf_counter()
    captured = member.store.capture()
    held = time.perf_counter() - began
    data = await asyncio.to_thread(captured.encode)
    return {"seconds": time.perf_counter() - began, "held": held, "bytes": len(data)}


def status(daemon: Daemon) -> dict[str, Any]:
    """How the member stands."""
    member = daemon.member
    if member is None:
        return {"leads": False, "voters": 0, "failure": daemon.failure, "services": 0}
    members = member.consensus.members()
    return {
        "leads": member.consensus.leader, "voters": sum(m.voter for m in members), "failure": "",
        "services": len(member.store.view().services),
    }  # fmt: skip


async def serve(daemon: Daemon) -> None:
    """Answers lines of standard input until it ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        if asked["do"] == "write":
            answer = await write(daemon, asked["count"], asked["at_once"], asked["bytes"])
        elif asked["do"] == "fill":
            answer = await fill(daemon, asked["count"])
        elif asked["do"] == "snapshot":
            answer = await snapshot(daemon)
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
