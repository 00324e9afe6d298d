"""This machine as `info` and `version` show it, and its addresses. Made once by agent/daemon.py; backend.py's Host."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute

from agent.engine.backend import InterfaceAddress, NodeInfo

_GO_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def os_release(text: str) -> Mapping[str, str]:
    """The settings in an os-release file."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def read_addresses() -> list[InterfaceAddress]:
    """All addresses that the kernel knows. Blocks for a moment."""
    with IPRoute() as route:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
        found = []
        for item in route.get_addr():
            address = item.get_attr("IFA_LOCAL") or item.get_attr("IFA_ADDRESS")
            name = names.get(item["index"])
            if address and name:
                found.append(InterfaceAddress(name, f"{address}/{item['prefixlen']}"))
        return found


class Machine:
    """Facts that don't change are read once; the rest comes from agent/daemon.py."""

    def __init__(
        self,
        identity: str,
        data_root: str,
        started_at: int,
        *,
        mirrors: tuple[str, ...] = (),
        insecure: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        release_file = Path("/etc/os-release")
        release = os_release(release_file.read_text(encoding="utf-8")) if release_file.exists() else {}
        uname = platform.uname()
        self._info = NodeInfo(
            hostname=socket.gethostname(),
            id=identity,
            kernel=uname.release,
            operating_system=release.get("PRETTY_NAME", "Linux"),
            os_version=release.get("VERSION_ID", ""),
            architecture=uname.machine,
            go_architecture=_GO_ARCHITECTURES.get(uname.machine, uname.machine),
            cpus=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            data_root=data_root,
            cgroup_version="2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
            started_at=started_at,
            labels=labels or {},
            registry_mirrors=mirrors,
            insecure_registries=insecure,
        )

    def info(self) -> NodeInfo:
        return self._info

    async def addresses(self) -> Sequence[InterfaceAddress]:
        return await asyncio.to_thread(read_addresses)
