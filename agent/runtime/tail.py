"""A container's output from a moment on, byte for byte as it comes: for those who attach. Lines and times are logs.py's.

Reads the shim's files, which only grow; what has been kept elsewhere is cut out of them as holes, and logs.py leaves
that alone which a reader here has yet to see, up to logfile.HELD bytes. What one misses who is slower still is told in
his stream. The files are held open: they may be deleted with their container before they are read to the end.
"""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from agent.runtime.api import LogStream
from agent.runtime.logfile import STREAMS

_READ = 64 << 10


class Tail:
    """One reader. logs.py calls `wake` when there may be more, and with `ended` when nothing comes any more."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"{name}.log" for name in STREAMS]
        self._files: list[int | None] = [None for _ in STREAMS]
        self._lock = threading.Lock()  # of the files
        self._closed = False
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

    def grab(self) -> None:
        """Blocking: takes hold of the files, before somebody deletes them."""
        with self._lock:
            for number in range(len(STREAMS)):
                self._file(number)

    def close(self) -> None:
        """Blocking: lets the files go; nothing more is read."""
        with self._lock:
            self._closed = True
            for number, file in enumerate(self._files):
                if file is not None:
                    os.close(file)
                self._files[number] = None

    def _file(self, number: int) -> int | None:
        if self._files[number] is None and not self._closed:
            try:
                self._files[number] = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        return self._files[number]

    def _next(self) -> list[tuple[LogStream, bytes]]:
        with self._lock:
            return [piece for number in range(len(STREAMS)) for piece in self._pieces(number)]

    def _pieces(self, number: int) -> list[tuple[LogStream, bytes]]:
        file = self._file(number)
        if file is None:
            return []
        try:
            start = os.lseek(file, self.offsets[number], os.SEEK_DATA)
            data = os.pread(file, _READ, start)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing behind this place
                raise
            return []
        found: list[tuple[LogStream, bytes]] = []
        if missed := start - self.offsets[number]:
            text = f"[shoal: {missed} bytes of output were lost: read too slowly]\n"
            found.append(("stderr", text.encode()))
        if data:
            found.append((STREAMS[number], data))
        self.offsets[number] = start + len(data)
        return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
