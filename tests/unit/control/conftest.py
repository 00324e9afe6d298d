"""The Control service that its tests ask."""

import pytest
from control_bench import Bench, node

from common import model


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.put(
        node("manager", role=model.NodeRole.MANAGER),
        node("worker", model.NodeState.NODE_DOWN),
        model.Network(id="ing", spec=model.NetworkSpec(name="ingress", ingress=True)),
        model.Cluster(id="cluster"),
    )
    return made
