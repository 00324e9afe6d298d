"""systemd's service protocol: readiness, watchdog, handed-over sockets, and the descriptor store.

Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). Without systemd every call does nothing, so that the
daemons also run from a shell.
"""

from __future__ import annotations

import array
import os
import socket
from typing import Final

_FIRST: Final = 3


def notify(*lines: str, fds: list[int] | None = None) -> bool:
    """Sends `lines` (KEY=value) and descriptors to the service manager; False when there is none."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.sendmsg(["\n".join(lines).encode()], control)
    return True


def ready(status: str = "") -> None:
    """Tells systemd that start-up is over."""
    notify("READY=1", *([f"STATUS={status}"] if status else []))


def status(text: str) -> None:
    """One line for `systemctl status`."""
    notify(f"STATUS={text}")


def watchdog_interval() -> float | None:
    """Seconds between two keep-alives (half of what systemd allows), or None when it does not ask for any."""
    usec = os.environ.get("WATCHDOG_USEC")
    pid = os.environ.get("WATCHDOG_PID")
    if not usec or (pid and int(pid) != os.getpid()):
        return None
    return int(usec) / 2_000_000


def keep_alive() -> None:
    """One watchdog keep-alive."""
    notify("WATCHDOG=1")


def listen_fds() -> dict[str, list[int]]:
    """Descriptors that systemd handed over, by name: activated sockets and those of the descriptor store.

    Consumes the environment variables, so that children do not see them; each descriptor is close-on-exec.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "")
    if not count or (pid and int(pid) != os.getpid()):
        return {}
    found: dict[str, list[int]] = {}
    for fd, name in zip(range(_FIRST, _FIRST + int(count)), names.split(":") if names else [], strict=False):
        os.set_inheritable(fd, False)
        found.setdefault(name, []).append(fd)
    return found


def store(name: str, fds: list[int]) -> bool:
    """Keeps descriptors over a restart of this service under `name` (FDSTORE); at most 253 at a time."""
    return notify("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=fds)


def discard(name: str) -> None:
    """Drops everything that the store keeps under `name`."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")
