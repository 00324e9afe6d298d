"""Many members of gossip in one process: processor time of each, and until all know that one was killed.

network.py starts it in a network namespace of its own: python -m benchmarks.gossip --members 100. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable

from agent.gossip.api import Config
from agent.gossip.messages import State
from agent.gossip.node import GossipNode
from benchmarks.engine import BenchError

PORT = 7946
MINUTE = 60.0
KILLS = 3
DEADLINE = 120.0
LOOK = 0.1
KEY = bytes(range(32))


def host(number: int) -> str:
    return f"127.0.{8 + number // 200}.{1 + number % 200}"


async def until(condition: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + DEADLINE:
            raise BenchError(f"not within {DEADLINE:.0f} s: {what}")
        await asyncio.sleep(LOOK)
    return time.monotonic() - began


def living(node: GossipNode) -> set[str]:
    return {m.name for m in node.members() if m.state not in (State.DEAD, State.LEFT)}


async def measure(members: int) -> dict[str, float]:
    nodes: dict[str, GossipNode] = {}
    try:
        for number in range(members):
            name = f"m{number}"
            nodes[name] = node = GossipNode(lambda _: None, Config())
            await node.start(host(number), host(number), PORT, name, b"", (KEY,))
            await node.join([(host(0), PORT)] if number else [])
        found = await until(lambda: all(living(n) == set(nodes) for n in nodes.values()), "all see all")
        before, began = time.process_time(), time.monotonic()
        await asyncio.sleep(MINUTE)
        used = (time.process_time() - before) / (time.monotonic() - began) * 60
        gone = []
        for _ in range(KILLS):
            name, node = nodes.popitem()
            await node.close()  # says nothing to anybody
            gone.append(
                await until(lambda: all(living(n) == set(nodes) for n in nodes.values()), f"{name} gone")
            )
        return {
            "all found, s": found,
            "processor time of each member, s/min": used / members,
            "killed until all know, s": sum(gone) / len(gone),
            "killed until all know, longest, s": max(gone),
            "processors": float(os.cpu_count() or 0),
        }
    finally:
        for node in nodes.values():
            await node.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--members", type=int, default=100)
    print(json.dumps(asyncio.run(measure(parser.parse_args().members))))


if __name__ == "__main__":
    main()
