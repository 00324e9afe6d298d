"""What the supervisors of a node share: runtime, network, memory, statuses; and the folders of mounts."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path

from agent.database import TaskMemory
from agent.network.api import Network
from agent.runtime.api import Runtime
from agent.statuses import StatusQueue
from agent.worker.container import Mounts
from agent.worker.files import TaskFiles
from agent.worker.machine import PEERS_DEADLINE
from common import errors, model
from common.clock import Clock


class Tools:
    """Handed to every supervisor by agent/worker/worker.py, which sets the callbacks."""

    def __init__(
        self, runtime: Runtime, network: Network, memory: TaskMemory, statuses: StatusQueue, clock: Clock,
        volumes: Path, files: TaskFiles, description: Callable[[], model.NodeDescription], starts: int = 6,
        peers_seconds: float = PEERS_DEADLINE, boot_id: str = "",
    ) -> None:  # fmt: skip
        self.runtime = runtime
        self.network = network
        self.memory = memory
        self.statuses = statuses
        self.clock = clock
        self.volumes = volumes
        self.files = files
        self.description = description
        self.peers_seconds = peers_seconds
        self.boot_id = boot_id
        self.node_id = ""
        self.starts = asyncio.Semaphore(starts)  # containers that are made at a time
        self.may_revive = asyncio.Event()  # the managers have spoken, or were given time to
        self.others: Callable[[], Collection[str]] = frozenset  # namespaces of single containers
        self.network_stands: Callable[[str], Awaitable[None]] = _nothing  # until a task's legs may be made

    def volume_folder(self, name: str) -> str:
        """Where the data of the volume `name` lies."""
        return str(self.volumes / name / "_data")


async def _nothing(task_id: str) -> None:
    """Nothing to wait for."""


def _make(mounts: Mounts) -> None:
    for source in mounts.bind_sources:
        if not os.path.exists(source):
            raise errors.InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {source}'
            )
    for folder in (*mounts.volume_folders, *mounts.created_folders):
        os.makedirs(folder, exist_ok=True)


async def make_folders(mounts: Mounts) -> None:
    """Makes the folders of volumes; raises errors.InvalidArgument for a bind mount whose source is missing."""
    await asyncio.to_thread(_make, mounts)


async def remove_folders(volumes: Path, names: Iterable[str]) -> None:
    """Deletes volumes that belong to nobody but their task."""
    for name in names:
        await asyncio.to_thread(shutil.rmtree, volumes / name, ignore_errors=True)
