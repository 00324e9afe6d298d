"""The standard input of a process as a named pipe: made before it starts, written to by whoever is attached.

The shim holds a writing end of its own, so that nobody's leaving ends the input; only closing it at the shim does.
Called by process.py (exec) and attach.py (a container's own process).
"""

import asyncio
import os
import stat


class Stdin:
    """One writer's hold on the pipe. Opened for both directions, so that it works before anybody reads."""

    def __init__(self, path: str) -> None:
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._writable: asyncio.Event | None = None  # while somebody waits

    @property
    def open(self) -> bool:
        return self._fd is not None

    async def write(self, data: bytes) -> None:
        """All of it, however long the process takes to read."""
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view and self._fd is not None:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                self._writable = writable = asyncio.Event()
                loop.add_writer(self._fd, writable.set)
                try:
                    await writable.wait()
                finally:
                    self._unwatch()

    def _unwatch(self) -> None:
        """While the descriptor is ours: its number may be another's at once."""
        if self._writable is not None and self._fd is not None:
            asyncio.get_running_loop().remove_writer(self._fd)
        self._writable = None

    def close(self) -> None:
        """Whoever waits to write ends too."""
        if self._fd is not None:
            waiting = self._writable
            self._unwatch()
            if waiting is not None:
                waiting.set()
            os.close(self._fd)
            self._fd = None


def make(path: str) -> None:
    """The pipe at `path`; one that is there already is kept, with what waits in it."""
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            raise
