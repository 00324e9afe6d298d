"""tests/simulation/catch.py for the agreement. Errors that aren't of Raft go through."""

from __future__ import annotations

import sys

from manager.raft.core.errors import RaftError
from tests.simulation.catch import catch
from tests.simulation.raft import directed_membership, directed_reads
from tests.simulation.raft.cluster import run_seed
from tests.simulation.raft.invariants import Violation
from tests.simulation.raft.stage import Failed


def by_scenario(name: str) -> str:
    try:
        (directed_membership.SCENARIOS | directed_reads.SCENARIOS)[name]()
    except (Failed, Violation, RaftError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return ""


def by_seed(number: int) -> str:
    return run_seed(number).wrong


if __name__ == "__main__":
    sys.exit(catch(by_scenario, by_seed))
