"""A container's kept output on disk: segments of stamped lines, and the spool files that the shim writes.

Blocking; `agent.runtime.logs` runs it in its own thread. A container's folder holds `stdout.log` and `stderr.log`,
appended to by the shim without anyone's help (so nothing is lost while the agent is away), and `log.N`, the lines
taken from them with time and stream. What was taken is cut out of the spool as a hole. Each segment begins with how
far the spools had been taken, and each line says how far its own was: that is how a restarted agent goes on exactly.
"""

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agent.runtime.api import LogEntry, LogStream

log = logging.getLogger("runtime")

STREAMS: tuple[LogStream, LogStream] = ("stdout", "stderr")
LINE = 16 << 10  # a longer line is kept in pieces, as Docker does
SEGMENT = 8 << 20
SEGMENTS = 9  # eight full ones at least are kept, whatever the pieces were that output came in: 64 MiB with the stamps
BACKLOG = 128 << 20  # output that waits to be taken; beyond that the oldest of it is lost
KEPT_BACKLOG = (
    64 << 20
)  # no less than the segments hold: who writes faster than he is read loses nothing that is kept of others
HELD = 1 << 30  # what is kept for somebody who is attached and reads slowly
READ = 1 << 20
_PUNCH = 1 << 20

_HEAD = struct.Struct(">4sQQ")  # magic, taken of stdout, taken of stderr
_LINE = struct.Struct(">IBQQ")  # length, stream, time, taken of that stream after this line
_MAGIC = b"SLG1"
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class _Spool:
    """One of the shim's files: how much of it has been taken."""

    path: Path
    file: IO[bytes]
    taken: int = 0
    punched: int = 0
    hold: int | None = None  # somebody has yet to read from here on
    ahead: bytes = b""  # read, but its line isn't complete


@dataclass(slots=True)
class _Line:
    at: int
    stream: int
    data: bytes
    start: int  # how far its spool had been taken before it, and after it
    taken: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place."""

    segment: int = 0
    offset: int = 0


@dataclass(slots=True)
class LogWriter:
    """Takes lines from the spools into segments."""

    folder: Path
    spools: list[_Spool] = field(default_factory=list)
    segment: int = 0
    size: int = 0
    out: IO[bytes] | None = None
    last_at: int = 0
    lost: int = 0

    @classmethod
    def open(cls, folder: Path) -> "LogWriter":
        """Go on where the last segment ends; a line that was cut off by a crash is taken again."""
        writer = cls(folder)
        taken = [0, 0]
        numbers = segments(folder)
        if numbers:
            writer.segment = numbers[-1]
            taken, writer.size, writer.last_at = _recover(folder / f"log.{writer.segment}")
        for number, name in enumerate(STREAMS):
            path = folder / f"{name}.log"
            start = min(taken[number], path.stat().st_size)
            writer.spools.append(_Spool(path, path.open("rb+", buffering=0), start))
        if numbers and writer.size >= _HEAD.size:
            writer.out = (folder / f"log.{writer.segment}").open("rb+", buffering=0)
            writer.out.truncate(writer.size)
            writer.out.seek(writer.size)
        return writer

    def written(self) -> tuple[int, ...]:
        """How much each stream has come to."""
        return tuple(os.fstat(spool.file.fileno()).st_size for spool in self.spools)

    def has_taken(self, written: tuple[int, ...]) -> bool:
        """All of that; a line that isn't complete is no line yet."""
        return all(s.taken + len(s.ahead) >= size for s, size in zip(self.spools, written, strict=False))

    def finish(self) -> None:
        """Nothing comes any more: blocks that are taken are given back, however few."""
        for spool in self.spools:
            spool.punched = _punch(spool.file, spool.punched, _done_with(spool))

    def close(self) -> None:
        for spool in self.spools:
            spool.file.close()
        self.spools.clear()  # whoever takes now finds nothing
        if self.out is not None:
            self.out.close()
            self.out = None

    def take(self, flush: bool = False) -> bool:
        """Take what is there, a megabyte a stream at most; True if more waits. `flush` takes a last half line too."""
        lines: list[_Line] = []
        more = False
        for number, spool in enumerate(self.spools):
            info = os.fstat(spool.file.fileno())
            if info.st_size - spool.taken > BACKLOG:
                lines.append(self._give_up(spool, info))
            more |= self._read(number, spool, info, lines, flush)
        lines.sort(key=lambda line: line.at)
        if lines:
            self._store(lines)
            for spool in self.spools:
                end = _done_with(spool)
                if end - spool.punched >= _PUNCH:
                    spool.punched = _punch(spool.file, spool.punched, end)
        return more

    def _read(
        self, number: int, spool: _Spool, info: os.stat_result, lines: list[_Line], flush: bool
    ) -> bool:
        start = spool.taken + len(spool.ahead)
        data = os.pread(spool.file.fileno(), READ, start) if info.st_size > start else b""
        text = spool.ahead + data
        at = 0
        while at < len(text):
            end = text.find(b"\n", at, at + LINE) + 1
            if not end:
                if len(text) - at < LINE and not (flush and start + len(data) >= info.st_size):
                    break
                end = min(at + LINE, len(text))
            start_of_line, spool.taken = spool.taken, spool.taken + end - at
            lines.append(_Line(info.st_mtime_ns, number, text[at:end], start_of_line, spool.taken))
            at = end
        spool.ahead = text[at:]
        return info.st_size > start + len(data)

    def _give_up(self, spool: _Spool, info: os.stat_result) -> _Line:
        """Output came faster than it can be kept: let the oldest of the backlog go, and say so in the log."""
        target = info.st_size - KEPT_BACKLOG
        gone = target - spool.taken
        spool.taken, spool.ahead = target, b""
        spool.punched = _punch(spool.file, spool.punched, _done_with(spool))
        self.lost += gone
        text = f"[shoal: {gone} bytes of output were lost: written faster than they can be kept]\n"
        place = self.spools[1].taken
        return _Line(info.st_mtime_ns, 1, text.encode(), place, place)

    def _store(self, lines: list[_Line]) -> None:
        packed = bytearray()
        for line in lines:
            self.last_at = max(self.last_at + 1, line.at)
            packed += _LINE.pack(len(line.data), line.stream, self.last_at, line.taken)
            packed += line.data
        try:
            if self.out is None or self.size >= SEGMENT:
                self._roll(lines)
            if self.out is not None:
                self.out.write(packed)
            self.size += len(packed)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Keeping the spool instead would fill the disk further, and a full disk blocks the container for good.
            log.warning("no space for the output of %s: %d lines lost", self.folder.name[:12], len(lines))
            self.lost += len(packed)
            self.size = SEGMENT

    def _roll(self, lines: list[_Line]) -> None:
        """Begin a segment and drop the oldest."""
        if self.out is not None:
            self.out.close()
            self.out = None
        self.segment += 1
        before = [spool.taken for spool in self.spools]
        for line in lines:
            before[line.stream] = min(before[line.stream], line.start)
        self.out = (self.folder / f"log.{self.segment}").open("wb", buffering=0)
        self.size = self.out.write(_HEAD.pack(_MAGIC, *before)) or 0
        for number in segments(self.folder)[:-SEGMENTS]:
            (self.folder / f"log.{number}").unlink(missing_ok=True)


def segments(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[4:]) for name in names if name.startswith("log.") and name[4:].isdecimal())


def prepare(folder: Path) -> tuple[str, str]:
    """The shim's two files; they must be there before it opens them."""
    paths = [folder / f"{name}.log" for name in STREAMS]
    for path in paths:
        path.touch(mode=0o600)
    return str(paths[0]), str(paths[1])


def read(folder: Path, cursor: Cursor) -> tuple[list[LogEntry], Cursor, bool]:
    """Lines from a place on, the next place, and whether that is the end for now."""
    numbers = segments(folder)
    if not numbers:
        return [], cursor, True
    number = next((n for n in numbers if n >= cursor.segment), numbers[-1])
    offset = cursor.offset if number == cursor.segment else 0
    try:
        with (folder / f"log.{number}").open("rb") as file:
            file.seek(max(offset, _HEAD.size))
            data = file.read(READ)
    except FileNotFoundError:
        return [], Cursor(number + 1), False
    entries, used = [], 0
    for entry, end in _lines(data):
        entries.append(entry)
        used = end
    place = Cursor(number, max(offset, _HEAD.size) + used)
    if entries:
        return entries, place, False
    if number < numbers[-1]:
        return [], Cursor(number + 1), False
    return [], place, True


def _lines(data: bytes) -> Iterator[tuple[LogEntry, int]]:
    at = 0
    while at + _LINE.size <= len(data):
        length, stream, time, _ = _LINE.unpack_from(data, at)
        end = at + _LINE.size + length
        if end > len(data):
            return
        yield LogEntry(STREAMS[stream & 1], time, data[at + _LINE.size : end]), end
        at = end


def _recover(path: Path) -> tuple[list[int], int, int]:
    """How far the spools were taken, where the last whole line ends, and its time."""
    data = path.read_bytes()
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        return [0, 0], 0, 0
    _, *taken = _HEAD.unpack_from(data)
    at, last = _HEAD.size, 0
    while at + _LINE.size <= len(data):
        length, stream, last_at, after = _LINE.unpack_from(data, at)
        if at + _LINE.size + length > len(data):
            break
        at += _LINE.size + length
        taken[stream & 1] = max(taken[stream & 1], after)
        last = last_at
    return taken, at, last


def _done_with(spool: _Spool) -> int:
    """Up to where a spool may be cut out: what somebody has yet to read stays, but no more than HELD of it."""
    if spool.hold is None:
        return spool.taken
    return max(min(spool.taken, spool.hold), spool.taken - HELD)


def _punch(file: IO[bytes], start: int, end: int) -> int:
    """Give back the blocks of what was taken; a file system that can't keeps them."""
    end -= end % 4096
    if end > start:
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        done = _libc.fallocate(file.fileno(), mode, ctypes.c_int64(start), ctypes.c_int64(end - start))
        if done != 0 and ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(ctypes.get_errno(), "fallocate", str(file.name))
    return max(start, end)
