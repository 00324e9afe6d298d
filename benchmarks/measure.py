"""What is measured, one class per kind: each takes one repetition of one measure on one side and returns its figures.

A figure is a list of values, since one repetition may have several. All is watched through the Engine API or /proc of the
host, by the same code on both sides. swarm.py calls these in turn; report.py knows nothing of them but METRICS' names.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.configs import ConfigCreate
from benchmarks.engine import BenchError, wait_until
from benchmarks.lab import IMAGE, MANAGER, OVERLAY, Process, Side, run
from benchmarks.reach import Reach

Figures = Mapping[str, list[float]]
# SIGKILL as stop signal: sleep as a first process ignores SIGTERM, every stop would wait for the grace period.
TASK = ("--stop-signal", "SIGKILL", IMAGE, "sleep", "1000000")
DEADLINE = 180.0
HEARTBEAT = 5.0  # s between two of an agent's, on both sides
QUIET_SHARE, QUIET_WINDOW, QUIET_DEADLINE = 0.10, 1.0, 30.0
TICKS = os.sysconf("SC_CLK_TCK")
SHIM = "containerd-shim"
MIB = 1024


class Measure(Protocol):
    """One kind of measure. ``take`` gets the sides in this repetition's order and returns each side's figures."""

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str: ...

    def take(self, sides: Sequence[Side]) -> dict[str, Figures]: ...


def busy_share(seconds: float = QUIET_WINDOW) -> float:
    """The share of all processors that was used during a while; work at a lower priority gives way and doesn't count."""

    def read() -> tuple[int, int]:
        values = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(values), values[1] + values[3] + values[4]  # niced, idle, waiting for a disk

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def settle() -> float:
    """Waits until the machine is quiet (30 s at most); the share of it that was busy at the end."""
    end = time.monotonic() + QUIET_DEADLINE
    while (busy := busy_share()) > QUIET_SHARE and time.monotonic() < end:
        pass
    return busy


def create(side: Side, service: str, replicas: int, *options: str) -> float:
    """Creates a service of sleeping tasks; seconds from the start of the command until all run."""
    began = time.monotonic()
    side.docker(
        "service", "create", "--detach", "--name", service, "--replicas", str(replicas), *options, *TASK
    )
    running = wait_until(
        lambda: len(side.manager.running_tasks(service)) == replicas,
        DEADLINE,
        lambda: f"{side.name}: {replicas} tasks of {service} running ({side.manager.failures(service)})",
    )
    # What the API says is held against the machines' own process tables.
    processes = sum(p.name == "sleep" for p in side.processes())
    if processes != replicas:
        raise BenchError(f"{side.name}: {replicas} tasks are said to run, there are {processes} processes")
    return running - began


@dataclass(frozen=True, slots=True)
class CreateAndRemove:
    """service create until all tasks run; service rm until the last container is gone from every node."""

    replicas: int
    overlay: bool

    @property
    def name(self) -> str:
        return f"create-{self.replicas}" + ("-overlay" if self.overlay else "")

    @property
    def what(self) -> str:
        where = f"--network {OVERLAY} " if self.overlay else ""
        return f"docker service create --detach --replicas {self.replicas} {where}{' '.join(TASK)}; docker service rm"

    def take(self, sides: Sequence[Side]) -> dict[str, Figures]:
        return {side.name: self._one(side) for side in sides}

    def _one(self, side: Side) -> Figures:
        network = ("--network", OVERLAY) if self.overlay else ()
        settle()
        running = create(side, self.name, self.replicas, *network)
        settle()
        began = time.monotonic()
        side.docker("service", "rm", self.name)
        gone = side.wait_gone(self.name, DEADLINE) - began
        if left := sum(p.name == "sleep" for p in side.processes()):
            raise BenchError(f"{side.name}: all containers are said to be gone, there are {left} processes")
        return {"create": [running], "remove": [gone]}


@dataclass(frozen=True, slots=True)
class Replacement:
    """SIGKILL to a task's process until its replacement runs, restart delay 0."""

    kills: int = 5
    name: str = "replacement"
    what: str = "docker service create --replicas 3 --restart-delay 0s; kill -9 of one task's process"

    def take(self, sides: Sequence[Side]) -> dict[str, Figures]:
        return {side.name: self._one(side) for side in sides}

    def _one(self, side: Side) -> Figures:
        create(side, self.name, 3, "--restart-delay", "0s")
        taken = [self._kill(side) for _ in range(self.kills)]
        side.remove(self.name)
        return {"replacement": taken}

    def _kill(self, side: Side) -> float:
        settle()
        before = {t["ID"]: t for t in side.manager.running_tasks(self.name)}
        victim = next(iter(before))
        pid = side.task_pid(before[victim])

        def replaced() -> bool:
            now = {t["ID"] for t in side.manager.running_tasks(self.name)}
            return victim not in now and len(now) == len(before)

        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return wait_until(replaced, DEADLINE, lambda: f"{side.name}: a replacement of {victim}") - began


@dataclass(frozen=True, slots=True)
class Dns:
    """Questions for a service's A records, asked in a task's network namespace of the resolver that every task has."""

    seconds: float = 3.0
    name: str = "dns"
    what: str = "A of a service of 6 tasks on an overlay (its VIP) and of tasks.SERVICE (6 records), by dnsload.c in a task's namespace"

    def take(self, sides: Sequence[Side]) -> dict[str, Figures]:
        return {side.name: self._one(side) for side in sides}

    def _one(self, side: Side) -> Figures:
        service = "bench-dns"
        create(side, service, 6, "--network", OVERLAY)
        inner, machine = side.task_place(side.manager.running_tasks(service)[0])
        program = side.run_folder(machine) / "dnsload"
        compile_client(program)
        figures: dict[str, list[float]] = {}
        for label, name in (("vip", service), ("tasks", f"tasks.{service}")):
            for outstanding in (1, 16):
                settle()
                answer = self._ask(side, machine, inner, name, outstanding)
                key = f"{label}-{outstanding}"
                figures[f"qps-{key}"] = [answer["answers"] / answer["seconds"]]
                figures[f"p50-{key}"] = [answer["p50_us"]]
                figures[f"p99-{key}"] = [answer["p99_us"]]
                figures[f"lost-{key}"] = [answer["lost"] + answer["bad"]]
        program.unlink()
        side.remove(service)
        return figures

    def _ask(self, side: Side, machine: str, inner: int, name: str, outstanding: int) -> dict[str, float]:
        command = ["nsenter", f"--net=/proc/{inner}/ns/net", "/run/shoal/dnsload", "127.0.0.11", name]
        side.inside(machine, *command, "0.3", str(outstanding))  # warm
        text = side.inside(machine, *command, str(self.seconds), str(outstanding))
        answer: dict[str, float] = json.loads(text)
        if not answer["answers"]:
            raise BenchError(f"{side.name}: no answer for {name}: {text}")
        return answer


def compiler() -> str:
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        raise BenchError("the clients need a C compiler: apt-get install gcc libc6-dev")
    return found


def compile_client(target: Path) -> None:
    source = Path(__file__).with_name("dnsload.c")
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
        built = Path(folder) / "dnsload"
        run([compiler(), "-O2", "-Wall", "-static", "-o", str(built), str(source)])
        shutil.copy2(built, target)


@dataclass(frozen=True, slots=True)
class Idle:
    """Processor time of each daemon over a minute in which nobody asks anything, and its memory; both sides at once.

    Both swarms stand in the same minute: whatever disturbs the machine disturbs both.
    """

    tasks: int
    seconds: float = 60.0

    @property
    def name(self) -> str:
        return f"idle-{self.tasks}"

    @property
    def what(self) -> str:
        load = f"{self.tasks} tasks on an overlay" if self.tasks else "no service"
        return f"{load}: utime+stime and children's of /proc/PID/stat over {self.seconds:.0f} s, then smaps"

    def take(self, sides: Sequence[Side]) -> dict[str, Figures]:
        if self.tasks:
            for side in sides:
                create(side, self.name, self.tasks, "--network", OVERLAY)
        settle()
        time.sleep(HEARTBEAT)  # a quiet second may lie between two of them; nobody announces the last
        watched = {side.name: list(side.processes()) for side in sides}
        before = {name: _processor_time(processes) for name, processes in watched.items()}
        began = time.monotonic()
        time.sleep(self.seconds)
        minutes = (time.monotonic() - began) / 60
        after = {name: _processor_time(processes) for name, processes in watched.items()}
        figures = {
            side.name: _per_daemon(side, watched[side.name], before[side.name], after[side.name], minutes)
            for side in sides
        }
        if self.tasks:
            for side in sides:
                side.remove(self.name)
        return figures


def _processor_time(processes: list[Process]) -> dict[int, float]:
    """Seconds that each process and its finished children have used; of those that still run."""
    found: dict[int, float] = {}
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = text.rpartition(")")[2].split()
        found[process.pid] = sum(int(v) for v in fields[11:15]) / TICKS
    return found


@dataclass(slots=True)
class Memory:
    """What one process holds, in KiB. ``files``: resident pages of each file that it maps."""

    rss: float = 0
    pss: float = 0
    anonymous: float = 0
    files: dict[str, float] = field(default_factory=dict)


def _memory(pid: int) -> Memory:
    """From /proc/PID/smaps: a header line per mapping, then a line per figure."""
    memory = Memory()
    file = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            parts = line.split(maxsplit=5)
            file = " ".join(parts[3:]) if parts[4] != "0" else ""
            continue
        if name not in ("Rss:", "Pss:", "Anonymous:"):
            continue
        value = float(rest.split()[0])
        if name == "Pss:":
            memory.pss += value
            continue
        sign = -1 if name == "Anonymous:" else 1
        if name == "Rss:":
            memory.rss += value
        else:
            memory.anonymous += value
        # A file's pages that were written to count as anonymous; the rest may be shared.
        memory.files[file] = memory.files.get(file, 0) + sign * value
    return memory


def _node_memory(processes: list[Memory]) -> float:
    """Processes of one machine taken together, in MiB: each page of a file once, as if no other machine shared it."""
    files: dict[str, float] = {}
    for process in processes:
        for name, value in process.files.items():
            files[name] = max(files.get(name, 0), value)
    return (sum(p.anonymous for p in processes) + sum(files.values())) / MIB


def _per_daemon(
    side: Side, processes: list[Process], before: dict[int, float], after: dict[int, float], minutes: float
) -> Figures:
    """Figures named ``cpu-DAEMON-ROLE`` and so on, one value per node of that role, and some for all of a node or swarm."""
    figures: dict[str, list[float]] = {}
    totals = {"cpu-all": 0.0, "cpu-shims": 0.0}
    nodes: dict[str, list[Memory]] = {}
    shims: dict[str, list[Memory]] = {}
    for process in processes:
        shim = process.name.startswith(SHIM)
        if not shim and process.name not in side.daemons:
            continue
        if process.pid not in after:
            raise BenchError(f"{side.name}: {process.name} on {process.machine} ended while idle")
        used = (after[process.pid] - before[process.pid]) / minutes
        memory = _memory(process.pid)
        if shim:
            totals["cpu-shims"] += used
            shims.setdefault(process.machine, []).append(memory)
            continue
        totals["cpu-all"] += used
        nodes.setdefault(process.machine, []).append(memory)
        daemon = f"{process.name}-{_role(process.machine)}"
        for kind, value in (("cpu", used), ("rss", memory.rss / MIB), ("pss", memory.pss / MIB)):
            figures.setdefault(f"{kind}-{daemon}", []).append(value)
    if missing := [d for d in side.daemons if f"cpu-{d}-manager" not in figures]:
        raise BenchError(f"{side.name}: not running: {', '.join(missing)}")
    for machine, held in nodes.items():
        figures.setdefault(f"memory-{_role(machine)}", []).append(_node_memory(held))
    for held in shims.values():
        figures.setdefault("memory-shims", []).append(_node_memory(held))
    return {**figures, **{name: [value] for name, value in totals.items()}}


def _role(machine: str) -> str:
    return "manager" if machine == MANAGER else "worker"


MEASURES: tuple[Measure, ...] = (
    CreateAndRemove(5, overlay=False),
    CreateAndRemove(60, overlay=False),
    CreateAndRemove(5, overlay=True),
    CreateAndRemove(60, overlay=True),
    Replacement(),
    Dns(),
    Reach(),
    ConfigCreate(1),
    ConfigCreate(3),
    Idle(0),
    Idle(60),
)
