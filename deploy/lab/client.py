"""How ``lab`` talks to a running lab: finds its processes, asks its supervisor, enters its machines."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import kernel
from plan import CONTROL_SOCKET, LAB_CODE, OUTSIDE, PATH, SUPERVISOR_PID, LabError


def supervisor() -> int | None:
    """The lab's first process, seen from the host; None when no lab runs."""
    try:
        pid, start = SUPERVISOR_PID.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if kernel.process_start(int(pid)) == start else None


def ask(timeout: float = 30.0, **request: Any) -> dict[str, Any]:
    """One question to the supervisor, one answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(CONTROL_SOCKET))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("r") as stream:
                line = stream.readline()
        except TimeoutError:
            raise LabError(f"no answer within {timeout:.0f} s") from None
        except (FileNotFoundError, ConnectionError) as error:
            raise LabError(f"the lab does not answer ({error.strerror}): is it up?") from None
    if not line:
        raise LabError("the lab ended while it was asked")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise LabError(answer["error"])
    return answer


def leader(name: str) -> int:
    """The first process of a machine (or of outside), by the host's numbering."""
    top = supervisor()
    if top is None:
        raise LabError("the lab is not up")
    for pid in kernel.children(top):
        argv = kernel.command_line(pid)
        if name == OUTSIDE and str(LAB_CODE / "outside.py") in argv:
            return pid
        if f"--machine={name}" in argv and (found := kernel.children(pid)):
            return found[0]
    raise LabError(f"{name} is not running")


def awake(name: str) -> int:
    """``leader`` of a machine that isn't paused: what entered one that is would stand still with it."""
    pid = leader(name)
    if kernel.frozen(name):
        raise LabError(f"{name} is paused (lab resume {name})")
    return pid


def enter(name: str, argv: list[str]) -> NoReturn:
    """Becomes a command that runs in a machine as if typed in its shell; standard streams and exit code are its own."""
    pid = awake(name)
    _join_cgroups(name, pid)
    environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb")}
    for key in ("COLUMNS", "LINES"):
        if key in os.environ:
            environment[key] = os.environ[key]
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
    nsenter = ["nsenter", "--target", str(pid), *namespaces]
    if name == OUTSIDE:
        # The host's files without its /run: the working directory stays.
        argv = ["sh", "-c", 'cd "$1" 2>/dev/null; shift; exec "$@"', "sh", os.getcwd(), *argv]
    else:
        nsenter.append("--cgroup")
    sys.stdout.flush()
    kernel.forbid_clock()
    os.execvpe("nsenter", [*nsenter, "--", *argv], {**environment, "PATH": PATH})


def _join_cgroups(name: str, pid: int) -> None:
    """The command is accounted to the machine and dies with it."""
    for hierarchy in kernel.hierarchies():
        group = kernel.lab_cgroup(hierarchy) / name
        if kernel.is_v2(hierarchy):
            # Processes may only be in leaves, and the machine's own systemd manages those that it made.
            payload = Path(f"/proc/{pid}/cgroup").read_text().strip().rpartition("::")[2]
            top = payload.partition("/payload")[0] + "/payload" if "/payload" in payload else payload
            group = Path(f"{hierarchy}{top}") / "lab.exec" if name != OUTSIDE else group
            group.mkdir(exist_ok=True)
        elif (group / "payload").exists():
            group = group / "payload"  # where nspawn put the machine's own systemd
        (group / "cgroup.procs").write_text("0")
