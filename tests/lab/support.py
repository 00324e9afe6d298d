"""What the lab's tests share: machines, waiting with a deadline, the Engine API, load from outside.

Every wait is for a condition and has a deadline; what a command printed goes into the failure.
"""

from __future__ import annotations

import http.client
import json
import pathlib
import re
import selectors
import shlex
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = ROOT / "deploy/lab/lab"
LOAD = pathlib.Path(__file__).with_name("load.py")
START_SECONDS = 60.0
T = TypeVar("T")


def until(condition: Callable[[], T | None], seconds: float, what: str, every: float = 0.1) -> T:
    """The first true value of `condition`; fails naming `what` and the last value when `seconds` are over. A look that takes
    its time tells what was when it began: one that began in time doesn't convict."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        last: Any = condition()
        if last:
            return last
        if began > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} (last: {last!r})")
        time.sleep(every)


def addresses(tasks: Iterable[dict[str, Any]], network: str = "") -> set[str]:
    """All that these tasks have, in one network or in every."""
    attachments = [n for t in tasks for n in t["NetworksAttachments"]]
    wanted = [n for n in attachments if network in ("", n["Network"]["Spec"]["Name"])]
    return {a.split("/")[0] for n in wanted for a in n["Addresses"]}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Machine:
    """One lab machine: its shell, its docker socket."""

    name: str
    addr: str
    socket: str

    def run(
        self, *argv: str, check: bool = True, input: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(LAB), "exec", self.name, *argv],
            capture_output=True,
            text=True,
            input=input,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{self.name}: {shlex.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def sh(self, script: str, **options: Any) -> str:
        return self.run("sh", "-c", script, **options).stdout

    def docker(
        self, *argv: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """The host's unchanged docker CLI on this machine's socket."""
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"docker {shlex.join(argv)} on {self.name} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def shoal(self, *argv: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return self.run("shoal", *argv, check=check, timeout=timeout)

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """One request to the Engine API; the answer's JSON. Raises ConnectionError while the agent is away."""
        connection = UnixConnection(self.socket)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(
                method, f"/v1.50{path}", data, {"Content-Type": "application/json"} if data else {}
            )
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise LookupError(f"{answer.status}: {text.decode()}")
            return json.loads(text) if text.strip() else None
        finally:
            connection.close()

    def backends(self) -> set[str]:
        """What the balancers here send to: that of the mesh, and those inside the tasks."""
        return set().union(*self.balancers().values())

    def balancers(self) -> dict[str, set[str]]:
        """The same by namespace, the machine's own as ""."""
        rules = self.sh(
            "nft list ruleset; for n in /run/shoal/netns/*;"
            " do echo; echo == $n; nsenter --net=$n nft list ruleset || true; done"
        )
        found = {}
        for part in ("\n" + rules).split("\n== "):
            maps = re.findall(r"dnat (?:ip6? )?to ct mark[^{}\n]* map \{([^}]*)\}", part)
            found[part.partition("\n")[0]] = {
                pair.split(" : ")[1].strip() for one in maps for pair in one.split(",")
            }
        return found

    def main_pid(self, unit: str) -> int:
        return int(self.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout)

    def kill9(self, unit: str) -> int:
        """SIGKILL to a unit's main process; returns the pid that it had."""
        pid = self.main_pid(unit)
        assert pid, f"{unit} does not run on {self.name}"
        self.run("kill", "-9", str(pid))
        return pid

    def wait_unit(self, unit: str, old_pid: int = 0, seconds: float = 30) -> int:
        """Waits until `unit` is active with another main process than `old_pid`."""

        def active() -> int | None:
            shown = self.run("systemctl", "show", "--property=ActiveState,MainPID", unit, check=False).stdout
            values = dict(line.split("=", 1) for line in shown.split() if "=" in line)
            pid = int(values.get("MainPID", "0"))
            return pid if values.get("ActiveState") == "active" and pid and pid != old_pid else None

        return until(active, seconds, f"{unit} active again on {self.name}")


@dataclass
class Lab:
    """The swarm's machines, those that are not in it yet, and the world outside."""

    machines: dict[str, Machine] = field(default_factory=dict)
    spare: dict[str, Machine] = field(default_factory=dict)

    @property
    def manager(self) -> Machine:
        return self.machines["manager"]

    def tool(self, *argv: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([str(LAB), *argv], capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(
                f"lab {shlex.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def outside(self, *argv: str, check: bool = True, input: str | None = None, timeout: float = 120) -> str:
        return Machine("outside", "", "").run(*argv, check=check, input=input, timeout=timeout).stdout

    def read_env(self) -> None:
        values = dict(
            line.removeprefix("export ").split("=", 1)
            for line in self.tool("env").stdout.split("\n")
            if "=" in line
        )
        self.outside_addr = values["LAB_ADDR_OUTSIDE"]
        for key, value in values.items():
            if key.startswith("DOCKER_HOST_"):
                name = key.removeprefix("DOCKER_HOST_").lower()
                addr = values[f"LAB_ADDR_{name.upper()}"]
                self.machines[name] = Machine(name, addr, value.removeprefix("unix://"))

    # -- what the swarm says

    def tasks(self, service: str, state: str = "running") -> list[dict[str, Any]]:
        """A service's tasks that are in `state` and should be ('' for all)."""
        found = self.manager.api(f"/tasks?filters={json.dumps({'service': [service]}).replace(' ', '')}")
        return [
            t for t in found if not state or (t["Status"]["State"] == state and t["DesiredState"] == state)
        ]

    def wait_running(self, service: str, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        def running() -> list[dict[str, Any]] | None:
            try:
                found = self.tasks(service)
            except (OSError, LookupError, http.client.HTTPException):
                return None
            return found if len(found) == count else None

        return until(running, seconds, f"{count} tasks of {service} running")

    def wait_gone(self, service: str, seconds: float = 60) -> None:
        until(lambda: service not in self.manager.docker("service", "ls").stdout, seconds, f"{service} gone")

    def wait_node(self, name: str, state: str, seconds: float = 60) -> float:
        """Waits for a node's state; returns how long that took."""
        began = time.monotonic()

        def is_so() -> bool:
            try:
                nodes = self.manager.api("/nodes")
            except (OSError, LookupError, http.client.HTTPException):
                return False
            return any(
                n["Description"].get("Hostname") == name and n["Status"]["State"] == state for n in nodes
            )

        until(is_so, seconds, f"{name} {state}")
        return time.monotonic() - began

    def vip(self, service: str, network: str) -> str:
        """A service's address in one network."""
        wanted = self.manager.api(f"/networks/{network}")["Id"]
        found = self.manager.api(f"/services/{service}")["Endpoint"]["VirtualIPs"]
        return next(v["Addr"].split("/")[0] for v in found if v["NetworkID"] == wanted)

    def node_of(self, task: dict[str, Any]) -> Machine:
        nodes = {n["ID"]: n["Description"]["Hostname"] for n in self.manager.api("/nodes")}
        return self.machines[nodes[task["NodeID"]]]

    # -- inside a task

    def task_exec(self, task: dict[str, Any], *argv: str, check: bool = True) -> str:
        """Runs a command in a task's container, as a user would: by `docker exec` on its node."""
        container = task["Status"]["ContainerStatus"]["ContainerID"]
        return self.node_of(task).docker("exec", container, *argv, check=check).stdout

    def in_netns(self, task: dict[str, Any], *argv: str, input: str | None = None, check: bool = True) -> str:
        """Runs one of the machine's own commands in a task's network namespace."""
        pid = task["Status"]["ContainerStatus"]["PID"]
        return (
            self.node_of(task)
            .run("nsenter", f"--net=/proc/{pid}/ns/net", *argv, input=input, check=check)
            .stdout
        )

    # -- from outside

    def connections(self, targets: list[str], count: int, path: str = "/whoami") -> dict[str, Counter[str]]:
        """`count` new connections to each target (host:port); what they answered, counted."""
        out = self.outside("python3", "-", "count", path, str(count), *targets, input=LOAD.read_text())
        return {target: Counter(answers) for target, answers in json.loads(out).items()}

    def serves(self, port: int, tasks: int, machines: Iterable[Machine] = ()) -> bool:
        """Whether each of these machines, or every one, sends to so many tasks, and to none that does not answer."""
        targets = [f"{m.addr}:{port}" for m in machines or self.machines.values()]
        found = self.connections(targets, max(5 * tasks, 1))
        return all(len(a) == tasks and not any(k.startswith("FAILED") for k in a) for a in found.values())

    def wait_served(self, port: int, tasks: int, machines: Iterable[Machine] = ()) -> None:
        """A task runs before its server listens, and before every machine has heard of it; and it may have left the tables
        of managers before it has left every balancer."""
        machines = list(machines)
        until(lambda: self.serves(port, tasks, machines), 60, f"{tasks} tasks answer at each :{port}")

    @contextmanager
    def load(self, command: list[str], machine: str = "outside") -> Iterator[Running]:
        """Runs load.py somewhere until the block is left, then reads its account."""
        process = subprocess.Popen(
            [str(LAB), "exec", machine, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = Running(process)
        try:
            running.wait_started()
            yield running
        finally:
            running.stop()


@dataclass
class Running:
    """A load generator; `account` is there once it has stopped."""

    process: subprocess.Popen[str]
    account: dict[str, Any] = field(default_factory=dict)

    def wait_started(self) -> None:
        assert self.process.stdout
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            line = self.process.stdout.readline() if ready.select(START_SECONDS) else "nothing"
        if line.strip() != "started":
            raise AssertionError(f"load did not start: {line!r} {self._killed()}")

    def stop(self) -> None:
        """Closes its standard input, which ends it, and reads what it counted."""
        if self.process.returncode is not None:
            return  # it has not even started
        try:
            out, err = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired as exc:
            raise AssertionError(f"load did not end: {self._killed()}") from exc
        if self.process.returncode:
            raise AssertionError(f"load ended with {self.process.returncode}: {err}")
        self.account = json.loads(out.strip().splitlines()[-1])

    def _killed(self) -> str:
        """Ends it; what it complained of, or that somebody keeps its output open even then."""
        self.process.kill()
        try:
            return self.process.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired as exc:
            self.process.wait(10)
            return f"{exc}"
