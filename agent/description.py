"""What this node tells the managers of itself. Called by agent/membership.py for each session, and by the engine for `info`."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable
from typing import Final

from common import model, overlays, pki, version

_ARCHITECTURES: Final = {"arm64": "aarch64"}
# The plugins of a stock engine that Shoal has too: what placement by plugin asks for.
PLUGINS: Final = (
    ("Log", "json-file"), ("Log", "local"), ("Network", "bridge"), ("Network", "host"), ("Network", "null"),
    ("Network", "overlay"), ("Volume", "local"),
)  # fmt: skip


def cpus() -> int:
    """Processors that this node may use."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def hostname() -> str:
    return socket.gethostname()


def architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def describe(
    root: bytes = b"", machine: str = "", routes: Iterable[str] = (), data_path_addr: str = "",
    labels: Iterable[tuple[str, str]] = (), encryption_lacks: str = "", masquerade: bool = False,
) -> model.NodeDescription:  # fmt: skip
    """The node as it is now; with the swarm's root certificate once it is a member."""
    tls = model.TLSInfo(*pki.tls_info(root)) if root else None
    return model.NodeDescription(
        hostname=hostname(),
        platform=model.Platform(architecture(), "linux"),
        resources=model.Resources(nano_cpus=cpus() * 1_000_000_000, memory_bytes=memory_bytes()),
        engine=model.EngineDescription(
            version=version.ENGINE,
            labels=dict(labels),
            plugins=tuple(model.PluginDescription(kind, name) for kind, name in PLUGINS),
        ),
        tls_info=tls if tls else model.TLSInfo(),
        routes=tuple(routes),
        data_path_addr=data_path_addr,
        machine=machine,
        encryption_lacks=encryption_lacks,
        masquerade=masquerade,
        abilities=overlays.ABILITIES,
    )
