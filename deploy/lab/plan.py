"""What a lab is made of: names, addresses and paths. Every other module of the lab imports this one; it imports none.

One host can hold several labs that don't see each other: ``SHOAL_LAB=name`` gives one a name of its own. They share the
caches (base system, wheels, images) and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
LAB_CODE = Path(__file__).resolve().parent

_suffix = os.environ.get("SHOAL_LAB", "")
LAB_NAME = f"shoal-lab-{_suffix}" if _suffix else "shoal-lab"
CACHE = Path(os.environ.get("SHOAL_LAB_CACHE", "/var/cache/shoal-lab"))
STATE = Path("/var/lib") / LAB_NAME
RUN = Path("/run") / LAB_NAME

NETWORK = "10.99.0.0/24"
PREFIX = "10.99.0."
REGISTRY_ADDRESS = PREFIX + "254"
REGISTRY = REGISTRY_ADDRESS + ":5000"
OUTSIDE = "outside"
OUTSIDE_ADDRESS = PREFIX + "100"
# A second address of outside, off the machines' own subnet: reached only through their default gateway.
FAR_ADDRESS = "198.51.100.10"
BRIDGE = "lab0"

CONTROL_SOCKET = RUN / "control.sock"
SUPERVISOR_PID = RUN / "supervisor.pid"
SUPERVISOR_LOG = RUN / "supervisor.log"
RECORD = STATE / "lab.json"
MACHINES = STATE / "machines"
REGISTRY_DATA = CACHE / "registry"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LabError(Exception):
    """Something that the user of the lab should read, without a traceback."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the lab: its record outlives power cuts, not ``lab down``."""

    name: str
    address: str
    base: str
    layer: str

    @property
    def folder(self) -> Path:
        return MACHINES / self.name

    @property
    def run_folder(self) -> Path:
        """Seen inside as /run/shoal: the machine's sockets, for the host's own clients too."""
        return RUN / self.name

    @property
    def docker_socket(self) -> Path:
        return self.run_folder / "docker.sock"

    @property
    def console(self) -> Path:
        return RUN / f"{self.name}.console"


@dataclass(slots=True)
class Lab:
    """The lab's own record on disk: its machines."""

    machines: list[Machine]

    def find(self, name: str) -> Machine:
        for machine in self.machines:
            if machine.name == name:
                return machine
        known = ", ".join(m.name for m in self.machines) or "none"
        raise LabError(f"no machine {name} in this lab (machines: {known})")

    def save(self) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        temporary = RECORD.with_suffix(".new")
        temporary.write_text(json.dumps([asdict(m) for m in self.machines], indent=1) + "\n")
        temporary.replace(RECORD)

    @classmethod
    def load(cls) -> Lab:
        if not RECORD.exists():
            return cls([])
        return cls([Machine(**fields) for fields in json.loads(RECORD.read_text())])


def machine_names(nodes: int, managers: int) -> list[str]:
    """manager, manager2, … then worker1, worker2, …: ``nodes`` names in all."""
    if not 1 <= managers <= nodes:
        raise LabError(f"a lab of {nodes} nodes can't have {managers} managers")
    if nodes > 50:
        raise LabError("a lab has at most 50 nodes")
    names = ["manager" if i == 1 else f"manager{i}" for i in range(1, managers + 1)]
    return names + [f"worker{i}" for i in range(1, nodes - managers + 1)]


def next_address(taken: Iterable[str]) -> str:
    """The lowest free address from .1 on; a machine keeps its own as long as the lab stands."""
    used = set(taken)
    return next(a for a in (f"{PREFIX}{i}" for i in range(1, 100)) if a not in used)


def variable(name: str) -> str:
    """The name as part of an environment variable."""
    return name.upper().replace("-", "_")
