"""All directed scenarios for whole managers, by name; test_directed.py runs all, catch.py those that must catch a planted bug."""

from __future__ import annotations

from tests.simulation.managers import directed_backup, directed_leaders, directed_members, directed_restarts
from tests.simulation.managers.stories import SCENARIOS

__all__ = ["SCENARIOS", "directed_backup", "directed_leaders", "directed_members", "directed_restarts"]
