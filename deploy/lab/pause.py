"""``lab pause`` and ``lab resume``: a machine, or some daemons in it, stand still and go on as if nothing had been.

A machine is frozen by its control group: its clock and its network card go on, its programs don't. A daemon is stopped
by SIGSTOP. Nothing is written down: ``lab status`` asks the kernel who stands still.
"""

from __future__ import annotations

import os
import signal
from pathlib import PurePath

import client
import kernel
import waiting
from plan import Lab, LabError, Machine

DEADLINE = 10.0
GONE = ("", "Z")


def pause(arguments: list[str]) -> int:
    machine, names = _target(arguments, "pause")
    if not names:
        if not kernel.freeze(machine.name, DEADLINE):
            kernel.thaw(machine.name)
            raise LabError(f"{machine.name} does not stand still within {DEADLINE:.0f} s")
        return 0
    for name in names:
        _signal(machine, name, signal.SIGSTOP)
    return 0


def resume(arguments: list[str]) -> int:
    machine, names = _target(arguments, "resume")
    if not names:
        names = stopped(machine.name)
        kernel.thaw(machine.name)
    for name in names:
        _signal(machine, name, signal.SIGCONT)
    return 0


def stopped(machine: str) -> list[str]:
    """The names of the machine's processes that SIGSTOP has stopped."""
    return sorted({_name(pid) for pid in kernel.processes(machine) if kernel.process_state(pid) == "T"})


def _target(arguments: list[str], what: str) -> tuple[Machine, list[str]]:
    if not arguments:
        raise LabError(f"usage: lab {what} MACHINE [PROCESS…]")
    machine = Lab.load().find(arguments[0])
    client.leader(machine.name)
    return machine, arguments[1:]


def _names(pid: int) -> set[str]:
    """What a daemon may be called: its own name, its program, the script that its interpreter runs."""
    return {kernel.process_name(pid), *(PurePath(word).name for word in kernel.command_line(pid)[:2])}


def _name(pid: int) -> str:
    """The one of them that says most."""
    words = kernel.command_line(pid)
    if len(words) > 1 and "python" in PurePath(words[0]).name:
        return PurePath(words[1]).name
    return kernel.process_name(pid)


def _signal(machine: Machine, name: str, number: signal.Signals) -> None:
    found = [pid for pid in kernel.processes(machine.name) if name in _names(pid)]
    if not found:
        raise LabError(f"no process {name} in {machine.name}")
    stop = number is signal.SIGSTOP
    for pid in found:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue

    def obeyed() -> bool:
        states = [kernel.process_state(pid) for pid in found]
        return all((state == "T") is stop for state in states if state not in GONE)

    if not waiting.until(obeyed, DEADLINE, every=0.005):
        raise LabError(f"{name} does not obey within {DEADLINE:.0f} s")
