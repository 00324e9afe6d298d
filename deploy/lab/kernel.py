"""The few system calls that Python 3.11 has no function for, and the lab's control groups.

Called by the supervisor, by the boot step of each machine and by ``lab exec``.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import waiting
from plan import LAB_NAME

MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
CLONE_NEWNS = 0x00020000
PR_CAPBSET_DROP = 24
CAP_SYS_TIME = 25
CGROUP_ROOT = Path("/sys/fs/cgroup")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {source} on {target}")


def unmount(target: str) -> None:
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def hierarchies() -> list[Path]:
    """Mount points of the control-group hierarchies that the lab uses: one on cgroup v2, else every v1 hierarchy.

    On a hybrid host the v2 mount is left out: it would give the machines a hybrid of their own, which crun refuses.
    """
    v1: list[Path] = []
    v2: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4])
        kind = after.split()[0]
        if CGROUP_ROOT not in (point, *point.parents):
            continue
        if kind == "cgroup" and point not in v1:
            v1.append(point)
        elif kind == "cgroup2" and point not in v2:
            v2.append(point)
    return v1 or v2[:1]


def is_v2(hierarchy: Path) -> bool:
    return (hierarchy / "cgroup.controllers").exists()


def lab_cgroup(hierarchy: Path) -> Path:
    return hierarchy / LAB_NAME


def enter_cgroups(group: str) -> None:
    """Moves this process into GROUP of this lab in every hierarchy, and makes the group where it is missing."""
    for hierarchy in hierarchies():
        lab = lab_cgroup(hierarchy)
        lab.mkdir(exist_ok=True)
        _prepare(hierarchy, lab)
        folder = lab / group
        folder.mkdir(parents=True, exist_ok=True)
        if not is_v2(hierarchy):
            _fill_cpuset(folder)
        (folder / "cgroup.procs").write_text("0")


def _prepare(hierarchy: Path, lab: Path) -> None:
    if not is_v2(hierarchy):
        _fill_cpuset(lab)
        return
    for folder in (hierarchy, lab):
        for name in (folder / "cgroup.controllers").read_text().split():
            _enable(folder / "cgroup.subtree_control", name)


def _enable(file: Path, controller: str) -> None:
    try:
        file.write_text(f"+{controller}")
    except OSError as error:
        # Some can't be had while real-time processes run, and the like; containers need these two.
        if controller in ("memory", "pids"):
            raise OSError(error.errno, f"controller {controller} can't be enabled in {file}") from error


def _fill_cpuset(folder: Path) -> None:
    """A cpuset group takes no process before both files are filled."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        if file.exists() and not file.read_text().strip():
            file.write_text((folder.parent / name).read_text())


def processes(group: str) -> list[int]:
    """All processes of GROUP and below, by the caller's numbering."""
    hierarchy = _freezer()
    found: list[int] = []
    for file in (lab_cgroup(hierarchy) / group).rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in file.read_text().split()]
        except OSError:
            continue  # the group went meanwhile
    return sorted(set(found))


def _freezer() -> Path:
    """The hierarchy that can freeze."""
    found = hierarchies()
    return next((h for h in found if is_v2(h) or "freezer" in h.name.split(",")), found[0])


def freeze(group: str, seconds: float) -> bool:
    """Freezes GROUP and all below it; False when it isn't frozen within so many seconds."""
    hierarchy = _freezer()
    folder = lab_cgroup(hierarchy) / group

    def still() -> bool:
        if frozen(group):
            return True
        # Written again each time: on v1 a process that was just being born can hold up one attempt.
        if is_v2(hierarchy):
            (folder / "cgroup.freeze").write_text("1")
        else:
            (folder / "freezer.state").write_text("FROZEN")
        return False

    return waiting.until(still, seconds, every=0.005)


def thaw(group: str = "") -> None:
    """Thaws GROUP, or every group of the lab."""
    hierarchy = _freezer()
    lab = lab_cgroup(hierarchy)
    file, word = ("cgroup.freeze", "0") if is_v2(hierarchy) else ("freezer.state", "THAWED")
    for folder in [lab / group] if group else lab.glob("*/"):
        try:
            (folder / file).write_text(word)
        except FileNotFoundError:
            continue  # the group is gone, and its processes with it


def frozen(group: str) -> bool:
    hierarchy = _freezer()
    folder = lab_cgroup(hierarchy) / group
    try:
        if is_v2(hierarchy):
            return "frozen 1" in (folder / "cgroup.events").read_text()
        return (folder / "freezer.state").read_text().strip() == "FROZEN"
    except FileNotFoundError:
        return False


def remove_cgroups(group: str = "", deadline: float = 10.0) -> None:
    """Removes GROUP of the lab (or all of the lab's groups) once their processes are gone."""
    for hierarchy in hierarchies():
        top = lab_cgroup(hierarchy) / group if group else lab_cgroup(hierarchy)
        _remove_when_empty(top, deadline)


def _remove_when_empty(top: Path, deadline: float) -> None:
    left: list[Path] = []

    def removed() -> bool:
        left[:] = _remove_tree(top)
        return not left

    if not waiting.until(removed, deadline, every=0.02):
        raise OSError(f"control group {left[0]} can't be removed: it still has processes")


def _remove_tree(top: Path) -> list[Path]:
    """Removes TOP and what is below it; returns the groups that are still in use."""
    left = []
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            left.append(Path(folder))
    return left


def process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot: with the pid, it names one process for good."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def process_state(pid: int) -> str:
    """One letter as ps has it: S sleeping, T stopped, Z dead and not fetched; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def forbid_clock() -> None:
    """No program that this process becomes or starts can set the clock: a machine's `date -s` would set the host's.

    The supervisor does it for all that it starts, ``lab exec`` for what it becomes: nsenter keeps capabilities.
    """
    _check(_libc.prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0), "dropping CAP_SYS_TIME")
