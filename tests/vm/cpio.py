"""An archive as the kernel unpacks it for its initial RAM disk (cpio, "newc"). Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Final

_FOLDER: Final = 0o040755
_FILE: Final = 0o100000
_END: Final = "TRAILER!!!"


def archive(folders: Iterable[str], files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Folders first, then files by path, with their permissions."""
    numbers = itertools.count(1)
    parts = [_entry(next(numbers), path, _FOLDER, b"") for path in folders]
    parts += [_entry(next(numbers), path, _FILE | mode, data) for path, (mode, data) in files.items()]
    parts.append(_entry(0, _END, 0, b""))
    return b"".join(parts)


def _entry(number: int, path: str, mode: int, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
