"""tests/simulation/catch.py for whole managers."""

from __future__ import annotations

import sys

from tests.simulation.catch import catch
from tests.simulation.managers import directed
from tests.simulation.managers.checks import Violation
from tests.simulation.managers.runs import run_seed


def by_scenario(name: str) -> str:
    try:
        directed.SCENARIOS[name](None)
    except Violation as exc:
        return str(exc)
    return ""


def by_seed(number: int) -> str:
    return run_seed(number).wrong


if __name__ == "__main__":
    sys.exit(catch(by_scenario, by_seed))
