"""The write-ahead log: segments on disk, one sync for a group of records, every byte checked when it is read again.

A segment is preallocated (a sync then writes no metadata) and holds a header and groups of records (records.py). All is
written by `append`, one group at a time: one write, one fdatasync. The first group of every segment repeats the hard
state and the newest mark, so that older segments may go.

What a crash may leave is a torn group at the very end: it was never acknowledged and is cut, with a log line. Anything
else that is wrong is damage, and is named: a bad record with a later group or segment behind it, and one whose bytes
are all there. A failed write or sync leaves the log unusable until it is opened again, because nobody knows then what
the disk holds; a segment that cannot be allocated fails cleanly and may be tried again.

All calls block. Used by disk.py.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag

from manager.raft import records
from manager.raft.core.messages import Entry, HardState
from manager.raft.files import sync_directory
from manager.raft.records import START, Content, Mark
from manager.raft.seal import Damaged, Sealer

log = logging.getLogger("raft.log")

SEGMENT_BYTES: Final = 8 << 20
REPAIR: Final = "remove this manager from the swarm and join it again, or restore a backup"


@dataclass(slots=True)
class Recovered:
    """What the log held when it was opened."""

    entries: list[Entry] = field(default_factory=list)
    state: HardState = field(default_factory=HardState)
    mark: Mark | None = None
    cut: int = 0  # bytes of a torn tail

    def take(self, content: Content) -> None:
        """Adds the next record; an entry with an index that is there already replaces it and all after it."""
        if isinstance(content, HardState):
            self.state = content
        elif isinstance(content, Mark):
            self._take_mark(content)
        else:
            if self.entries and content.index <= self.entries[-1].index:
                del self.entries[max(0, content.index - self.entries[0].index) :]
            if self.entries and content.index != self.entries[-1].index + 1:
                raise ValueError(f"entry {content.index} follows on entry {self.entries[-1].index}")
            self.entries.append(content)

    def _take_mark(self, mark: Mark) -> None:
        """A snapshot ends the log before it, unless its own entry is there and entries follow on it."""
        self.mark = replace(mark, replaces=False)  # only where it stands first does it replace anything
        if not self.entries or self.entries[0].index > mark.index:
            if mark.replaces:
                self.entries.clear()
            return
        at = mark.index - self.entries[0].index
        if mark.replaces or at >= len(self.entries) or self.entries[at].term != mark.term:
            self.entries.clear()


@dataclass(slots=True)
class _Segment:
    path: Path
    number: int
    last_index: int = 0  # highest entry in it that counts


class Log:
    """An open log; made by `open_log`."""

    def __init__(self, directory: Path, sealer: Sealer, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._sealer = sealer
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._fd = -1
        self._size = 0
        self._offset = 0
        self._chain = 0
        self._last = 0  # entry
        self._state: HardState | None = None
        self._mark: Mark | None = None
        self._broken: str = ""

    @property
    def broken(self) -> bool:
        """Whether a write failed in a way that leaves unknown what the disk holds."""
        return bool(self._broken)

    # ---- writing

    def append(self, group: Sequence[Content], sealer: Sealer | None = None) -> None:
        """Writes and syncs one group, in a new segment if a new `sealer` is given. Raises OSError; nothing of the
        group counts then."""
        if self._broken:
            raise OSError(f"the log is not usable after an earlier failure: {self._broken}")
        packed = [records.pack(content) for content in group]
        repeated = [records.pack(c) for c in (self._state, self._mark) if c is not None]
        need = sum(records.framed_size(len(p) + Sealer.OVERHEAD) for p in packed)
        more = sum(records.framed_size(len(p) + Sealer.OVERHEAD) for p in repeated)
        fresh = self._offset <= START
        if sealer is not None or self._offset + need + more * fresh > self._size:
            self._roll(need + more)
            self._sealer, fresh = sealer or self._sealer, True
        context = self._context(self._segments[-1].number)
        sealed = [self._sealer.seal(p, context) for p in (repeated if fresh else []) + packed]
        data, chain = records.frame(sealed, self._chain, self._offset)
        try:
            self._write(data, self._offset)
        except OSError as exc:
            self._broken = str(exc)
            raise
        self._offset += len(data)
        self._chain = chain
        self._took(group)

    def _took(self, group: Sequence[Content]) -> None:
        for content in group:
            if isinstance(content, HardState):
                self._state = content
            elif isinstance(content, Mark):
                self._mark = replace(content, replaces=False)
            self._count(content)

    def _count(self, content: Content) -> None:
        """Keeps in mind which entries a segment is still needed for."""
        if isinstance(content, Entry):
            if content.index <= self._last:
                self._end_older(content.index - 1)
            self._segments[-1].last_index = max(self._segments[-1].last_index, content.index)
            self._last = content.index
        elif isinstance(content, Mark) and content.replaces:
            self._end_older(0)

    def _end_older(self, index: int) -> None:
        for segment in self._segments[:-1]:
            segment.last_index = min(segment.last_index, index)

    @staticmethod
    def _context(number: int) -> bytes:
        return b"log %d" % number

    def _write(self, data: bytes, offset: int) -> None:
        done, view = 0, memoryview(data)
        while done < len(data):
            done += os.pwrite(self._fd, view[done:], offset + done)
        os.fdatasync(self._fd)

    def begin(self) -> None:
        """Makes the first segment if there is none."""
        if not self._segments:
            self._roll(0)

    def _roll(self, need: int) -> None:
        """Starts a new segment; what went before is synced already."""
        number = self._segments[-1].number + 1 if self._segments else 1
        path = self._directory / f"{number:016x}.log"
        temporary = path.with_suffix(".tmp")
        size = max(self._segment_bytes, START + need)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            os.pwrite(fd, records.header(number, self._chain), 0)
            os.fsync(fd)
            temporary.rename(path)
            sync_directory(self._directory)
        except OSError:
            os.close(fd)
            temporary.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._offset = fd, size, START
        self._segments.append(_Segment(path, number))

    def compact(self, index: int) -> int:
        """Removes segments with nothing beyond `index`; the one being written stays. Returns how many went."""
        # Only a segment with a group in it repeats what the ones before it say.
        stay = 1 if self._offset > START else 2
        removed = 0
        while len(self._segments) > stay and self._segments[0].last_index <= index:
            self._segments[0].path.unlink()
            # One after the other: a power cut must not bring back an older one without a newer one.
            sync_directory(self._directory)
            self._segments.pop(0)
            removed += 1
        return removed

    def close(self) -> None:
        """Lets go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._broken = "closed"

    # ---- reading

    def recover(self) -> Recovered:
        """Reads everything and gets ready to append; raises Damaged."""
        for leftover in self._directory.glob("*.tmp"):
            leftover.unlink()
        found = Recovered()
        paths = sorted(self._directory.glob("*.log"))
        for position, path in enumerate(paths):
            self._recover_segment(path, found, newest=position == len(paths) - 1)
        self._state, self._mark = found.state, found.mark
        return found

    def _recover_segment(self, path: Path, found: Recovered, newest: bool) -> None:
        data = path.read_bytes()
        header = self._header(path, data)
        before = self._segments[-1].number if self._segments else header.number - 1
        if header.number != before + 1 or (self._segments and header.chain != self._chain):
            raise Damaged(f"{path} does not follow on the segment before it: one is missing; {REPAIR}")
        self._chain = header.chain
        segment = _Segment(path, header.number)
        self._segments.append(segment)
        offset, bad = self._take_groups(segment, data, found)
        if data[offset:].strip(b"\0"):
            if not newest or records.written_after(data, bad) or not records.torn(data, bad):
                raise Damaged(
                    f"{path} is damaged at byte {bad}, after {len(found.entries)} entries; {REPAIR}"
                )
            found.cut = len(data[offset:].rstrip(b"\0"))
            log.warning("%s: cut %d bytes of a write that a crash tore at byte %d", path, found.cut, bad)
        if newest:
            self._continue(path, offset, len(data), bool(found.cut))

    def _take_groups(self, segment: _Segment, data: bytes, found: Recovered) -> tuple[int, int]:
        """Takes all whole groups; returns where they end, and where the first byte is that is not sound."""
        offset = at = START
        chain = self._chain
        group: list[Content] = []
        while (record := records.record_at(data, at)) is not None and record.chain == chain:
            if record.group != offset:
                break
            group.append(self._content(segment, at, record.sealed))
            chain, at = record.checksum, record.end
            if record.last:
                self._take_group(segment, offset, group, found)
                self._chain, offset = chain, at
                group.clear()
        return offset, at

    def _take_group(self, segment: _Segment, offset: int, group: list[Content], found: Recovered) -> None:
        for content in group:
            try:
                found.take(content)
            except ValueError as exc:
                raise Damaged(
                    f"{segment.path}: {exc} at byte {offset}: entries are missing; {REPAIR}"
                ) from exc
            self._count(content)

    def _header(self, path: Path, data: bytes) -> records.Header:
        if len(data) < START:
            raise Damaged(f"{path} is only {len(data)} bytes long: it was truncated; {REPAIR}")
        header = records.header_of(data)
        if header is None:
            raise Damaged(f"{path} is damaged at byte 0: its header is not readable; {REPAIR}")
        if header.format != records.FORMAT:
            raise Damaged(f"{path} has format {header.format}, this version reads {records.FORMAT}")
        return header

    def _content(self, segment: _Segment, offset: int, sealed: bytes) -> Content:
        try:
            return records.unpack(self._sealer.open(sealed, self._context(segment.number)))
        except (InvalidTag, ValueError, struct.error, IndexError) as exc:
            raise Damaged(
                f"the record at byte {offset} of {segment.path} does not open with this manager's key; {REPAIR}"
            ) from exc

    def _continue(self, path: Path, offset: int, size: int, cut: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._offset, self._size = offset, size
        if cut:
            self._write(bytes(size - offset), offset)


def open_log(directory: Path, sealer: Sealer, segment_bytes: int = SEGMENT_BYTES) -> tuple[Log, Recovered]:
    """The log in `directory` (made if it is not there) and what it holds; raises Damaged or OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = Log(directory, sealer, segment_bytes)
    try:
        return opened, opened.recover()
    except BaseException:
        opened.close()
        raise
