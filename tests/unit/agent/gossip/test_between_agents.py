"""Three agents' parts in gossip, with real members on loopback: ends, deaths and good-byes narrow what the others offer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))

from fakes import until

from agent import verdicts
from agent.database import Contact
from agent.gossip.api import Config
from agent.gossip.node import GossipNode
from agent.gossip.service import Gossip
from agent.identity import Identity
from agent.liveness import Liveness
from agent.session import Link
from agent.state import NodeState
from common import model
from common.model import EndpointState, TaskState
from tests.addresses import own_loopback

FAST = Config(
    probe_interval=0.1, probe_timeout=0.05, gossip_interval=0.02, first_push_pull=0.2, reconnect_interval=0.1
)
KEY = model.EncryptionKey("networking:gossip", b"k" * 16, 1)
NODES = ("n1", "n2", "n3")


class Agent:
    """What Liveness needs of an agent, and what it sees of the swarm: one task of one service on each node."""

    def __init__(self, number: int) -> None:
        self.name = f"n{number}"
        self.identity = Identity(self.name, "c", "", "", "", "", advertise_addr=own_loopback(number))
        self.link = Link(asked=True)
        self.contact = Contact(network_keys=(KEY,))
        endpoints = [
            model.EndpointRecord(
                f"t{n}", "net", f"10.1.0.{n}", f"n{n}", "web", "", (), EndpointState.ENDPOINT_SERVING
            )
            for n in (1, 2, 3)
        ]
        self.state = NodeState(self.name, endpoints={(e.task_id, e.network_id): e for e in endpoints})
        self.gossip = Gossip(lambda on_event: GossipNode(on_event, FAST))
        self.liveness = Liveness(self.gossip, self, self, lambda: self.name)
        self.reported = model.Unseen()
        self.running: list[asyncio.Task[None]] = []

    def retry(self) -> None:
        pass

    def report(self, unseen: model.Unseen) -> None:
        self.reported = unseen

    def addresses(self) -> list[str]:
        return [f"{own_loopback(1)}:2377"]

    def start(self) -> None:
        self.liveness.look()
        self.running = [asyncio.create_task(self.gossip.run()), asyncio.create_task(self.liveness.run())]

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
        if self.running:
            await asyncio.wait(self.running)
        self.running = []

    def offered(self) -> set[str]:
        state = self.liveness.narrow(self.state)
        return {e.task_id for e in state.endpoints.values() if e.state is verdicts.SERVING}

    def sees(self) -> int:
        return len(self.gossip.members())


@asynccontextmanager
async def swarm() -> AsyncIterator[list[Agent]]:
    agents = [Agent(number) for number in (1, 2, 3)]
    try:
        for agent in agents:
            agent.start()
        await until(lambda: all(agent.sees() == 3 for agent in agents), 60)
        yield agents
    finally:
        for agent in agents:
            await agent.stop()


async def test_an_end_reaches_all() -> None:
    async with swarm() as agents:
        agents[1].liveness.ended("t2", model.TaskStatus(state=TaskState.TASK_FAILED))
        await until(lambda: all(agent.offered() == {"t1", "t3"} for agent in agents), 60)
        agents[2].liveness.ended("t3", model.TaskStatus(state=TaskState.TASK_FAILED))
        await until(lambda: all(agent.offered() == {"t1"} for agent in agents), 60)


async def test_one_that_dies_and_comes_back() -> None:
    async with swarm() as agents:
        await agents[2].stop()
        await until(lambda: all(agent.offered() == {"t1", "t2"} for agent in agents[:2]), 60)
        await until(lambda: all(agent.reported.node_ids == ("n3",) for agent in agents[:2]), 60)
        agents[2].start()
        await until(lambda: all(agent.offered() == {"t1", "t2", "t3"} for agent in agents), 60)


async def test_one_that_leaves_is_gone_for_all() -> None:
    async with swarm() as agents:
        await agents[2].liveness.leave()
        await until(lambda: all(agent.offered() == {"t1", "t2"} for agent in agents[:2]), 60)
        await until(lambda: all(agent.reported.left == ("n3",) for agent in agents[:2]), 60)


def sealing(agent: Agent) -> bytes:
    """The key that its member seals with."""
    node: Any = agent.gossip._member
    return bytes(node._member.swim.keyring.keys[0])


async def test_keys_turn_without_anybody_being_lost() -> None:
    async with swarm() as agents:
        ring = [KEY]
        for turn in (2, 3, 4):
            ring = [*ring, model.EncryptionKey("networking:gossip", bytes([turn]) * 16, turn)][-3:]
            for agent in agents:  # not all at once
                agent.contact = Contact(network_keys=tuple(ring))
                agent.liveness.look()
                await asyncio.sleep(0)
        # What is told is told once; each member's own thread has to have come to the last turn.
        await until(lambda: all(sealing(agent) == bytes([3]) * 16 for agent in agents), 60)
        agents[0].liveness.ended("t1", model.TaskStatus(state=TaskState.TASK_FAILED))
        await until(lambda: all(agent.offered() == {"t2", "t3"} for agent in agents), 60)
