"""A container's output from a moment on, byte for byte as it comes: for those who attach. Lines and times are logs.py's.

Reads the shim's files, which only grow; what has been kept elsewhere is cut out of them as holes, and logs.py leaves
that alone which a reader here has yet to see. One who is too slow misses what lies in a hole.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

from agent.runtime.api import LogStream
from agent.runtime.logfile import STREAMS

_READ = 64 << 10


class Tail:
    """One reader. logs.py calls `wake` when there may be more, and with `ended` when nothing comes any more."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"{name}.log" for name in STREAMS]
        self.offsets = [_size(path) for path in self._paths]
        self._grown = asyncio.Event()
        self._ended = False

    def wake(self, ended: bool = False) -> None:
        self._ended = self._ended or ended
        self._grown.set()

    async def read(self) -> AsyncIterator[tuple[LogStream, bytes]]:
        """Until the process has ended and all that it wrote has been given."""
        while True:
            ended = self._ended
            self._grown.clear()
            found = await asyncio.to_thread(self._next)
            for piece in found:
                yield piece
            if not found:
                if ended:
                    return
                await self._grown.wait()

    def _next(self) -> list[tuple[LogStream, bytes]]:
        found: list[tuple[LogStream, bytes]] = []
        for number, name in enumerate(STREAMS):
            if data := self._piece(number):
                found.append((name, data))
        return found

    def _piece(self, number: int) -> bytes:
        try:
            fd = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            start = os.lseek(fd, self.offsets[number], os.SEEK_DATA)
            data = os.pread(fd, _READ, start)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing behind this place
                raise
            return b""
        finally:
            os.close(fd)
        self.offsets[number] = start + len(data)
        return data


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
