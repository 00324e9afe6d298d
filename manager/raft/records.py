"""What stands in a segment of the log: its header, and records in groups. Pure; log.py reads and writes the files.

A record carries its length, the checksum of the record before it (the chain), where its group began and whether it is
the last of it, checksums of that head and of the whole, and its sealed content. A group counts as a whole or not at all.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from manager.raft.core.messages import Entry, EntryType, HardState

FORMAT: Final = 2
_MAGIC: Final = b"SHOALLOG"
_FILE: Final = struct.Struct(
    "<8sIQIII"
)  # magic, format, number of the segment, chain at its start, 0, checksum
_HEAD: Final = struct.Struct(
    "<IIIIII"
)  # checksum of this head, length, chain, start of its group, last, checksum
_SUMMED: Final = struct.Struct("<IIII")  # length to last: no word of a head is zero, see torn
_ENTRY: Final = struct.Struct("<BBBQQ")
_STATE: Final = struct.Struct("<BBQQQ")
_MARK: Final = struct.Struct("<BB?QQQ")
ALIGN: Final = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """From here on, snapshot file `number` is the newest; one that `replaces` ends all entries before the mark."""

    number: int
    index: int
    term: int
    replaces: bool = False


Content: TypeAlias = Entry | HardState | Mark


@dataclass(frozen=True, slots=True)
class Record:
    """A sound record: `group` is where its group began, `end` where it ends itself."""

    checksum: int
    chain: int
    group: int
    last: bool
    sealed: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment begins with."""

    number: int
    chain: int
    format: int = FORMAT


def padded(size: int) -> int:
    """`size` rounded up to where the next record may begin."""
    return -(-size // ALIGN) * ALIGN


START: Final = _FILE.size


def pack(content: Content) -> bytes:
    """One record's content, in whole words: its kind, how many bytes are padding, what it says."""
    if isinstance(content, Entry):
        pad = -(_ENTRY.size + len(content.data)) % ALIGN
        return _ENTRY.pack(1, pad, content.type, content.index, content.term) + content.data + bytes(pad)
    if isinstance(content, HardState):
        pad = -_STATE.size % ALIGN
        return _STATE.pack(2, pad, content.term, content.vote, content.commit) + bytes(pad)
    pad = -_MARK.size % ALIGN
    return _MARK.pack(3, pad, content.replaces, content.number, content.index, content.term) + bytes(pad)


def unpack(packed: bytes) -> Content:
    """The opposite of pack; raises ValueError, IndexError or struct.error."""
    kind, data = packed[0], packed[: len(packed) - packed[1]]
    if kind == 1:
        _, _, entry_type, index, term = _ENTRY.unpack_from(data)
        return Entry(index, term, EntryType(entry_type), data[_ENTRY.size :])
    if kind == 2:
        return HardState(*_STATE.unpack(data)[2:])
    if kind == 3:
        _, _, replaces, number, index, term = _MARK.unpack(data)
        return Mark(number, index, term, replaces)
    raise ValueError(f"unknown kind {kind}")


def header(number: int, chain: int) -> bytes:
    """The first bytes of a segment."""
    head = _FILE.pack(_MAGIC, FORMAT, number, chain, 0, 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def header_of(data: bytes) -> Header | None:
    """What `data` begins with, None if it is no sound header."""
    if len(data) < START:
        return None
    magic, version, number, chain, _, checksum = _FILE.unpack_from(data)
    if magic != _MAGIC or zlib.crc32(data[: _FILE.size - 4]) != checksum:
        return None
    return Header(number, chain, version)


def framed_size(length: int) -> int:
    """Bytes that a record with `length` bytes of sealed content takes."""
    return padded(_HEAD.size + length)


def frame(sealed: Sequence[bytes], chain: int, offset: int) -> tuple[bytes, int]:
    """One group to be written at `offset`, and the chain after it."""
    group = bytearray()
    for position, content in enumerate(sealed):
        summed = _SUMMED.pack(len(content), chain, offset, position == len(sealed) - 1)
        head = zlib.crc32(summed)
        chain = zlib.crc32(content, head)
        group += struct.pack("<I", head) + summed + struct.pack("<I", chain) + content
        group += bytes(padded(len(group)) - len(group))
    return bytes(group), chain


def record_at(data: bytes, offset: int) -> Record | None:
    """The sound record at `offset`, if there is one."""
    length = length_at(data, offset)
    if length is None:
        return None
    head, _, chain, group, last, checksum = _HEAD.unpack_from(data, offset)
    content = offset + _HEAD.size
    end = content + length
    if end > len(data) or zlib.crc32(memoryview(data)[content:end], head) != checksum:
        return None
    return Record(checksum, chain, group, bool(last), data[content:end], padded(end))


def length_at(data: bytes, offset: int) -> int | None:
    """The length of the record at `offset`, None if its head is not sound."""
    if offset + _HEAD.size > len(data):
        return None
    head, length, chain, group, last, _ = _HEAD.unpack_from(data, offset)
    if not length or zlib.crc32(_SUMMED.pack(length, chain, group, last)) != head:
        return None
    return int(length)


def torn(data: bytes, offset: int) -> bool:
    """Whether what stands at `offset`, which is no sound record, was never written in full.

    A segment is zero before it is written, and no aligned word of a record is: a write that a crash tore has left
    words of zeros. Bytes that all are there and still are wrong were changed later.
    """
    end = min(padded(offset + _HEAD.size + (length_at(data, offset) or 0)), len(data))
    empty = bytes(ALIGN)
    return end <= offset or any(data[at : at + ALIGN] == empty for at in range(offset, end, ALIGN))


def written_after(data: bytes, offset: int) -> bool:
    """Whether a sound record behind `offset` began its group there: then what is at `offset` had been synced."""
    for at in range(padded(offset + 1), len(data) - _HEAD.size, ALIGN):
        if data[at : at + ALIGN] == bytes(ALIGN):
            continue
        record = record_at(data, at)
        if record is not None and record.group > offset:
            return True
    return False
