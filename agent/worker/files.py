"""Files that tasks get from the swarm, on the node: in a folder of root's in memory, gone with the task.

One folder for each task, below /run: a boot or a power cut leaves nothing. agent/worker/supervisor.py writes them before
the container starts and removes them when the task has ended; agent/worker/worker.py removes those of tasks nobody knows.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from agent.worker.configs import File


class TaskFiles:
    """The folders of all tasks, below one of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def paths(self, task_id: str, count: int) -> tuple[str, ...]:
        """Where the first `count` files of a task lie."""
        return tuple(str(self._folder / task_id / str(number)) for number in range(count))

    async def write(self, task_id: str, files: Sequence[File]) -> None:
        """Puts a task's files where `paths` says."""
        if files:
            await asyncio.to_thread(self._write, task_id, files)

    async def remove(self, task_id: str) -> None:
        """Nothing of the task is left afterwards."""
        await asyncio.to_thread(self._remove, task_id)

    async def tasks(self) -> list[str]:
        """Ids of the tasks that have a folder."""
        return await asyncio.to_thread(self._tasks)

    def _write(self, task_id: str, files: Sequence[File]) -> None:
        for folder in (self._folder, self._folder / task_id):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, file in zip(self.paths(task_id, len(files)), files, strict=True):
            fresh = f"{path}.new"
            # Replaced whole: a container that runs already, after a crash of the agent, keeps the one it has.
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as writer:
                writer.write(file.data)
                os.fchown(fd, file.uid, file.gid)
                os.fchmod(fd, file.mode)
            os.replace(fresh, path)

    def _remove(self, task_id: str) -> None:
        if (self._folder / task_id).exists():
            shutil.rmtree(self._folder / task_id)

    def _tasks(self) -> list[str]:
        try:
            return sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
