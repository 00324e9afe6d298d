"""Labs of tutorials and courses, typed as they stand by each CLI; what is printed is compared with what they show."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab import transcript
from tests.lab.support import Lab, Machine, until
from tests.lab.terminals import Player

pytestmark = pytest.mark.lab

TUTORIALS = Path(__file__).with_name("tutorials")
PLAYS = [(name, program) for name in ("networks", "mesh") for program in ("docker", "shoal")]
PLAYS.append(("stack", "docker"))  # `stack deploy` is not in shoal yet


@pytest.fixture
def bare(swarm: Lab) -> Iterator[Lab]:
    """A swarm as just after its making; what other tests count on is there again afterwards."""
    _clear(swarm)
    for machine in swarm.machines.values():
        machine.docker(
            "image", "rm", "-f", "coolgourav147/sleeper_traceroute", check=False
        )  # it is seen to be pulled
    yield swarm
    _clear(swarm)
    manager = swarm.manager
    if "ingress" not in _networks(swarm):
        manager.docker("network", "create", "-d", "overlay", "--ingress", "ingress")
    manager.docker("network", "create", "-d", "overlay", "nginx-net")


def _networks(lab: Lab) -> list[str]:
    return lab.manager.docker(
        "network", "ls", "--filter", "scope=swarm", "--format", "{{.Name}}"
    ).stdout.split()


def _is_empty(machine: Machine) -> bool:
    return not machine.docker("ps", "-aq").stdout


def _clear(lab: Lab) -> None:
    """No service, no container, no network but the swarm's own ingress network, on no machine."""
    manager = lab.manager
    if services := manager.docker("service", "ls", "-q").stdout.split():
        manager.docker("service", "rm", *services)
    for machine in lab.machines.values():
        if mine := machine.docker("ps", "-aq", "--filter", "is-task=false").stdout.split():
            machine.docker("rm", "-f", *mine)
    for machine in lab.machines.values():
        until(partial(_is_empty, machine), 60, f"no container on {machine.name}")

    def gone() -> bool:
        left = [name for name in _networks(lab) if name != "ingress"]
        for name in left:
            manager.run("shoal", "network", "rm", name, check=False, input="y\n")
        return not left

    until(gone, 60, "no network left")


@pytest.mark.parametrize(("name", "program"), PLAYS)
def test_tutorial(bare: Lab, name: str, program: str, tmp_path: Path) -> None:
    Player(bare, program, tmp_path).play(transcript.parse((TUTORIALS / f"{name}.txt").read_text()))
