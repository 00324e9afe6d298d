"""What the node itself is like, as far as containers depend on it; looked up once when the runtime starts."""

import os
import shutil
import stat
from pathlib import Path

from agent.runtime.api import Device, Mount
from agent.runtime.spec import HostDevice, HostFacts
from common.errors import InvalidArgument

_CGROUP = Path("/sys/fs/cgroup")
_INITS = ("docker-init", "tini-static", "tini", "catatonit", "dumb-init")


def gather() -> HostFacts:
    version = 2 if (_CGROUP / "cgroup.controllers").exists() else 1
    swap = version == 2 or (_CGROUP / "memory" / "memory.memsw.limit_in_bytes").exists()
    init = next((found for name in _INITS if (found := shutil.which(name))), "")
    return HostFacts(version, swap, _last_capability(), init)


def _last_capability() -> int:
    try:
        return int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    except (OSError, ValueError):
        return 40


def check_sources(mounts: tuple[Mount, ...]) -> None:
    """A bind mount's source must be there already, in Docker's words."""
    for mount in mounts:
        if mount.type == "bind" and not os.path.lexists(mount.source):
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )


def look_up_devices(devices: tuple[Device, ...]) -> tuple[HostDevice, ...]:
    found: list[HostDevice] = []
    for device in devices:
        try:
            info = os.stat(device.host_path)
        except OSError as error:
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{device.host_path}": '
                f"{(error.strerror or 'unknown error').lower()}"
            ) from error
        if not (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)):
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{device.host_path}": '
                "not a device node"
            )
        found.append(
            HostDevice(
                path=device.container_path or device.host_path,
                kind="b" if stat.S_ISBLK(info.st_mode) else "c",
                major=os.major(info.st_rdev),
                minor=os.minor(info.st_rdev),
                mode=stat.S_IMODE(info.st_mode),
                uid=info.st_uid,
                gid=info.st_gid,
                access=device.permissions or "rwm",
            )
        )
    return tuple(found)
