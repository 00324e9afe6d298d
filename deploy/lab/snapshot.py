"""What a lab could leave behind on its host, listed before and after.

Used by the tests, and by hand: ``python3 snapshot.py > before`` … ``python3 snapshot.py | diff before -``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kernel import CGROUP_ROOT, command_line, process_start
from plan import LAB_CODE

Snapshot = dict[str, set[str]]
# Of these kinds only what was seen while the lab was up is looked for: the host has containers of its own.
OF_THE_LAB = ("processes", "namespaces")


def take() -> Snapshot:
    return {
        "processes": _processes(),
        "namespaces": _namespaces(),
        "mounts": _mounts(),
        "cgroups": {str(p) for p in CGROUP_ROOT.rglob("*") if p.is_dir()},
        "nft": _lines("nft", "list", "ruleset"),
        "links": {line.split(":")[1].strip() for line in _lines("ip", "-o", "link")},
        "run": {str(p) for p in Path("/run").rglob("*")},
    }


def leftovers(before: Snapshot, during: Snapshot, after: Snapshot) -> list[str]:
    """What the lab has brought and not taken away; empty when it left nothing."""
    left: list[str] = []
    for kind, now in after.items():
        new = now - before[kind]
        if kind in OF_THE_LAB:
            new &= during[kind]
        left += [f"{kind}: {item}" for item in sorted(new)]
    return left


def _lines(*argv: str) -> set[str]:
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())


def _candidates() -> list[int]:
    """Processes that may be a lab's: in other process namespaces, in a lab's control groups, or running its code.

    All others are the host's own business and come and go.
    """
    own = os.readlink("/proc/self/ns/pid")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            foreign = os.readlink(entry / "ns" / "pid") != own
            grouped = "/shoal-lab" in (entry / "cgroup").read_text()
        except OSError:
            continue  # ended meanwhile
        if foreign or grouped or str(LAB_CODE) in " ".join(command_line(int(entry.name))):
            found.append(int(entry.name))
    return found


def _processes() -> set[str]:
    return {
        f"{pid} {start} {' '.join(command_line(pid))[:80]}"
        for pid in _candidates()
        if (start := process_start(pid)) is not None
    }


def _namespaces() -> set[str]:
    found = set()
    for pid in _candidates():
        for kind in ("net", "mnt", "pid", "uts", "ipc", "cgroup"):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue  # ended meanwhile
    return found


def _mounts() -> set[str]:
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        found.add(f"{before.split()[4]} {after.split()[0]}")
    return found


if __name__ == "__main__":
    for name, items in take().items():
        for item in sorted(items):
            print(name, item)
