"""One side of the comparison: three machines of a lab of its own, a swarm on them, and their processes as the host sees them.

The machines are those of deploy/lab; ``Side`` is Shoal as install.sh leaves it there, docker_lab.py has the other one.
Host processes are found by control group (which names lab and machine) and pid namespace depth.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engine import BenchError, Engine, wait_until

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "deploy" / "lab" / "lab"
MANAGER = "manager"
MACHINES = (MANAGER, "worker1", "worker2")
ADDRESSES = {"manager": "10.99.0.1", "worker1": "10.99.0.2", "worker2": "10.99.0.3"}
IMAGE = "busybox"
OVERLAY = "bench-net"
# The lab's supervisor and each machine have a pid namespace: the third number of NSpid is the machine's own.
MACHINE_DEPTH = 2


def run(argv: list[str], seconds: float = 300, environment: dict[str, str] | None = None) -> str:
    """Runs a command of the host; its output. Raises with all that it printed when it fails."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{shlex.join(argv)} did not end within {seconds:.0f} s") from error
    if done.returncode != 0:
        raise BenchError(f"{shlex.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a machine by the host's number, and by the machine's."""

    pid: int
    inner: int
    name: str
    machine: str


@dataclass
class Side:
    """Shoal's side; also the base of Docker's."""

    name: str = "shoal"
    daemons: tuple[str, ...] = ("shoal-manager", "shoal-agent", "containerd")
    engines: dict[str, Engine] = field(default_factory=dict)

    # -- the lab

    @property
    def lab(self) -> str:
        return f"bench-{self.name}"

    def run_folder(self, machine: str) -> Path:
        """On the host; the machine has it as /run/shoal."""
        return Path(f"/run/shoal-lab-{self.lab}") / machine

    def socket(self, machine: str) -> Path:
        return self.run_folder(machine) / "docker.sock"

    def tool(self, *argv: str, seconds: float = 900) -> str:
        return run([str(LAB), *argv], seconds, {"SHOAL_LAB": self.lab})

    def inside(self, machine: str, *argv: str, seconds: float = 300) -> str:
        return self.tool("exec", machine, *argv, seconds=seconds)

    def docker(self, *argv: str, machine: str = MANAGER, seconds: float = 300) -> str:
        """The host's docker CLI on a machine's socket: the same program for both sides."""
        return run(["docker", "-H", f"unix://{self.socket(machine)}", *argv], seconds)

    @property
    def manager(self) -> Engine:
        return self.engines[MANAGER]

    def up(self) -> None:
        """From nothing, or from what is there, to a swarm of three with the image on every node."""
        self.tool("up", "--nodes", "3")
        self.install()
        self.engines = {name: Engine(self.socket(name)) for name in MACHINES}
        self._join()
        for name in MACHINES:
            self.docker("pull", "--quiet", IMAGE, machine=name)
        self.clear()
        networks = self.docker("network", "ls", "--format", "{{.Name}}").split()
        if OVERLAY not in networks:
            self.docker("network", "create", "--driver", "overlay", OVERLAY)

    def install(self) -> None:
        """Shoal is there already: install.sh made it part of the machines."""

    def down(self) -> None:
        self.tool("down")

    def clear(self) -> None:
        """Removes what an interrupted run has left."""
        for service in self.docker("service", "ls", "--format", "{{.Name}}").split():
            self.remove(service)

    def remove(self, service: str, seconds: float = 120) -> None:
        """Removes a service and waits until no container of it is left anywhere."""
        self.docker("service", "rm", service)
        self.wait_gone(service, seconds)

    def wait_gone(self, service: str, seconds: float = 120) -> float:
        def gone() -> bool:
            return not any(engine.containers(service) for engine in self.engines.values())

        return wait_until(gone, seconds, lambda: f"{self.name}: containers of {service} gone")

    def _join(self) -> None:
        def state(machine: str) -> str:
            return self.docker("info", "--format", "{{.Swarm.LocalNodeState}}", machine=machine).strip()

        if state(MANAGER) != "active":
            self.docker("swarm", "init", "--advertise-addr", ADDRESSES[MANAGER])
        token = self.docker("swarm", "join-token", "--quiet", "worker").strip()
        for name in MACHINES[1:]:
            if state(name) != "active":
                self.docker("swarm", "join", "--token", token, f"{ADDRESSES[MANAGER]}:2377", machine=name)

        def ready() -> bool:
            nodes = self.manager.get("/nodes")
            return len([n for n in nodes if n["Status"]["State"] == "ready"]) == len(MACHINES)

        wait_until(ready, 60, lambda: f"{self.name}: three nodes Ready")

    # -- what it is, for the record

    def about(self) -> dict[str, str]:
        server = self.docker(
            "version", "--format", "{{range .Server.Components}}{{.Name}} {{.Version}}; {{end}}"
        )
        digest = self.docker("image", "inspect", IMAGE, "--format", "{{index .RepoDigests 0}}")
        return {"server": server.strip(), "image": digest.strip()}

    # -- processes

    def processes(self) -> Iterator[Process]:
        """Every process of the lab's machines."""
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                groups = (folder / "cgroup").read_text()
                if f"/shoal-lab-{self.lab}/" not in groups:
                    continue
                status = (folder / "status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            machine = groups.partition(f"/shoal-lab-{self.lab}/")[2].partition("\n")[0].partition("/")[0]
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            depths = fields.get("NSpid", "").split()
            if machine in MACHINES and len(depths) > MACHINE_DEPTH:
                yield Process(int(folder.name), int(depths[MACHINE_DEPTH]), fields["Name"], machine)

    def task_pid(self, task: dict[str, object]) -> int:
        """The host's number of a task's first process."""
        inner, machine = self.task_place(task)
        for process in self.processes():
            if process.inner == inner and process.machine == machine:
                return process.pid
        raise BenchError(f"{self.name}: no process {inner} on {machine}")

    def task_place(self, task: dict[str, object]) -> tuple[int, str]:
        """A task's first process by its machine's number, and the machine."""
        status = task["Status"]
        assert isinstance(status, dict)
        names = {n["ID"]: n["Description"]["Hostname"] for n in self.manager.get("/nodes")}
        return int(status["ContainerStatus"]["PID"]), names[task["NodeID"]]
