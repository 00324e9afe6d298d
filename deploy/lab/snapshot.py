"""What a lab could leave behind on its host, listed before and after.

Used by the tests, and by hand: ``python3 snapshot.py > before`` … ``python3 snapshot.py | diff before -``.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from kernel import CGROUP_ROOT, command_line, process_start
from plan import LAB_NAME

Snapshot = dict[str, set[str]]
# Of these kinds only what was seen while the lab was up is looked for: the host has containers of its own.
OF_THE_LAB = ("processes", "namespaces")


def take() -> Snapshot:
    return {
        "processes": _processes(),
        "namespaces": _namespaces(),
        "mounts": _mounts(),
        "cgroups": {folder for folder, _, _ in os.walk(CGROUP_ROOT)},
        "nft": _lines("nft", "list", "ruleset"),
        "links": {line.split(":")[1].strip() for line in _lines("ip", "-o", "link")},
        "run": {f"{folder}/{name}" for folder, folders, files in os.walk("/run") for name in folders + files},
    }


def leftovers(before: Snapshot, during: Snapshot, after: Snapshot) -> list[str]:
    """What the lab has brought and not taken away; empty when it left nothing."""
    left: list[str] = []
    for kind, now in after.items():
        new = now - before[kind]
        if kind in OF_THE_LAB:
            new &= during[kind]
        left += [f"{kind}: {item}" for item in sorted(new) if not _of_another_lab(item)]
    return left


def _of_another_lab(item: str) -> bool:
    """Labs with names of their own may run beside this one."""
    named = re.findall(r"shoal-lab[\w-]*", item)
    return bool(named) and LAB_NAME not in named


def _lines(*argv: str) -> set[str]:
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())


def _candidates() -> list[int]:
    """Processes in this lab's control groups: whatever it starts begins there. All others come and go as they like."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            groups = (entry / "cgroup").read_text()
        except OSError:
            continue  # ended meanwhile
        if f"/{LAB_NAME}/" in groups:
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
