from __future__ import annotations

import pytest

from tests.simulation.raft import directed_membership, directed_reads
from tests.simulation.raft.directed import SCENARIOS

assert directed_membership.SCENARIOS is directed_reads.SCENARIOS is SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    SCENARIOS[name]()
