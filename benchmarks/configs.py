"""`config create`, the smallest write that a swarm's managers agree on: how long one takes when nothing else is asked.

In measure.py's list; alone: python -m benchmarks.swarm --only config-create
"""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.engine import BenchError, wait_until
from benchmarks.lab import MACHINES, MANAGER, Side

DATA = b"key=value\n"
PREFIX = "bench-"
DEADLINE = 60.0
WARM = 3  # of each kind, not counted


@dataclass(frozen=True, slots=True)
class ConfigCreate:
    """One at a time, by turns on both sides: a call of the docker CLI, and a POST over a connection that stands.

    With three managers the workers are promoted before and demoted afterwards; `follower` is asked of one of them.
    """

    managers: int
    times: int = 50

    @property
    def name(self) -> str:
        return f"config-create-{self.managers}"

    @property
    def what(self) -> str:
        return f"docker config create NAME FILE of {len(DATA)} bytes, and POST /configs/create, at the leader of {self.managers}"

    def take(self, sides: Sequence[Side]) -> dict[str, Mapping[str, list[float]]]:
        with ExitStack() as stack:
            for side in sides:
                stack.enter_context(managed(side, self.managers))
                stack.callback(clear, side)
            return self._alternate(sides)

    def _alternate(self, sides: Sequence[Side]) -> dict[str, Mapping[str, list[float]]]:
        taken: dict[str, Mapping[str, list[float]]] = {side.name: {} for side in sides}
        with tempfile.NamedTemporaryFile(prefix="shoal-bench-") as file:
            file.write(DATA)
            file.flush()
            for number in range(-WARM, self.times):
                for side in sides if number % 2 else sides[::-1]:
                    figures = self._one(side, f"{PREFIX}{number + WARM}", file.name)
                    if number >= 0:
                        taken[side.name] = {
                            key: [*taken[side.name].get(key, []), value] for key, value in figures.items()
                        }
        return taken

    def _one(self, side: Side, name: str, path: str) -> dict[str, float]:
        """Milliseconds of each way."""
        figures = {
            "cli": timed(lambda: side.docker("config", "create", f"{name}-cli", path)),
            "api": timed(lambda: side.manager.post("/configs/create", spec(f"{name}-api"))),
        }
        if self.managers > 1:
            follower = side.engines[MACHINES[1]]
            figures["follower"] = timed(lambda: follower.post("/configs/create", spec(f"{name}-follower")))
        return figures


def spec(name: str) -> dict[str, Any]:
    return {"Name": name, "Labels": {}, "Data": base64.b64encode(DATA).decode()}


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def clear(side: Side) -> None:
    """Removes what this measure has made."""
    for config in side.manager.get("/configs", name=PREFIX):
        side.manager.delete(f"/configs/{config['ID']}")


@contextmanager
def managed(side: Side, count: int) -> Iterator[None]:
    """So many managers of which the first leads, and one again afterwards. One change at a time, as Docker needs it."""
    others = MACHINES[1:count]
    try:
        for number, machine in enumerate(others, 2):
            side.docker("node", "promote", machine)
            wait_managers(side, number)
        leader = [n["Description"]["Hostname"] for n in statuses(side) if n["ManagerStatus"].get("Leader")]
        if leader != [MANAGER]:
            raise BenchError(f"{side.name}: {', '.join(leader) or 'nobody'} leads, not {MANAGER}")
        yield
    finally:
        for number, machine in reversed(list(enumerate(others, 1))):
            side.docker("node", "demote", machine)
            wait_managers(side, number)


def statuses(side: Side) -> list[dict[str, Any]]:
    """The nodes that are managers and answer."""
    nodes = side.manager.get("/nodes")
    return [n for n in nodes if n.get("ManagerStatus", {}).get("Reachability") == "reachable"]


def wait_managers(side: Side, count: int) -> None:
    def reached() -> bool:
        managers = [n for n in side.manager.get("/nodes") if n.get("ManagerStatus")]
        return len(managers) == count == len(statuses(side))

    wait_until(reached, DEADLINE, lambda: f"{side.name}: {count} managers")
