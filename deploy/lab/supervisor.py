"""The lab's first process: it holds the network, the registry, the outside world and every machine.

``lab up`` starts this file in process, mount, network, UTS and IPC namespaces of its own. So its death, however it
comes about, takes everything of the lab along: processes, mounts, links and namespaces. ``lab`` talks to it by lines of
JSON on a socket. One thread; it waits in one place.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import kernel
import waiting
from plan import (
    BRIDGE,
    CONTROL_SOCKET,
    LAB_CODE,
    LAB_NAME,
    REGISTRY,
    REGISTRY_ADDRESS,
    REGISTRY_DATA,
    RUN,
    STATE,
    LabError,
    Machine,
)

REBOOT_EXIT = 133
OFF, STARTING, READY, FAILED = "off", "starting", "ready", "failed"


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@dataclass(slots=True)
class Power:
    """One machine as its power supply sees it."""

    machine: Machine
    state: str = OFF
    pid: int = 0
    wanted: bool = False
    boots: int = 0
    since: float = field(default_factory=time.monotonic)
    notify: socket.socket | None = None


@dataclass(slots=True)
class Waiter:
    """A client that waits until a machine is in one of some states."""

    name: str
    states: tuple[str, ...]
    connection: socket.socket


def private_run_folder() -> None:
    """An empty /run that holds only the lab's own folder, so that nothing is left in the host's."""
    own = os.open(RUN, os.O_PATH | os.O_DIRECTORY)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc")
    kernel.mount("tmpfs", "/run", "tmpfs", data="mode=755")
    RUN.mkdir(parents=True)
    kernel.mount(f"/proc/self/fd/{own}", str(RUN), flags=kernel.MS_BIND)
    os.close(own)
    for folder in ("/run/lock", "/run/notify", "/run/systemd"):
        Path(folder).mkdir()


def hide_hybrid_cgroups() -> None:
    """On a hybrid host the machines get the v1 hierarchies alone."""
    used = kernel.hierarchies()
    unified = kernel.CGROUP_ROOT / "unified"
    if used and not kernel.is_v2(used[0]) and kernel.is_v2(unified):
        kernel.unmount(str(unified))


def make_network() -> None:
    for command in (
        "ip link set lo up",
        f"ip link add {BRIDGE} type bridge forward_delay 0",
        f"ip address add {REGISTRY_ADDRESS}/24 dev {BRIDGE}",
        f"ip link set {BRIDGE} up",
    ):
        subprocess.run(command.split(), check=True)
    # Frames between machines are not to pass through this namespace's packet filter.
    for name in ("iptables", "ip6tables", "arptables"):
        file = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
        if file.exists():
            file.write_text("0")


def spawn(argv: list[str], output: TextIO | int | None = None, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, text=True, **options)


def start_outside() -> int:
    child = subprocess.Popen(
        ["unshare", "--net", "--uts", "--mount", sys.executable, str(LAB_CODE / "outside.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: kernel.enter_cgroups("outside"),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    own = os.stat("/proc/self/ns/net").st_ino
    wait_for(lambda: os.stat(f"/proc/{child.pid}/ns/net").st_ino != own, "the namespace of outside")
    link = f"ip link add vb-outside type veth peer name eth0 netns {child.pid}"
    for command in (link, f"ip link set vb-outside master {BRIDGE} up"):
        subprocess.run(command.split(), check=True)
    child.stdin.write("go\n")
    child.stdin.flush()
    if child.stdout.readline() != "ready\n":
        raise LabError("the outside world did not start")
    (RUN / "outside.ready").write_text("")
    return child.pid


def start_registry() -> int:
    REGISTRY_DATA.mkdir(parents=True, exist_ok=True)
    config = Path("/run/registry.yml")
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(REGISTRY_DATA)}, "delete": {"enabled": True}},
        "http": {"addr": REGISTRY},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    output = RUN / "registry.log"
    with output.open("w") as file:
        child = spawn(["docker-registry", "serve", str(config)], file)

    def answers() -> bool:
        if child.poll() is not None:
            raise LabError(f"the registry ended:\n{output.read_text()[-1000:]}")
        with socket.socket() as probe:
            return probe.connect_ex((REGISTRY_ADDRESS, int(REGISTRY.rpartition(":")[2]))) == 0

    wait_for(answers, "the registry")
    return child.pid


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    if not waiting.until(condition, seconds):
        raise LabError(f"{what} did not start within {seconds:.0f} s")


class Supervisor:
    """The event loop: children that end, machines that say they are ready, clients that ask."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.machines: dict[str, Power] = {}
        self.waiters: list[Waiter] = []
        self.helpers: dict[int, str] = {}
        self.stopping = False
        self.control = socket.socket(socket.AF_UNIX)
        wake, self.wake = socket.socketpair()
        wake.setblocking(False)
        self.wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        self._wake_end = wake
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self.selector.register(self.wake, selectors.EVENT_READ, self._drain_wake)

    def _on_signal(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self.stopping = True

    def _drain_wake(self) -> None:
        self.wake.recv(4096)
        self.reap()

    def listen(self) -> None:
        CONTROL_SOCKET.unlink(missing_ok=True)
        self.control.bind(str(CONTROL_SOCKET))
        self.control.listen(64)
        self.selector.register(self.control, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        while not self.stopping:
            for key, _ in self.selector.select():
                key.data()

    # -- children

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        if pid in self.helpers:
            log(f"{self.helpers.pop(pid)} ended with {code}: the lab ends")
            self.stopping = True
            return
        for power in self.machines.values():
            if power.pid == pid:
                self._machine_ended(power, code)

    def _machine_ended(self, power: Power, code: int) -> None:
        name = power.machine.name
        power.pid = 0
        log(f"{name} ended with {code}")
        try:
            kernel.remove_cgroups(name)
        except OSError as error:
            log(f"{name}: {error}")
        if power.wanted and code == REBOOT_EXIT:
            self._boot(power)
        elif power.wanted and code != 0:
            self._enter(power, FAILED)
        else:
            self._enter(power, OFF)

    # -- machines

    def _boot(self, power: Power) -> None:
        machine = power.machine
        path = Path("/run/notify") / machine.name
        if power.notify is None:
            power.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            power.notify.bind(str(path))
            self.selector.register(power.notify, selectors.EVENT_READ, lambda: self._notified(power))
        power.boots += 1
        power.wanted = True
        with machine.console.open("a") as console:
            child = spawn(
                [sys.executable, str(LAB_CODE / "boot.py"), json.dumps(asdict(machine))],
                console.fileno(),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
            )
        power.pid = child.pid
        child.returncode = 0  # reaped here, not by subprocess
        self._enter(power, STARTING)

    def _notified(self, power: Power) -> None:
        assert power.notify is not None
        text = power.notify.recv(8192).decode(errors="replace")
        if "READY=1" in text.split("\n") and power.state == STARTING:
            self._enter(power, READY)

    def _enter(self, power: Power, state: str) -> None:
        log(f"{power.machine.name}: {power.state} -> {state}")
        power.state, power.since = state, time.monotonic()
        for waiter in [w for w in self.waiters if w.name == power.machine.name and state in w.states]:
            self.waiters.remove(waiter)
            self._reply(waiter.connection, {"state": state})

    def _cut_power(self, power: Power) -> None:
        """SIGKILL of the machine's first process: all of the machine is gone at once, like with a pulled plug."""
        power.wanted = False
        if power.pid:
            for pid in kernel.children(power.pid) or [power.pid]:
                os.kill(pid, signal.SIGKILL)
            kernel.thaw(power.machine.name)  # a paused machine dies only when it may go on

    # -- clients

    def _accept(self) -> None:
        connection, _ = self.control.accept()
        connection.settimeout(5)
        try:
            with connection.makefile("r") as stream:
                request = json.loads(stream.readline())
            self._serve(connection, request)
        except (OSError, ValueError, KeyError, TypeError, LabError) as error:
            self._reply(connection, {"error": str(error) or repr(error)})

    def _serve(self, connection: socket.socket, request: dict[str, Any]) -> None:
        what, name = request["do"], request.get("name", "")
        if what == "list":
            now = time.monotonic()
            states = {
                n: {"state": p.state, "boots": p.boots, "seconds": round(now - p.since, 1)}
                for n, p in self.machines.items()
            }
            self._reply(connection, {"machines": states})
            return
        if what == "start":
            machine = Machine(**request["machine"])
            power = self.machines.setdefault(machine.name, Power(machine))
            if not power.pid:
                self._boot(power)
            self._reply(connection, {"state": power.state})
            return
        if name not in self.machines:
            raise LabError(f"{name} has not been powered on yet")
        power = self.machines[name]
        if what == "wait":
            waiter = Waiter(name, tuple(request["states"]), connection)
            if power.state in waiter.states:
                self._reply(connection, {"state": power.state})
            else:
                self.waiters.append(waiter)
        elif what == "cut":
            self._cut_power(power)
            self._reply(connection, {"state": power.state})
        else:
            raise LabError(f"unknown request: {what}")

    def _reply(self, connection: socket.socket, answer: dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as error:
            log(f"a client went away: {error}")
        connection.close()


def main() -> None:
    kernel.forbid_clock()
    kernel.enter_cgroups("supervisor")
    socket.sethostname(LAB_NAME)
    private_run_folder()
    hide_hybrid_cgroups()
    STATE.mkdir(parents=True, exist_ok=True)
    make_network()
    outside = start_outside()
    registry = start_registry()
    supervisor = Supervisor()
    supervisor.helpers = {outside: "outside", registry: "registry"}
    supervisor.listen()
    supervisor.reap()
    log("ready")
    supervisor.run()
    log("the lab ends")


if __name__ == "__main__":
    main()
