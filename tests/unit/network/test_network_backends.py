"""Who stands behind a service's addresses."""

from __future__ import annotations

from dataclasses import replace

from agent.network import backends
from common import model
from tests.unit.network.small_swarm import endpoint, state


def test_who_is_lost() -> None:
    """Not who is only on the way out, nor who is offered all the same."""
    drained, withdrawn = model.EndpointState.ENDPOINT_DRAINED, model.EndpointState.ENDPOINT_WITHDRAWN
    given = state((
        endpoint("t1", "ing", "10.0.0.20", "n2", drained), endpoint("t2", "ing", "10.0.0.21", "n3", drained),
        endpoint("t3", "ing", "10.0.0.22", "n1", withdrawn), endpoint("t4", "ing", "10.0.0.23", "n3"),
    ))  # fmt: skip
    assert backends.lost_addresses(given) == frozenset()
    nodes = {**given.nodes, "n3": replace(given.nodes["n3"], down=True)}
    given = replace(given, nodes=nodes, lost=frozenset({"t3", "t4"}))
    assert backends.lost_addresses(given) == {("ing", "10.0.0.21"), ("ing", "10.0.0.22")}
