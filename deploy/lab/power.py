"""The commands of ``lab`` that act on machines that are there: power, cables, upgrades.

commands.py calls ``boot`` too, for the machines of a new lab.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import client
import kernel
import rootfs
import waiting
from plan import LAB_CODE, Lab, LabError, Machine

BOOT_DEADLINE = 120.0

_began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _began:6.1f} s] {text}", file=sys.stderr, flush=True)


def boot(machine: Machine) -> str:
    """Boots a machine and waits until it is up; returns what is wrong with it."""
    client.ask(do="start", machine=asdict(machine))
    if kernel.frozen(machine.name):
        return f"{machine.name} is on, but paused (lab resume {machine.name})"
    return _wait_ready(machine)


def _wait_ready(machine: Machine) -> str:
    began = time.monotonic()
    state = client.ask(
        timeout=BOOT_DEADLINE, do="wait", name=machine.name, states=["ready", "failed", "off"]
    )["state"]
    if state != "ready":
        return f"{machine.name} did not boot, its console's end:\n{_tail(machine.console)}"
    bad = _bad_units(machine)
    if not machine.docker_socket.exists():
        bad.append("shoal-agent.socket")
    say(f"{machine.name} {machine.address} is up ({time.monotonic() - began:.1f} s)")
    if not bad:
        return ""
    lines = _inside(
        machine, "journalctl", "--no-pager", "-b", "-o", "short-precise", "-n", "15", *_units(bad)
    )
    text = f"{machine.name}: failed: {', '.join(bad)}\n{lines}"
    return text


def _bad_units(machine: Machine) -> list[str]:
    failed = _inside(
        machine, "systemctl", "list-units", "--plain", "--no-legend", "--state=failed,auto-restart"
    )
    bad = [line.split()[0] for line in failed.splitlines() if line.strip()]
    if _inside(machine, "systemctl", "is-active", "containerd.service").strip() != "active":
        bad.append("containerd.service")
    return sorted(set(bad))


def _units(names: list[str]) -> list[str]:
    return [part for name in names for part in ("-u", name)]


def _inside(machine: Machine, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, str(LAB_CODE / "lab"), "exec", machine.name, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def _tail(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-20:]) if file.exists() else "(nothing)"


def _each(arguments: list[str], what: str, action: Callable[[Machine], str]) -> int:
    if not arguments:
        raise LabError(f"usage: lab {what} MACHINE…")
    lab = Lab.load()
    machines = [lab.find(name) for name in arguments]
    with ThreadPoolExecutor(len(machines)) as pool:
        problems = [text for text in pool.map(action, machines) if text]
    if problems:
        raise LabError("\n".join(problems))
    return 0


def power_off(arguments: list[str]) -> int:
    def cut(machine: Machine) -> str:
        client.ask(do="cut", name=machine.name)
        client.ask(timeout=30, do="wait", name=machine.name, states=["off", "failed"])
        return ""

    return _each(arguments, "power-off", cut)


def power_on(arguments: list[str]) -> int:
    return _each(arguments, "power-on", boot)


def reboot(arguments: list[str]) -> int:
    def one(machine: Machine) -> str:
        before = client.ask(do="list")["machines"][machine.name]["boots"]
        os.kill(client.awake(machine.name), 2)  # SIGINT to a container's systemd: reboot

        def again() -> bool:
            return bool(client.ask(do="list")["machines"][machine.name]["boots"] != before)

        if not waiting.until(again, BOOT_DEADLINE, every=0.05):
            return f"{machine.name} did not go down within {BOOT_DEADLINE:.0f} s"
        return _wait_ready(machine)

    return _each(arguments, "reboot", one)


def _filter(machine: Machine, rules: str) -> str:
    top = client.supervisor()
    if top is None:
        raise LabError("the lab is not up")
    subprocess.run(
        ["nsenter", f"--net=/proc/{top}/ns/net", "nft", "-f", "-"], input=rules, text=True, check=True
    )
    return ""


def cut(arguments: list[str]) -> int:
    def one(machine: Machine) -> str:
        port, table = f"vb-{machine.name}", f"cut_{machine.name}"
        match = "\n".join(f'  {way} "{port}" drop' for way in ("iifname", "oifname"))
        hooks = "\n".join(
            f" chain {hook} {{\n  type filter hook {hook} priority 0;\n{match}\n }}"
            for hook in ("forward", "input", "output")
        ).replace("hook input priority 0;\n" + match, f'hook input priority 0;\n  iifname "{port}" drop')
        hooks = hooks.replace(
            "hook output priority 0;\n" + match, f'hook output priority 0;\n  oifname "{port}" drop'
        )
        return _filter(
            machine,
            f"table bridge {table}\ndelete table bridge {table}\ntable bridge {table} {{\n{hooks}\n}}\n",
        )

    return _each(arguments, "cut", one)


def heal(arguments: list[str]) -> int:
    def one(machine: Machine) -> str:
        table = f"cut_{machine.name}"
        return _filter(machine, f"table bridge {table}\ndelete table bridge {table}\n")

    return _each(arguments, "heal", one)


def install(arguments: list[str]) -> int:
    """Upgrades running machines in place, the way an operator does."""
    wheel, wheels = rootfs.newest_program(say)

    def one(machine: Machine) -> str:
        target = machine.run_folder / "install"
        shutil.rmtree(target, ignore_errors=True)
        rootfs.stage(target, wheel)
        shutil.copytree(wheels, target / "wheels")
        done = _inside(
            machine, "sh", "-c", "/run/shoal/install/install.sh --wheels /run/shoal/install/wheels; echo $?"
        )
        shutil.rmtree(target)
        text, _, code = done.rstrip().rpartition("\n")
        for line in text.splitlines():
            say(f"{machine.name}: {line}")
        return "" if code == "0" else f"{machine.name}: install.sh failed"

    names = arguments or [m.name for m in Lab.load().machines]
    return _each(names, "install", one)
