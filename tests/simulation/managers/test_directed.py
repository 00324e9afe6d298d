"""Every directed scenario goes well."""

from __future__ import annotations

import pytest

from tests.simulation.managers.directed import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_goes_well(name: str) -> None:
    SCENARIOS[name](None)
