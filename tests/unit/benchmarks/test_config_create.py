"""The measure of `config create`, on a side that only counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.configs import WARM, ConfigCreate
from benchmarks.engine import BenchError
from benchmarks.lab import MACHINES


class FakeEngine:
    """One machine's API of a swarm that does at once what it is told."""

    def __init__(self, swarm: FakeSide) -> None:
        self.swarm = swarm

    def get(self, path: str, **filters: str) -> Any:
        if path == "/configs":
            return [{"ID": name} for name in self.swarm.configs if name.startswith(filters["name"])]
        return [
            {
                "Description": {"Hostname": name},
                **(
                    {"ManagerStatus": {"Reachability": "reachable", "Leader": name == self.swarm.leader}}
                    if name in self.swarm.managers
                    else {}
                ),
            }
            for name in MACHINES
        ]

    def post(self, path: str, body: Any) -> Any:
        assert path == "/configs/create"
        self.swarm.create(body["Name"])
        return {"ID": body["Name"]}

    def delete(self, path: str) -> None:
        self.swarm.configs.remove(path.removeprefix("/configs/"))


@dataclass
class FakeSide:
    name: str
    configs: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    managers: list[str] = field(default_factory=lambda: ["manager"])
    leader: str = "manager"
    most: int = 1

    @property
    def engines(self) -> dict[str, FakeEngine]:
        return {name: FakeEngine(self) for name in MACHINES}

    @property
    def manager(self) -> FakeEngine:
        return self.engines["manager"]

    def create(self, name: str) -> None:
        assert name not in self.configs
        self.configs.append(name)
        self.made.append(name)

    def docker(self, *words: str) -> str:
        match words:
            case ("config", "create", name, _):
                self.create(name)
            case ("node", "promote", name):
                self.managers.append(name)
            case ("node", "demote", name):
                self.managers.remove(name)
        self.most = max(self.most, len(self.managers))
        return ""


@pytest.mark.parametrize(("managers", "ways"), [(1, {"cli", "api"}), (3, {"cli", "api", "follower"})])
def test_every_way_as_often_and_nothing_left(managers: int, ways: set[str]) -> None:
    sides = [FakeSide("shoal", configs=["kept"]), FakeSide("docker")]
    figures = ConfigCreate(managers, times=4).take(sides)  # type: ignore[arg-type]
    assert figures.keys() == {"shoal", "docker"}
    for side in sides:
        assert figures[side.name].keys() == ways
        assert {len(values) for values in figures[side.name].values()} == {4}
        assert len(side.made) == (4 + WARM) * len(ways)
        assert (side.most, side.managers) == (managers, ["manager"])
    assert [side.configs for side in sides] == [["kept"], []]


def test_another_leader_is_an_error_and_the_workers_are_workers_again() -> None:
    side = FakeSide("shoal", leader="worker1")
    with pytest.raises(BenchError, match="shoal: worker1 leads, not manager"):
        ConfigCreate(3, times=1).take([side])  # type: ignore[list-item]
    assert side.managers == ["manager"]
