"""The containers' output: taken from the shim's files as it comes, kept with times, read back and followed.

The kernel says which files grew; at most every 50 ms one thread takes the new lines of those. Called by the
containers' life (collect, finish, drop) and by whoever reads logs.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from agent.runtime import logfile
from agent.runtime.api import LogEntry
from agent.runtime.inotify import Inotify
from agent.runtime.tail import Tail

log = logging.getLogger("runtime")

PACE_S = 0.05


@dataclass(slots=True)
class _Source:
    """One container whose output is being taken."""

    writer: logfile.LogWriter
    watches: tuple[int, ...] = ()
    grown: asyncio.Event = field(default_factory=asyncio.Event)  # replaced at every growth


class Logs:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "logs")
        self._inotify = Inotify()
        self._sources: dict[str, _Source] = {}
        self._by_watch: dict[int, str] = {}
        self._tails: dict[str, list[Tail]] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """For ever: take what the kernel says has grown."""
        loop = asyncio.get_running_loop()
        while True:
            loop.add_reader(self._inotify.fd, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                # A busy container would wake the loop at every line; it is looked at again after the pause.
                loop.remove_reader(self._inotify.fd)
            self._wake.clear()
            self._note_changes()
            dirty, self._dirty = self._dirty, set()
            for id in await self._take(dirty):
                self._dirty.add(id)
                self._wake.set()
            await asyncio.sleep(PACE_S)

    async def close(self) -> None:
        """Stop taking; what isn't taken stays in the shim's files for the next agent."""
        await asyncio.to_thread(self._thread.shutdown)
        for source in self._sources.values():
            source.writer.close()
        self._sources.clear()
        self._inotify.close()

    def prepare(self, folder: Path) -> tuple[str, str]:
        """Blocking: the two files for a container's process to write to."""
        return logfile.prepare(folder)

    def collect(self, id: str, folder: Path) -> None:
        """Begin, or go on, to take a container's output."""
        if id in self._sources:
            return
        try:
            logfile.prepare(folder)
            writer = logfile.LogWriter.open(folder)
        except OSError as error:
            log.error("can't keep the output of container %s: %s", id[:12], error)
            return
        watches = tuple(self._inotify.watch(str(spool.path)) for spool in writer.spools)
        self._sources[id] = _Source(writer, watches)
        self._by_watch.update(dict.fromkeys(watches, id))
        self._dirty.add(id)
        self._wake.set()

    async def finish(self, id: str) -> None:
        """The process has ended: take the rest, then stop."""
        source = self._sources.get(id)
        if source is None:
            self._wake_tails(id, ended=True)
            return
        self._unwatch(source)
        loop = asyncio.get_running_loop()
        await self._grab(id)
        self._hold(id, source.writer)
        await loop.run_in_executor(self._thread, _take_rest, source.writer)
        self._sources.pop(id, None)  # only now: whoever follows reads on until then
        source.grown.set()
        self._wake_tails(id, ended=True)

    async def drop(self, id: str) -> None:
        """The container goes, with its output."""
        source = self._sources.pop(id, None)
        await self._grab(id)
        if source is not None:
            self._unwatch(source)
            await asyncio.get_running_loop().run_in_executor(self._thread, source.writer.close)
            source.grown.set()
        self._wake_tails(id, ended=True)

    def tail(self, id: str, folder: Path) -> Tail:
        """What a container writes from now on, as it is; to be given back by `let_go`."""
        tail = Tail(folder)
        self._tails.setdefault(id, []).append(tail)
        return tail

    def let_go(self, id: str, tail: Tail) -> None:
        """A reader has left."""
        left = [other for other in self._tails.pop(id, ()) if other is not tail]
        if left:
            self._tails[id] = left
        try:
            self._thread.submit(tail.close)
        except RuntimeError:  # the thread has ended, and whoever read with it
            tail.close()

    async def _grab(self, id: str) -> None:
        """Readers go on in files that are about to be deleted."""
        for tail in self._tails.get(id, ()):
            await asyncio.get_running_loop().run_in_executor(self._thread, tail.grab)

    def _wake_tails(self, id: str, ended: bool = False) -> None:
        for tail in self._tails.get(id, ()):
            tail.wake(ended)

    def _hold(self, id: str, writer: logfile.LogWriter) -> None:
        """What readers have yet to see stays in the shim's files."""
        tails = self._tails.get(id, ())
        for number, spool in enumerate(writer.spools):
            spool.hold = min((tail.offsets[number] for tail in tails), default=None)

    async def read(
        self, id: str, folder: Path, follow: bool, tail: int, since: int, until: int
    ) -> AsyncGenerator[LogEntry, None]:
        """Kept lines, all that were written before this; then the new ones for as long as the container runs."""
        await self._catch_up(id)
        cursor = logfile.Cursor()
        last: deque[LogEntry] = deque(maxlen=tail if tail >= 0 else None)
        keep = tail >= 0
        while True:
            source = self._sources.get(id)
            grown = source.grown if source is not None else None
            entries, cursor, at_end = await asyncio.to_thread(logfile.read, folder, cursor)
            for entry in entries:
                if until and entry.at > until:
                    return
                if entry.at < since:
                    continue
                if keep:
                    last.append(entry)
                else:
                    yield entry
            if not at_end:
                continue
            for entry in last:
                yield entry
            last.clear()
            keep = False
            if not follow or grown is None:
                return
            await grown.wait()

    async def _catch_up(self, id: str) -> None:
        """What a container has written by now is taken, however far behind we are."""
        source = self._sources.get(id)
        if source is None:
            return
        written = await asyncio.get_running_loop().run_in_executor(self._thread, source.writer.written)
        while self._sources.get(id) is source:
            more = await self._take({id})
            if not more or source.writer.has_taken(written):
                return

    async def _take(self, ids: Iterable[str]) -> list[str]:
        """Take the new lines of some containers; answers with those that have more."""
        wanted = [(id, self._sources[id]) for id in ids if id in self._sources]
        if not wanted:
            return []
        for id, source in wanted:
            self._hold(id, source.writer)
        loop = asyncio.get_running_loop()
        more = await loop.run_in_executor(self._thread, _take_all, [s.writer for _, s in wanted])
        for id, source in wanted:
            grown, source.grown = source.grown, asyncio.Event()
            grown.set()
            self._wake_tails(id)
        return [id for (id, _), again in zip(wanted, more, strict=True) if again]

    def _note_changes(self) -> None:
        changed = self._inotify.changed()
        if changed is None:
            self._dirty.update(self._sources)
        else:
            self._dirty.update(self._by_watch[n] for n in changed if n in self._by_watch)

    def _unwatch(self, source: _Source) -> None:
        for number in source.watches:
            self._inotify.unwatch(number)
            self._by_watch.pop(number, None)


def _take_all(writers: Iterable[logfile.LogWriter]) -> list[bool]:
    return [_take(writer) for writer in writers]


def _take(writer: logfile.LogWriter) -> bool:
    try:
        return writer.take()
    except OSError as error:
        log.warning("can't take the output of container %s: %s", writer.folder.name[:12], error)
        return False


def _take_rest(writer: logfile.LogWriter) -> None:
    try:
        while writer.take(flush=True):
            pass
        writer.finish()
    except OSError as error:
        log.warning("can't take the last output of container %s: %s", writer.folder.name[:12], error)
    writer.close()
