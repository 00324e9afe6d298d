"""Ten members of ours among ten of Debian's real `serf`, in a network namespace of their own: `make soak-serf N=5` (root).

Plain, then sealed: all find one another, all stay alive for a minute; then so many times one of serf's is killed and one of ours, each
comes back, and at last one of each leaves. Prints how long it took until all others knew; ends with 1 when somebody did not, or when a
member that lived was held dead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.gossip.messages import State
from agent.gossip.node import GossipNode
from agent.gossip.packing import pack
from tests.lab.serf import LEAVE_INTENT, Room, made_namespace, ours, room
from tests.soak.seeds import commit

EACH = 10
MINUTE = 60.0
LIMIT = 40.0  # seconds, for whatever all of them are to know
LOOK = 0.2
SEED = ("127.0.7.1", 7946)
GONE = (State.DEAD, State.LEFT)


class Party:
    """The twenty, by name: s1… of serf, o1… of ours."""

    def __init__(self, made: Room, stack: contextlib.AsyncExitStack, chance: random.Random) -> None:
        self._made = made
        self._stack = stack
        self._chance = chance
        self._mine: dict[str, tuple[GossipNode, contextlib.AsyncExitStack]] = {}
        self.expected: set[str] = set()
        self.seconds: dict[str, list[float]] = {}

    # ---- who is there

    async def serf(self, number: int) -> None:
        await self._made.agent(number, *(() if number == 1 else ("-join", SEED[0])))
        self.expected.add(f"s{number}")

    async def mine(self, number: int) -> None:
        own = await self._stack.enter_async_context(contextlib.AsyncExitStack())
        node = await own.enter_async_context(ours(self._made, f"o{number}", f"127.0.7.{100 + number}"))
        self._mine[f"o{number}"] = node, own
        await node.join([SEED])
        self.expected.add(f"o{number}")

    def _states(self, node: GossipNode) -> dict[str, State]:
        return {member.name: member.state for member in node.members()}

    def _agents(self) -> list[int]:
        return [int(name[1:]) for name in sorted(self.expected) if name[0] == "s"]

    # ---- what all know

    async def measured(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        began = time.monotonic()
        async with asyncio.timeout(LIMIT):
            while not await condition():  # noqa: ASYNC110 - a deadline around it, and nothing to watch
                await asyncio.sleep(LOOK)
        self.seconds.setdefault(what, []).append(time.monotonic() - began)

    async def all_see_all(self) -> bool:
        for node, _ in self._mine.values():
            if {n for n, s in self._states(node).items() if s not in GONE} != self.expected:
                return False
        for number in self._agents():
            found = await self._made.members(number)
            if {n for n, m in found.items() if m["status"] == "alive"} != self.expected:
                return False
        return True

    # ---- what happens to them

    async def kill_serf(self) -> None:
        number = self._chance.choice([n for n in self._agents() if n != 1])
        self.expected.discard(f"s{number}")
        process = self._made.agents.pop(number)
        process.kill()
        await process.wait()
        await self.measured("serf's killed", self.all_see_all)
        await self.serf(number)
        await self.measured("back", self.all_see_all)

    async def kill_mine(self) -> None:
        name = self._chance.choice(sorted(self._mine))
        self.expected.discard(name)
        _, own = self._mine.pop(name)
        await own.aclose()
        await self.measured("ours killed", self.all_see_all)
        await self.mine(int(name[1:]))
        await self.measured("back", self.all_see_all)

    async def leave(self) -> None:
        number = self._agents()[-1]
        self.expected.discard(f"s{number}")
        await self._made.serf(number, "leave")
        await self.measured("serf's left", self.all_see_all)
        name = sorted(self._mine)[-1]
        self.expected.discard(name)
        node, own = self._mine.pop(name)
        intent = pack({"LTime": 1000, "Node": name, "Prune": False})
        await node.broadcast("intent", LEAVE_INTENT + intent)
        await self._made.sees(1, name, "leaving")
        await node.leave()
        await own.aclose()
        await self.measured("ours left", self.all_see_all)
        await self._made.sees(1, name, "left")

    async def stay_alive(self) -> None:
        """Nobody is held dead by anybody, at any look."""
        end = time.monotonic() + MINUTE
        while time.monotonic() < end:
            if not await self.all_see_all():
                raise AssertionError("somebody that lives is held dead")
            await asyncio.sleep(2)

    async def run(self, kills: int) -> None:
        await self.serf(1)
        await self._made.sees(1, "s1", "alive")
        for number in range(2, EACH + 1):
            await self.serf(number)
        for number in range(1, EACH + 1):
            await self.mine(number)
        await self.measured("all found", self.all_see_all)
        await self.stay_alive()
        for _ in range(kills):
            await self.kill_serf()
            await self.kill_mine()
        await self.leave()
        malformed = sum(node.malformed() for node, _ in self._mine.values())
        if malformed:
            raise AssertionError(f"{malformed} malformed packets")


async def soak(namespace: str, key: bytes | None, kills: int, seed: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        async with room(namespace, Path(folder), key) as made, contextlib.AsyncExitStack() as stack:
            party = Party(made, stack, random.Random(seed))
            await party.run(kills)
            return party.seconds


def main() -> int:
    """0 if all knew all in time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for what, key in (("plain", None), ("sealed", os.urandom(32))):
        with made_namespace() as namespace:
            try:
                seconds = asyncio.run(soak(namespace, key, options.kills, options.seed))
            except (AssertionError, TimeoutError) as error:
                print(f"{what}: {str(error) or 'not all knew in time'}")
                return 1
        told = ", ".join(
            f"{name} {' '.join(f'{one:.1f}' for one in taken)} s" for name, taken in seconds.items()
        )
        print(f"commit {commit()}, {EACH} of serf's and {EACH} of ours, {what}: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
