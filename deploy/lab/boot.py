"""One boot of one machine: the supervisor starts this file as a process, which ends by becoming systemd-nspawn.

All that it mounts is in a mount namespace of its own and goes with the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import kernel
from plan import BRIDGE, PATH, Machine

# CAP_SYS_TIME is never given: the clock is the host's own.
CAPABILITIES = ["--capability=all", "--drop-capability=CAP_SYS_TIME"]
SYSTEM_CALLS = "--system-call-filter=add_key keyctl bpf"


def mount_root(machine: Machine) -> Path:
    """The machine's disk: its own upper layer over the installed layer over the base system."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
    root = machine.folder / "root"
    for folder in (root, machine.folder / "upper", machine.folder / "work", machine.folder / "containerd"):
        folder.mkdir(parents=True, exist_ok=True)
    lower = f"{machine.layer}:{machine.base}"
    upper, work = machine.folder / "upper", machine.folder / "work"
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    kernel.mount("overlay", str(root), "overlay", data=options)
    return root


def clear_run_folder(machine: Machine) -> None:
    """/run is empty after a boot; this part of it lives on the host."""
    folder = machine.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def command(machine: Machine, root: Path) -> list[str]:
    return [
        "systemd-nspawn",
        "--quiet",
        f"--machine={machine.name}",
        f"--directory={root}",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--notify-ready=yes",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        f"--network-bridge={BRIDGE}",
        *CAPABILITIES,
        SYSTEM_CALLS,
        # Overlayfs can't lie on overlayfs: image layers live on the host's plain file system.
        f"--bind={machine.folder / 'containerd'}:/var/lib/containerd",
        f"--bind={machine.run_folder}:/run/shoal",
    ]


def main() -> None:
    machine = Machine(**json.loads(sys.argv[1]))
    kernel.enter_cgroups(machine.name)
    clear_run_folder(machine)
    # The link of an earlier boot may still be there: the kernel frees namespaces late.
    subprocess.run(["ip", "link", "delete", f"vb-{machine.name}"], stderr=subprocess.DEVNULL, check=False)
    root = mount_root(machine)
    environment = {"PATH": PATH, "NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"], "SYSTEMD_LOG_LEVEL": "notice"}
    argv = command(machine, root)
    os.execvpe(argv[0], argv, environment)


if __name__ == "__main__":
    main()
