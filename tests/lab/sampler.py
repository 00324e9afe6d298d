"""Watches every task's first process from the host, and looks into all balancers of all machines the moment one has ended.

A balancer that still has its address then held a task that had been told to stop, if that is why it ended: cycles.py judges that.
What ends with its machine's power was told nothing (`without_power`), whatever the store knows of it by then.
What is looked at after the end can't be an error of the clock; a balancer that was right only some milliseconds later may escape.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.network.nft import Context, NftError
from tests.lab.kernel_state import entered

PROC = Path("/proc")
LOOK = 0.02  # seconds
SCAN = 0.2
LONGEST = 30.0  # for two looks
ATTEMPTS = 10  # scans until a process that is none of ours is known to be none
LEADER, INSIDE = (
    3,
    4,
)  # pid namespaces of a machine's first process, and of a container's: the host's, the lab's, …
TARGETS = re.compile(r"dnat (?:ip6? )?to ct mark[^{}\n]* map \{([^}]*)\}")
LOCAL = re.compile(r"\|-- (10\.[\d.]+)\n\s+/32 host LOCAL")
NO_FILE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True)
class Process:
    """A container's first process."""

    task: str
    machine: str
    addresses: frozenset[str]


@dataclass(frozen=True)
class Held:
    """A balancer that had a task whose process had ended."""

    task: str
    machine: str  # of the balancer
    where: str  # its namespace
    seconds: float  # after the end was noticed

    def __str__(self) -> str:
        return f"{self.machine}'s balancer in {self.where or 'the host'} had task {self.task} {self.seconds * 1000:.0f} ms after its end"


@dataclass
class Sampler:
    """A thread that looks on; `found` grows."""

    folder: str  # what the lab's control groups are called
    found: list[Held] = field(default_factory=list)
    ended: int = 0  # processes whose end was looked at
    _roots: dict[str, Path] = field(default_factory=dict)
    _tables: dict[tuple[str, str], Context] = field(default_factory=dict)
    _watched: dict[int, Process] = field(default_factory=dict)  # by descriptor
    _seen: dict[int, int] = field(default_factory=dict)  # pids, how often they were looked at
    _dark: set[str] = field(default_factory=set)  # machines whose plug is being pulled
    _rounds: int = 0  # looks begun
    _over: bool = False  # no more of them will be
    _looked: threading.Condition = field(
        default_factory=threading.Condition
    )  # with each of them, and at the end
    _stop: threading.Event = field(default_factory=threading.Event)
    _problem: list[BaseException] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sampler")
        self._thread.start()

    def stop(self) -> None:
        """Waits for the thread; raises what it failed with."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._problem:
            raise self._problem[0]

    @contextmanager
    def without_power(self, machine: str) -> Iterator[None]:
        """What ends on this machine in the block is no finding. Leaves it when all of that has been looked at."""
        self._dark.add(machine)
        try:
            yield
            with self._looked:
                whole = self._rounds + 2  # the one that is under way may have asked before the end
                self._looked.wait_for(lambda: self._rounds >= whole or self._over, LONGEST)
        finally:
            self._dark.discard(machine)

    def _run(self) -> None:
        poll = select.poll()
        scanned = 0.0
        try:
            while not self._stop.is_set():
                with self._looked:
                    self._rounds += 1
                    self._looked.notify_all()
                if time.monotonic() - scanned > SCAN:
                    self._scan(poll)
                    scanned = time.monotonic()
                if over := [fd for fd, _ in poll.poll(LOOK * 1000)]:
                    self._look(poll, over)
        except OSError as error:
            self._problem.append(error)
        finally:
            with self._looked:
                self._over = True
                self._looked.notify_all()
            for fd in self._watched:
                os.close(fd)
            for context in self._tables.values():
                context.free()

    # ---- who is there

    def _scan(self, poll: select.poll) -> None:
        pids = {int(name) for name in os.listdir(PROC) if name.isdigit()}
        self._seen = {pid: count for pid, count in self._seen.items() if pid in pids}
        self._roots = {name: root for name, root in self._roots.items() if root.exists()}
        for pid in sorted(pids):
            if self._seen.get(pid, 0) < ATTEMPTS:
                try:
                    known = self._classified(poll, pid)
                except (*NO_FILE, PermissionError):
                    known = False
                self._seen[pid] = ATTEMPTS if known else self._seen.get(pid, 0) + 1
        self._balancers()

    def _classified(self, poll: select.poll, pid: int) -> bool:
        """Whether it is known now what this process is."""
        numbers = re.search(r"^NSpid:\t(.*)$", (PROC / str(pid) / "status").read_text(), re.M)
        depths = numbers[1].split() if numbers else []
        if depths[-1:] != ["1"] or len(depths) not in (LEADER, INSIDE):
            return False
        group = re.search(rf"/{re.escape(self.folder)}/([^/\n]+)", (PROC / str(pid) / "cgroup").read_text())
        if group is None:
            return False
        machine = group[1]
        if len(depths) == LEADER:
            self._roots[machine] = PROC / str(pid) / "root"
            return True
        own = (PROC / str(pid) / "ns" / "net").stat().st_ino
        for path in self._namespaces(machine):
            if path.name.startswith("t-") and path.stat().st_ino == own:
                addresses = LOCAL.findall((PROC / str(pid) / "net" / "fib_trie").read_text())
                fd = os.pidfd_open(pid)
                self._watched[fd] = Process(path.name.removeprefix("t-"), machine, frozenset(addresses))
                poll.register(fd, select.POLLIN)
                return True
        return False

    def _namespaces(self, machine: str) -> Iterator[Path]:
        folder = self._roots.get(machine, PROC / "none") / "run/shoal/netns"
        try:
            yield from sorted(folder.iterdir())
        except NO_FILE:
            return

    def _balancers(self) -> None:
        """A context for each namespace that has one, bound to it for ever; none for those that have gone."""
        standing: dict[tuple[str, str], Path] = {}
        for machine, root in self._roots.items():
            standing[machine, ""] = root.parent / "ns" / "net"
            for path in self._namespaces(machine):
                if path.name.startswith("t-"):
                    standing[machine, path.name] = path
        for key in self._tables.keys() - standing.keys():
            self._tables.pop(key).free()
        for key in standing.keys() - self._tables.keys():
            try:
                if entered(standing[key]):
                    self._tables[key] = Context()
            except NO_FILE:
                continue

    # ---- what they say

    def _look(self, poll: select.poll, over: list[int]) -> None:
        at = time.monotonic()
        gone: list[Process] = []
        for fd in over:
            poll.unregister(fd)
            ended = self._watched.pop(fd)
            os.close(fd)
            if ended.machine not in self._dark:
                gone.append(ended)
        self.ended += len(gone)
        running = {f"t-{process.task}" for process in self._watched.values()}
        for (machine, where), context in self._tables.items():
            if where and where not in running:
                continue  # nobody sends from there any more
            have = self._backends(context)
            self.found += [
                Held(process.task, machine, where, time.monotonic() - at)
                for process in gone
                if process.addresses & have
            ]

    def _backends(self, context: Context) -> set[str]:
        try:
            rules = context.run("list ruleset")
        except NftError:
            return set()
        return {pair.split(" : ")[1].strip() for found in TARGETS.findall(rules) for pair in found.split(",")}
