"""Debian's real `serf` in network namespaces of its own, and members of ours among its agents: an oracle for the wire.

Needs root and the package `serf`. The members of one cluster share the namespace's loopback, each at an address of 127.0.7.0/24.
Used by test_gossip_serf.py, by conftest.py, which has a minute of it run beside other tests, and by the soak.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.gossip.api import Change, Config, Event, MemberEvent, UserMessage
from agent.gossip.messages import State
from agent.gossip.node import GossipNode
from agent.gossip.packing import pack
from tests.lab.netlab import _LIBC, NEWNET

KEY = os.urandom(32)
KEYS = (None, KEY, KEY[:16])
ALIVE = 60.0  # seconds that we are watched for
# For what takes some seconds: serf suspects for up to 24 s where few others say the same, and for longer on a busy machine.
PATIENCE = 90.0
SERF = Config(delegate=(2, 5, 4))
TAGS = b"\xff"  # serf's mark before its tags in the meta data
LEAVE_INTENT, PUSH_PULL = b"\x00", b"\x02"


@contextlib.contextmanager
def made_namespace() -> Iterator[str]:
    name = f"gossip-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@dataclass
class Room:
    """The cluster: agents of serf by number, and what our member has seen."""

    namespace: str
    folder: Path
    key: bytes | None
    agents: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    async def agent(self, number: int, *more: str) -> None:
        sealed = ("-encrypt", base64.b64encode(self.key).decode()) if self.key else ()
        with (self.folder / f"s{number}.log").open("w") as output:
            self.agents[number] = await asyncio.create_subprocess_exec(
                *self._inside(), "serf", "agent", "-node", f"s{number}", "-bind", f"127.0.7.{number}:7946",
                "-rpc-addr", f"127.0.7.{number}:7373", "-tag", "about=" + "serf " * 20, *sealed, *more,
                stdout=output, stderr=output,
            )  # fmt: skip

    def _inside(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.namespace)

    async def serf(self, number: int, command: str, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._inside(), "serf", command, "-rpc-addr", f"127.0.7.{number}:7373", *words,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        return output.decode()

    async def members(self, number: int) -> dict[str, dict[str, Any]]:
        output = await self.serf(number, "members", "-format", "json")
        return {m["name"]: m for m in json.loads(output)["members"]} if output.startswith("{") else {}

    async def sees(self, number: int, name: str, status: str, deadline: float = PATIENCE) -> dict[str, Any]:
        async with asyncio.timeout(deadline):
            while True:
                found = (await self.members(number)).get(name, {})
                if found.get("status") == status:
                    return found
                await asyncio.sleep(0.2)

    async def until(self, condition: Callable[[], bool], deadline: float = PATIENCE) -> None:
        async with asyncio.timeout(deadline):
            while not condition():  # noqa: ASYNC110 - a deadline around it, and nothing to watch
                await asyncio.sleep(0.05)

    def saw(self, change: Change, name: str) -> bool:
        return any(
            isinstance(e, MemberEvent) and e.change is change and e.member.name == name for e in self.events
        )


@contextlib.asynccontextmanager
async def room(namespace: str, folder: Path, key: bytes | None) -> AsyncIterator[Room]:
    made = Room(namespace, folder, key)
    try:
        yield made
    finally:
        for process in made.agents.values():
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in made.agents.values()))


@contextlib.asynccontextmanager
async def ours(made: Room, name: str = "ours", host: str = "127.0.7.9") -> AsyncIterator[GossipNode]:
    """A member in the namespace: its thread is started while this one is inside, and stays there."""
    node = GossipNode(made.events.append, SERF)
    meta = TAGS + pack({"role": "shoal"})
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    inside = os.open(f"/run/netns/{made.namespace}", os.O_RDONLY)
    try:
        _enter(inside)
        starting = asyncio.ensure_future(
            node.start(host, host, 7946, name, meta, (made.key,) if made.key else ())
        )
        await asyncio.sleep(0)  # its first step starts the thread
        _enter(outside)
        await starting
        times = {
            "LTime": 1,
            "StatusLTimes": {name: 1},
            "LeftMembers": [],
            "EventLTime": 1,
            "Events": [],
            "QueryLTime": 1,
        }
        await node.set_user_state(PUSH_PULL + pack(times))
        yield node
    finally:
        _enter(outside)
        os.close(inside)
        os.close(outside)
        await node.close()


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, NEWNET):
        raise OSError("setns")


async def minutes(folder: Path) -> None:
    """Plain, and sealed with keys of two lengths: all at once, for each takes its minute."""
    async with contextlib.AsyncExitStack() as stack:
        rooms = []
        for key in KEYS:
            namespace = stack.enter_context(made_namespace())
            own = folder / namespace
            own.mkdir()
            made = await stack.enter_async_context(room(namespace, own, key))
            rooms.append((made, await stack.enter_async_context(ours(made))))
        async with asyncio.TaskGroup() as group:
            for made, node in rooms:
                group.create_task(_among_serf_agents(made, node))


async def _among_serf_agents(made: Room, node: GossipNode) -> None:
    await made.agent(1)
    await made.sees(1, "s1", "alive")
    # We join them; others of them join through us.
    assert await node.join([("127.0.7.1", 7946)]) == {("127.0.7.1", 7946): None}
    await made.agent(2, "-join", "127.0.7.9")
    await made.agent(3, "-join", "127.0.7.9")
    found = await made.sees(1, "ours", "alive")
    assert found["tags"] == {"role": "shoal"}
    await made.sees(3, "s2", "alive")
    await made.until(lambda: sum(m.state is State.ALIVE for m in node.members()) == 4)
    metas = {m.name: m.meta for m in node.members()}
    assert b"serf serf" in metas["s2"]
    # A user event comes through.
    await made.serf(1, "event", "deploy", "x" * 50)
    await made.until(lambda: any(isinstance(e, UserMessage) and b"deploy" in e.data for e in made.events))
    # We stay alive for all of them, and they for us.
    loop = asyncio.get_running_loop()
    look, end = 0, loop.time() + ALIVE
    while loop.time() < end:
        look += 1
        assert (await made.members(1 + look % 3))["ours"]["status"] == "alive"
        await asyncio.sleep(2)
    # Other tests run beside this one: a process that waits too long for its turn may be suspected, and says at once that it lives.
    assert not any(made.saw(Change.FAILED, name) for name in ("s1", "s2", "s3"))
    # One of them is killed: we and they see it.
    made.agents[3].kill()
    await made.until(lambda: made.saw(Change.FAILED, "s3"))
    await made.sees(1, "s3", "failed")
    # One of them leaves, in order.
    await made.serf(2, "leave")
    await made.until(lambda: made.saw(Change.LEFT, "s2"))
    # We leave: serf wants to know our intent first.
    await node.broadcast("intent", LEAVE_INTENT + pack({"LTime": 50, "Node": "ours", "Prune": False}))
    await made.sees(1, "ours", "leaving")
    await node.leave()
    await made.sees(1, "ours", "left")
    assert node.malformed() == 0
    assert not made.saw(Change.FAILED, "s1")
