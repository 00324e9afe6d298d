"""Virtual machines in a network namespace of their own, that of the process: no packet can leave it.

Made by __main__.py. A machine is driven through guest.py inside it; its disk is a layer over the image that all share.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.vm import guest
from tests.vm.capture import Tally
from tests.vm.image import ROOT, Image

PREFIX: Final = "10.99.0."
REGISTRY: Final = PREFIX + "254:5000"
BRIDGE: Final = "vm0"
_ALL_FRAMES: Final = 0x0003


class Failed(Exception):
    """The product, or the test's own machinery, didn't do what it should."""


def until(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return answer


def command(image: Image, disk: Path, number: int, console: Path, memory: int = 1024) -> list[str]:
    """How a machine is started."""
    name, address = f"vm{number}", f"{PREFIX}{number}"
    words = (
        "console=ttyS0 panic=-1 root=/dev/vda rw quiet loglevel=3 mitigations=off net.ifnames=0 biosdevname=0"
        f" systemd.machine_id={number:032x} vm.name={name} vm.address={address} vm.gateway={PREFIX}254"
    )
    return [
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256",
        "-cpu", "max,-avx,-avx2", "-smp", "1", "-m", str(memory), "-nodefaults", "-display", "none", "-no-reboot",
        "-kernel", str(image.kernel), "-initrd", str(image.ramdisk), "-append", words,
        "-drive", f"file={disk},if=virtio,cache=unsafe",
        "-netdev", f"tap,id=net0,ifname={name},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:00:00:{number:02x}",
        "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
        "-serial", f"file:{console}",
    ]  # fmt: skip


@dataclass(slots=True)
class Machine:
    """One that runs."""

    number: int
    process: subprocess.Popen[bytes]
    console: Path

    @property
    def address(self) -> str:
        return f"{PREFIX}{self.number}"

    def run(self, script: str, seconds: float = 120, check: bool = True) -> str:
        """What a shell inside says."""
        with socket.create_connection((self.address, guest.SHELL_PORT), 20) as made:
            made.settimeout(seconds)
            made.sendall(json.dumps({"run": script}).encode() + b"\n")
            with made.makefile() as file:
                answer = json.loads(file.readline() or '{"status": -1, "output": "no answer"}')
        if check and answer["status"]:
            raise Failed(f"vm{self.number}: {script}\n{answer['output']}")
        return str(answer["output"])

    def docker(self, *words: str, seconds: float = 180) -> str:
        """Docker's own client, on the host, with this machine's engine."""
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, timeout=seconds, check=False,
            env={"DOCKER_HOST": f"tcp://{self.address}:{guest.DOCKER_PORT}", "PATH": os.environ["PATH"], "HOME": "/root"},
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"vm{self.number}: docker {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether its shell is there."""
        if self.process.poll() is not None:
            raise Failed(f"vm{self.number} has ended:\n{self.console.read_text(errors='replace')[-2000:]}")
        try:
            with socket.create_connection((self.address, guest.SHELL_PORT), 1):
                return True
        except OSError:
            return False


class Wire:
    """Counts what passes one machine's network card, in a thread, until it is closed."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
        self._socket.settimeout(0.2)
        self._socket.bind((interface, 0))
        self._lock = threading.Lock()
        self._tally = Tally()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, name=f"wire {interface}")
        self._thread.start()

    def take(self) -> Tally:
        """What passed since the last call."""
        with self._lock:
            found, self._tally = self._tally, Tally()
        return found

    def _count(self) -> None:
        while not self._ended.is_set():
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            with self._lock:
                self._tally.add(frame)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()


@dataclass(slots=True)
class World:
    """All machines, the registry that they pull from, and the wire between them."""

    image: Image
    folder: Path
    machines: list[Machine] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        for words in (
            "ip link set lo up", f"ip link add {BRIDGE} type bridge forward_delay 0",
            f"ip address add {PREFIX}254/24 dev {BRIDGE}", f"ip link set {BRIDGE} up",
        ):  # fmt: skip
            subprocess.run(words.split(), check=True)
        for name in ("iptables", "ip6tables", "arptables"):
            file = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
            if file.exists():
                file.write_text("0")
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def spawn(self, argv: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
        """A process that ends with the world."""
        with output.open("wb") as file:
            made = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        self.stack.callback(_end, made)
        return made

    def boot(self, count: int) -> None:
        """So many machines at once; returns when all can be driven."""
        for number in range(1, count + 1):
            disk = self.folder / f"vm{number}.qcow2"
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(self.image.disk), str(disk)],
                check=True,
            )  # fmt: skip
            for words in (f"ip tuntap add vm{number} mode tap", f"ip link set vm{number} master {BRIDGE} up"):
                subprocess.run(words.split(), check=True)
            console = self.folder / f"vm{number}.console"
            argv = command(self.image, disk, number, console)
            self.machines.append(Machine(number, self.spawn(argv, self.folder / f"vm{number}.qemu"), console))
        for machine in self.machines:
            until(machine.answers, f"vm{machine.number}'s boot", 300)

    def registry(self) -> None:
        """The lab's registry with the lab's images."""
        lab = ROOT / "deploy" / "lab"
        config = self.folder / "registry.yml"
        settings = {
            "version": "0.1", "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "registry")}}, "http": {"addr": REGISTRY},
        }  # fmt: skip
        config.write_text(json.dumps(settings))
        self.spawn(["docker-registry", "serve", str(config)], self.folder / "registry.log")
        host, _, port = REGISTRY.partition(":")
        until(lambda: _listens(host, int(port)), "the registry", 30)
        code = (
            "import images, registry, sys\n"
            "for image in images.build(lambda text: None): registry.push(image.folder)"
        )
        environment = {**os.environ, "PYTHONPATH": str(lab)}
        subprocess.run([sys.executable, "-c", code], cwd=lab, check=True, env=environment)

    @contextmanager
    def wire(self, number: int) -> Iterator[Wire]:
        """What passes that machine's card."""
        made = Wire(f"vm{number}")
        try:
            yield made
        finally:
            made.close()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
