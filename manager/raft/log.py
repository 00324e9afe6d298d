"""The write-ahead log: segments on disk, one sync for a group of records, every byte checked when it is read again.

A segment is preallocated (a sync then writes no metadata) and holds a header and records. A record carries its
length, the checksum of the record before it (the chain), where its group began, its own checksum, and its sealed
content. All is written by `append`, one group at a time: one write, one fdatasync.

What a crash may leave is a torn group at the very end: it was never acknowledged and is cut, with a log line. A bad
record that was synced before (a later group follows it, or a later segment) is damage, and is named. A failed write
or sync leaves the log unusable until it is opened again, because nobody knows then what the disk holds; a segment
that cannot be allocated fails cleanly and may be tried again.

All calls block; single.py makes them in a thread of their own.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag

from manager.raft.files import sync_directory
from manager.raft.seal import Damaged, Sealer

log = logging.getLogger("raft.log")

SEGMENT_BYTES: Final = 8 << 20
_MAGIC: Final = b"SHOALLOG"
_FORMAT: Final = 1
_FILE: Final = struct.Struct("<8sIQII")  # magic, format, number of the segment, chain at its start, checksum
_HEAD: Final = struct.Struct("<IIII")  # checksum, length, chain, start of its group
_ENTRY: Final = struct.Struct("<BQQ")
_STATE: Final = struct.Struct("<BQQQ")
_ALIGN: Final = 8
_REPAIR: Final = "remove this manager from the swarm and join it again, or restore a backup"


@dataclass(frozen=True, slots=True)
class Entry:
    """One agreed write; without data it only marks a new leader."""

    index: int
    term: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HardState:
    """What a member must not forget: its term, whom it voted for, how far it knows the log to be committed."""

    term: int
    vote: int = 0
    commit: int = 0


@dataclass(slots=True)
class Recovered:
    """What the log held when it was opened."""

    entries: list[Entry] = field(default_factory=list)
    state: HardState = field(default_factory=lambda: HardState(0))
    cut: int = 0  # bytes of a torn tail

    def take(self, record: Entry | HardState) -> None:
        """Adds the next record; an entry with an index that is there already replaces it and all after it."""
        if isinstance(record, HardState):
            self.state = record
            return
        while self.entries and self.entries[-1].index >= record.index:
            self.entries.pop()
        self.entries.append(record)


@dataclass(slots=True)
class _Segment:
    path: Path
    number: int
    last_index: int = 0  # highest entry in it


def _pack(record: Entry | HardState) -> bytes:
    if isinstance(record, Entry):
        return _ENTRY.pack(1, record.index, record.term) + record.data
    return _STATE.pack(2, record.term, record.vote, record.commit)


def _unpack(data: bytes) -> Entry | HardState:
    if data[0] == 1:
        _, index, term = _ENTRY.unpack_from(data)
        return Entry(index, term, data[_ENTRY.size :])
    if data[0] == 2:
        return HardState(*_STATE.unpack(data)[1:])
    raise ValueError(f"unknown kind {data[0]}")


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


_START: Final = _padded(_FILE.size)


def _record_at(data: bytes, offset: int) -> tuple[int, int, int, bytes] | None:
    """Checksum, chain, group start and content of a sound record at `offset`."""
    if offset + _HEAD.size > len(data):
        return None
    checksum, length, chain, start = _HEAD.unpack_from(data, offset)
    end = offset + _HEAD.size + length
    if not length or end > len(data) or zlib.crc32(data[offset + 4 : end]) != checksum:
        return None
    return checksum, chain, start, data[offset + _HEAD.size : end]


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
        self._broken: str = ""

    @property
    def broken(self) -> bool:
        """Whether a write failed in a way that leaves unknown what the disk holds."""
        return bool(self._broken)

    # ---- writing

    def append(self, records: Sequence[Entry | HardState]) -> None:
        """Writes and syncs one group. Raises OSError; nothing of the group counts then."""
        if self._broken:
            raise OSError(f"the log is not usable after an earlier failure: {self._broken}")
        packed = [self._sealer.seal(_pack(r), b"log") for r in records]
        need = sum(_padded(_HEAD.size + len(p)) for p in packed)
        if self._offset + need > self._size:
            self._roll(need)
        group, chain = bytearray(), self._chain
        for content in packed:
            tail = struct.pack("<III", len(content), chain, self._offset) + content
            chain = zlib.crc32(tail)
            group += struct.pack("<I", chain) + tail
            group += bytes(_padded(len(group)) - len(group))
        try:
            self._write(bytes(group), self._offset)
        except OSError as exc:
            self._broken = str(exc)
            raise
        self._offset += len(group)
        self._chain = chain
        last = max((r.index for r in records if isinstance(r, Entry)), default=0)
        self._segments[-1].last_index = max(self._segments[-1].last_index, last)

    def _write(self, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)
        os.fdatasync(self._fd)

    def _roll(self, need: int) -> None:
        """Starts a new segment; what went before is synced already."""
        number = self._segments[-1].number + 1 if self._segments else 1
        path = self._directory / f"{number:016x}.log"
        temporary = path.with_suffix(".tmp")
        size = max(self._segment_bytes, _START + need)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            head = _FILE.pack(_MAGIC, _FORMAT, number, self._chain, 0)[:-4]
            os.pwrite(fd, head + struct.pack("<I", zlib.crc32(head)), 0)
            os.fsync(fd)
            temporary.rename(path)
            sync_directory(self._directory)
        except OSError:
            os.close(fd)
            temporary.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._offset = fd, size, _START
        self._segments.append(_Segment(path, number))

    def compact(self, index: int) -> int:
        """Removes segments with nothing beyond `index`; the one being written stays. Returns how many went."""
        removed = 0
        while len(self._segments) > 1 and self._segments[0].last_index <= index:
            self._segments.pop(0).path.unlink()
            removed += 1
        if removed:
            sync_directory(self._directory)
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
        return found

    def _recover_segment(self, path: Path, found: Recovered, newest: bool) -> None:
        data = path.read_bytes()
        number, chain = self._header(path, data)
        if self._segments and (number != self._segments[-1].number + 1 or chain != self._chain):
            raise Damaged(f"{path} does not follow on the segment before it: one is missing; {_REPAIR}")
        self._chain = chain
        segment = _Segment(path, number)
        self._segments.append(segment)
        offset = _START
        while (record := _record_at(data, offset)) is not None and record[1] == self._chain:
            self._chain = record[0]
            taken = self._content(path, offset, record[3])
            found.take(taken)
            if isinstance(taken, Entry):
                segment.last_index = max(segment.last_index, taken.index)
            offset = _padded(offset + _HEAD.size + len(record[3]))
        rest = data[offset:]
        if rest.strip(b"\0"):
            if not newest or self._synced(data, offset):
                raise Damaged(
                    f"{path} is damaged at byte {offset}, after {len(found.entries)} entries; {_REPAIR}"
                )
            found.cut = len(rest.rstrip(b"\0"))
            log.warning("%s: cut %d bytes of a write that a crash tore at byte %d", path, found.cut, offset)
        if newest:
            self._continue(path, offset, len(data), bool(found.cut))

    def _header(self, path: Path, data: bytes) -> tuple[int, int]:
        if len(data) < _START:
            raise Damaged(f"{path} is only {len(data)} bytes long: it was truncated; {_REPAIR}")
        magic, version, number, chain, checksum = _FILE.unpack_from(data)
        if magic != _MAGIC or zlib.crc32(data[: _FILE.size - 4]) != checksum:
            raise Damaged(f"{path} is damaged at byte 0: its header is not readable; {_REPAIR}")
        if version != _FORMAT:
            raise Damaged(f"{path} has format {version}, this version reads {_FORMAT}")
        return number, chain

    def _content(self, path: Path, offset: int, sealed: bytes) -> Entry | HardState:
        try:
            return _unpack(self._sealer.open(sealed, b"log"))
        except (InvalidTag, ValueError, struct.error, IndexError) as exc:
            raise Damaged(
                f"the record at byte {offset} of {path} does not open with this manager's key; {_REPAIR}"
            ) from exc

    def _synced(self, data: bytes, bad: int) -> bool:
        """Whether what stands at `bad` had been synced: a later sound record began its group after it."""
        for offset in range(_padded(bad + 1), len(data) - _HEAD.size, _ALIGN):
            length = int.from_bytes(data[offset + 4 : offset + 8], "little")
            if length and (record := _record_at(data, offset)) is not None and record[2] > bad:
                return True
        return False

    def _continue(self, path: Path, offset: int, size: int, cut: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._offset, self._size = offset, size
        if cut:
            self._write(bytes(size - offset), offset)


def open_log(directory: Path, sealer: Sealer, segment_bytes: int = SEGMENT_BYTES) -> tuple[Log, Recovered]:
    """The log in `directory` (made if it is not there) and what it holds; raises Damaged or OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = Log(directory, sealer, segment_bytes)
    return opened, opened.recover()
