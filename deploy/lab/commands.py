"""The commands of ``lab`` that make a lab, take it away and look at it; ``run`` dispatches all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import client
import images
import kernel
import pause
import power
import rootfs
import waiting
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
from power import say

NEEDED = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
}

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
        booted = [pool.submit(power.boot, m) for m in lab.machines if m.name in wanted]
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
            str(LAB_CODE / "registry.py"),
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

    def told() -> bool:
        """It listens, or has ended; its number is written down as soon as it has one."""
        if not SUPERVISOR_PID.exists() and (found := kernel.children(outer.pid)):
            start = kernel.process_start(found[0])
            if start is not None and "supervisor.py" in " ".join(kernel.command_line(found[0])):
                SUPERVISOR_PID.write_text(f"{found[0]} {start}\n")
        return CONTROL_SOCKET.exists() or outer.poll() is not None

    waiting.until(told, 30)
    if not CONTROL_SOCKET.exists():
        raise LabError(f"the lab did not start:\n{SUPERVISOR_LOG.read_text()[-3000:]}")
    outer.returncode = 0


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
    kernel.thaw()  # what is paused can't die
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
    if not waiting.until(lambda: kernel.process_start(pid) != start, seconds):
        raise LabError(f"process {pid} does not end")


# -- looking


def status(arguments: list[str]) -> int:
    lab = Lab.load()
    running = client.supervisor() is not None
    states = client.ask(do="list")["machines"] if running else {}
    print(f"{'MACHINE':<12} {'ADDRESS':<14} {'STATE':<10} {'BOOTS':<6} SOCKET")
    for machine in lab.machines:
        own = states.get(machine.name, {"state": "off", "boots": 0})
        state, still = _still(machine.name, own["state"])
        print(
            f"{machine.name:<12} {machine.address:<14} {state:<10} {own['boots']:<6} {machine.docker_socket}{still}"
        )
    if running:
        print(
            f"{OUTSIDE:<12} {OUTSIDE_ADDRESS:<14} {'ready':<10} {'':<6} http://{OUTSIDE_ADDRESS}/ dns://{OUTSIDE_ADDRESS}"
        )
        print(
            f"{'registry':<12} {REGISTRY.partition(':')[0]:<14} {'ready':<10} {'':<6} http://{REGISTRY}/v2/"
        )
    return 0 if running else 1


def _still(name: str, state: str) -> tuple[str, str]:
    """The state of a machine that may be paused, and which daemons in it are."""
    if state not in ("starting", "ready"):
        return state, ""
    names = ", ".join(pause.stopped(name))
    return "paused" if kernel.frozen(name) else state, f" (paused: {names})" if names else ""


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
        client.awake(machine.name)
    except LabError:
        folder = machine.folder / "upper" / "var" / "log" / "journal"
        os.execvp("journalctl", [*argv, "--directory", str(folder)])
    client.enter(machine.name, argv)


def exec_(arguments: list[str]) -> int:
    raise LabError("usage: lab exec MACHINE|outside CMD…")


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "up": up,
    "down": down,
    "status": status,
    "env": env,
    "logs": logs,
    "exec": exec_,
    "power-off": power.power_off,
    "power-on": power.power_on,
    "reboot": power.reboot,
    "cut": power.cut,
    "heal": power.heal,
    "pause": pause.pause,
    "resume": pause.resume,
    "install": power.install,
}


def run(argv: list[str], usage: str | None) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage)
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        raise LabError(f"unknown command: {argv[0]}\n{usage}")
    return COMMANDS[argv[0]](argv[1:])
