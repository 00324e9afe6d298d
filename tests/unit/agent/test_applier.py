"""What is told when a node comes to another swarm, or to none."""

from __future__ import annotations

from typing import Any, cast

import pytest

from agent.applier import Applier, Refused
from agent.state import NodeState
from common import model


def test_a_node_without_a_swarm_knows_no_names_any_more() -> None:
    nothing = cast(Any, None)
    applier = Applier(NodeState("n1"), nothing, nothing, nothing)
    told: list[NodeState] = []
    applier.changed = told.append
    applier.reset(NodeState())
    assert told == [NodeState()] and applier.state == NodeState()


async def test_assignments_that_were_being_written_while_the_node_left_count_no_more() -> None:
    class Slow:
        async def put_state(self, state: NodeState) -> None:
            applier.reset(NodeState())  # in the moment in which the disk is done

    nothing = cast(Any, None)
    applier = Applier(NodeState("n1", model.Fence("c1")), Slow(), nothing, nothing)
    message = model.Assignments(model.Fence("c1", 1, 1, 5), True, "", "a", (), False)
    with pytest.raises(Refused):
        await applier.take(message)
    assert applier.state == NodeState()
