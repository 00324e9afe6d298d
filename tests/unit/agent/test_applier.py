"""What is told when a node comes to another swarm, or to none."""

from __future__ import annotations

from typing import Any, cast

from agent.applier import Applier
from agent.state import NodeState


def test_a_node_without_a_swarm_knows_no_names_any_more() -> None:
    nothing = cast(Any, None)
    applier = Applier(NodeState("n1"), nothing, nothing, nothing)
    told: list[NodeState] = []
    applier.changed = told.append
    applier.reset(NodeState())
    assert told == [NodeState()] and applier.state == NodeState()
