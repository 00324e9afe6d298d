"""The commands of ``lab``, one function each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import client
import images
import kernel
import rootfs
from plan import (
    CONTROL_SOCKET,
    FAR_ADDRESS,
    LAB_CODE,
    OUTSIDE,
    OUTSIDE_ADDRESS,
    REGISTRY,
    RUN,
    STATE,
    SUPERVISOR_LOG,
    SUPERVISOR_PID,
    Lab,
    LabError,
    Machine,
    machine_names,
    next_address,
    variable,
)

BOOT_DEADLINE = 120.0
NEEDED = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
}

_began = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _began:6.1f} s] {text}", file=sys.stderr, flush=True)


# -- up


def up(arguments: list[str]) -> int:
    nodes, managers = _up_arguments(arguments)
    if os.geteuid() != 0:
        raise LabError("must be run as root")
    missing = sorted({package for tool, package in NEEDED.items() if shutil.which(tool) is None})
    if missing:
        raise LabError(f"missing here: apt-get install {' '.join(missing)}")
    lab = Lab.load()
    wanted = machine_names(nodes, managers)
    new = [name for name in wanted if name not in {m.name for m in lab.machines}]
    with ThreadPoolExecutor(2) as pool:
        pictures = pool.submit(images.build, say)
        if new:
            _add_machines(lab, new)
        current = str(rootfs.current_layer())
        if any(m.layer != current for m in lab.machines if m.name not in new):
            say("some machines were made from an earlier state of this tree: `lab install` upgrades them")
        built = pictures.result()
    if client.supervisor() is None:
        _start_supervisor()
    with ThreadPoolExecutor(len(lab.machines) + 1) as pool:
        pushed = pool.submit(_push, built)
        booted = [pool.submit(_boot, m) for m in lab.machines if m.name in wanted]
        problems = [text for b in booted if (text := b.result())]
        pushed.result()
    if problems:
        raise LabError("\n".join(problems))
    say(f"up: {', '.join(wanted)}")
    return 0


def _up_arguments(arguments: list[str]) -> tuple[int, int]:
    values = {"--nodes": 3, "--managers": 1}
    rest = [part for argument in arguments for part in argument.split("=", 1)]
    while rest:
        key = rest.pop(0)
        if key not in values or not rest or not rest[0].isdigit():
            raise LabError("usage: lab up [--nodes N] [--managers M]")
        values[key] = int(rest.pop(0))
    return values["--nodes"], values["--managers"]


def _push(built: list[images.Image]) -> None:
    """Into the registry; done in the world outside, the only place of the host with a way to it."""
    if not built:
        return
    argv = [str(image.folder) for image in built]
    done = subprocess.run(
        [
            sys.executable,
            str(LAB_CODE / "lab"),
            "exec",
            OUTSIDE,
            sys.executable,
            str(LAB_CODE / "images.py"),
            *argv,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"images could not be pushed to the registry:\n{done.stdout}")
    for line in done.stdout.splitlines():
        say(line)


def _add_machines(lab: Lab, names: list[str]) -> None:
    built = rootfs.prepare(say)
    for name in names:
        address = next_address(m.address for m in lab.machines)
        machine = Machine(name, address, str(built.base), str(built.layer))
        shutil.rmtree(machine.folder, ignore_errors=True)
        lab.machines.append(machine)
    lab.save()
    for name in names:
        _settle(lab.find(name), lab)
    rootfs.prune()


def _settle(machine: Machine, lab: Lab) -> None:
    """What differs between machines: name, identity, address, and this site's settings."""
    etc = machine.folder / "upper" / "etc"
    hosts = ["127.0.0.1 localhost"] + [f"{m.address} {m.name}" for m in lab.machines]
    files = {
        "hostname": machine.name + "\n",
        "machine-id": uuid.uuid4().hex + "\n",
        "hosts": "\n".join(hosts) + "\n",
        "resolv.conf": f"nameserver {OUTSIDE_ADDRESS}\n",
        "lab/network": f"ADDRESS={machine.address}\nGATEWAY={OUTSIDE_ADDRESS}\n",
        "shoal/agent.toml": f'[registry]\nmirrors = ["http://{REGISTRY}"]\ninsecure = ["{REGISTRY}"]\n',
    }
    for name, text in files.items():
        file = etc / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (machine.folder / "upper").chmod(0o755)


def _start_supervisor() -> None:
    """In namespaces of its own, so that its end is the end of all that it holds."""
    _clean_up()
    STATE.mkdir(parents=True, exist_ok=True)
    RUN.mkdir(mode=0o700)
    argv = [
        "unshare",
        "--pid",
        "--mount",
        "--net",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
    ]
    argv += [sys.executable, str(LAB_CODE / "supervisor.py")]
    with SUPERVISOR_LOG.open("w") as output:
        outer = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            preexec_fn=lambda: kernel.enter_cgroups("supervisor"),
        )
    end = time.monotonic() + 30
    while not CONTROL_SOCKET.exists():
        if SUPERVISOR_PID.exists() is False and (found := kernel.children(outer.pid)):
            start = kernel.process_start(found[0])
            if start is not None and "supervisor.py" in " ".join(kernel.command_line(found[0])):
                SUPERVISOR_PID.write_text(f"{found[0]} {start}\n")
        if outer.poll() is not None or time.monotonic() > end:
            raise LabError(f"the lab did not start:\n{SUPERVISOR_LOG.read_text()[-3000:]}")
        time.sleep(0.01)
    outer.returncode = 0


def _boot(machine: Machine) -> str:
    """Boots a machine and waits until it is up; returns what is wrong with it."""
    client.ask(do="start", machine=asdict(machine))
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


# -- down


def down(arguments: list[str]) -> int:
    if arguments:
        raise LabError("usage: lab down")
    _clean_up()
    if STATE.exists():
        shutil.rmtree(STATE)
    say("down: nothing of the lab is left but its caches")
    return 0


def _clean_up() -> None:
    """Ends whatever there is of a lab, whole or half."""
    for pid in _lab_processes():
        _kill(pid)
    kernel.remove_cgroups()
    if RUN.exists():
        shutil.rmtree(RUN)


def _lab_processes() -> list[int]:
    """The supervisor first, its death ends all others; then any stray that sits in the lab's control groups."""
    found = [pid for pid in [client.supervisor()] if pid is not None]
    for hierarchy in kernel.hierarchies():
        for file in kernel.lab_cgroup(hierarchy).rglob("cgroup.procs"):
            try:
                found += [int(p) for p in file.read_text().split()]
            except OSError:
                continue  # the group went meanwhile
    return list(dict.fromkeys(found))


def _kill(pid: int, seconds: float = 15.0) -> None:
    start = kernel.process_start(pid)
    if start is None or pid == os.getpid():
        return
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
    end = time.monotonic() + seconds
    while kernel.process_start(pid) == start:
        if time.monotonic() > end:
            raise LabError(f"process {pid} does not end")
        time.sleep(0.01)


# -- looking


def status(arguments: list[str]) -> int:
    lab = Lab.load()
    running = client.supervisor() is not None
    states = client.ask(do="list")["machines"] if running else {}
    print(f"{'MACHINE':<12} {'ADDRESS':<14} {'STATE':<10} {'BOOTS':<6} SOCKET")
    for machine in lab.machines:
        own = states.get(machine.name, {"state": "off", "boots": 0})
        print(
            f"{machine.name:<12} {machine.address:<14} {own['state']:<10} {own['boots']:<6} {machine.docker_socket}"
        )
    if running:
        print(
            f"{OUTSIDE:<12} {OUTSIDE_ADDRESS:<14} {'ready':<10} {'':<6} http://{OUTSIDE_ADDRESS}/ dns://{OUTSIDE_ADDRESS}"
        )
        print(
            f"{'registry':<12} {REGISTRY.partition(':')[0]:<14} {'ready':<10} {'':<6} http://{REGISTRY}/v2/"
        )
    return 0 if running else 1


def env(arguments: list[str]) -> int:
    for machine in Lab.load().machines:
        print(f"export DOCKER_HOST_{variable(machine.name)}=unix://{machine.docker_socket}")
        print(f"export LAB_ADDR_{variable(machine.name)}={machine.address}")
    print(f"export LAB_ADDR_OUTSIDE={OUTSIDE_ADDRESS}")
    print(f"export LAB_ADDR_FAR={FAR_ADDRESS}")
    print(f"export LAB_REGISTRY={REGISTRY}")
    return 0


def logs(arguments: list[str]) -> int:
    if not arguments:
        raise LabError("usage: lab logs MACHINE [ARG…]")
    machine = Lab.load().find(arguments[0])
    argv = ["journalctl", "--no-pager", *arguments[1:]]
    try:
        client.leader(machine.name)
    except LabError:
        folder = machine.folder / "upper" / "var" / "log" / "journal"
        os.execvp("journalctl", [*argv, "--directory", str(folder)])
    client.enter(machine.name, argv)


def exec_(arguments: list[str]) -> int:
    raise LabError("usage: lab exec MACHINE|outside CMD…")


# -- power and cables


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
    return _each(arguments, "power-on", _boot)


def reboot(arguments: list[str]) -> int:
    def one(machine: Machine) -> str:
        before = client.ask(do="list")["machines"][machine.name]["boots"]
        os.kill(client.leader(machine.name), 2)  # SIGINT to a container's systemd: reboot
        end = time.monotonic() + BOOT_DEADLINE
        while client.ask(do="list")["machines"][machine.name]["boots"] == before:
            if time.monotonic() > end:
                return f"{machine.name} did not go down within {BOOT_DEADLINE:.0f} s"
            time.sleep(0.05)
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


# -- upgrade


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


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "up": up,
    "down": down,
    "status": status,
    "env": env,
    "logs": logs,
    "exec": exec_,
    "power-off": power_off,
    "power-on": power_on,
    "reboot": reboot,
    "cut": cut,
    "heal": heal,
    "install": install,
}


def run(argv: list[str], usage: str | None) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage)
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        raise LabError(f"unknown command: {argv[0]}\n{usage}")
    return COMMANDS[argv[0]](argv[1:])
