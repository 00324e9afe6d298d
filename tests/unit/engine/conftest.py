"""One engine over fakes for each test."""

import pytest
from engine_fakes import World

from common import model


@pytest.fixture
async def world():
    async with World() as made:
        yield made


@pytest.fixture
async def manager(world):
    """The engine of a manager with two nodes."""
    world.swarm.become()
    for number, (node_id, hostname) in enumerate(
        [("300wtmonao8ij4nj0yazfkfga", "manager1"), ("mseqvqglwscezaod1f00byvv3", "worker1")]
    ):
        description = model.NodeDescription(
            hostname=hostname,
            platform=model.Platform("x86_64", "linux"),
            engine=model.EngineDescription(version="28.2.2"),
        )
        node = model.Node(
            id=node_id,
            version=20 + number,
            spec=model.NodeSpec(role=model.NodeRole.MANAGER if not number else model.NodeRole.WORKER),
            description=description,
            status=model.NodeStatus(model.NodeState.NODE_READY, "", f"192.0.2.{number + 1}"),
            manager_status=None
            if number
            else model.ManagerStatus(True, model.Reachability.REACHABLE, "192.0.2.1:2377"),
        )
        world.manager.add(node)
    return world
