"""The subset of msgpack that memberlist speaks, by hand. Pure; messages.py and frames.py call it.

Memberlist uses the *old* msgpack specification: strings and byte strings are one kind, "raw" (0xa0–0xbf, 0xda, 0xdb), and
there is no str 8 and no bin. So text is written as raw and everything raw is read back as bytes; who reads a field knows
what it is. The newer str 8 and bin forms are understood on the way in, since later encoders write them. Messages are
maps from field names to scalars; depth and size of what is read are bounded, for it comes from the network.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Value: TypeAlias = "bool | int | float | str | bytes | Sequence[Value] | Mapping[str, Value] | None"
Decoded: TypeAlias = "bool | int | float | bytes | list[Decoded] | dict[str, Decoded] | None"

MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 4096  # of one map or list: serf's maps of Lamport times grow with the cluster

# first byte -> (struct format, kind)
_NUMBERS: Final = {
    0xCA: ">f", 0xCB: ">d",
    0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_RAWS: Final = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_LISTS: Final = {0xDC: ">H", 0xDD: ">I"}
_MAPS: Final = {0xDE: ">H", 0xDF: ">I"}
_CONSTANTS: Final[dict[int, bool | None]] = {0xC0: None, 0xC2: False, 0xC3: True}


class Malformed(ValueError):
    """What came from the network isn't what it should be. The text is for the log."""


class Truncated(Malformed):
    """It may become right when more bytes come; in a datagram it never does."""


def pack(value: Value) -> bytes:
    """One value in the old specification."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: Value, out: bytearray) -> None:
    if value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        _pack_int(value, out)
    elif isinstance(value, float):
        out += b"\xcb" + struct.pack(">d", value)
    elif isinstance(value, str | bytes):
        raw = value.encode() if isinstance(value, str) else value
        _pack_length(len(raw), out, short=(0xA0, 31), wide=(0xDA, 0xDB))
        out += raw
    elif isinstance(value, Mapping):
        _pack_length(len(value), out, short=(0x80, 15), wide=(0xDE, 0xDF))
        for key, item in value.items():
            _pack(key, out)
            _pack(item, out)
    else:
        _pack_length(len(value), out, short=(0x90, 15), wide=(0xDC, 0xDD))
        for item in value:
            _pack(item, out)


def _pack_int(value: int, out: bytearray) -> None:
    if 0 <= value < 0x80 or -32 <= value < 0:
        out.append(value & 0xFF)
        return
    codes = (0xCC, 0xCD, 0xCE, 0xCF) if value >= 0 else (0xD0, 0xD1, 0xD2, 0xD3)
    for code, bits in zip(codes, (8, 16, 32, 64), strict=True):
        low, high = (0, 1 << bits) if value >= 0 else (-(1 << (bits - 1)), 0)
        if low <= value < high:
            out.append(code)
            out += struct.pack(_NUMBERS[code], value)
            return
    raise OverflowError(f"{value} doesn't fit into 64 bits")


def _pack_length(length: int, out: bytearray, *, short: tuple[int, int], wide: tuple[int, int]) -> None:
    base, limit = short
    if length <= limit:
        out.append(base | length)
    elif length < 1 << 16:
        out += bytes([wide[0]]) + struct.pack(">H", length)
    else:
        out += bytes([wide[1]]) + struct.pack(">I", length)


def unpack(data: bytes, at: int = 0) -> tuple[Decoded, int]:
    """The value that starts at `at`, and where the next one starts. Truncated if it isn't all there yet."""
    return _unpack(data, at, 0)


def unpack_map(data: bytes, at: int = 0) -> tuple[dict[str, Decoded], int]:
    """The same where only a map makes sense: every message is one."""
    value, end = unpack(data, at)
    if not isinstance(value, dict):
        raise Malformed("a message that is no map")
    return value, end


def _unpack(data: bytes, at: int, depth: int) -> tuple[Decoded, int]:
    if depth > MAX_DEPTH:
        raise Malformed("nested too deep")
    first, at = _number(data, at, ">B")
    first = int(first)
    if first < 0x80:
        return first, at
    if first >= 0xE0:
        return first - 0x100, at
    if first < 0x90:
        return _read_map(data, at, first & 0x0F, depth)
    if first < 0xA0:
        return _read_list(data, at, first & 0x0F, depth)
    if first < 0xC0:
        return _read_raw(data, at, first & 0x1F)
    if first in _CONSTANTS:
        return _CONSTANTS[first], at
    if first in _NUMBERS:
        return _number(data, at, _NUMBERS[first])
    for table, read in ((_RAWS, _read_raw), (_LISTS, _read_list), (_MAPS, _read_map)):
        if first in table:
            length, at = _number(data, at, table[first])
            return read(data, at, int(length), depth)
    raise Malformed(f"byte {first:#04x} starts no value")


def _number(data: bytes, at: int, form: str) -> tuple[int | float, int]:
    end = at + struct.calcsize(form)
    if end > len(data):
        raise Truncated("a number is cut off")
    (value,) = struct.unpack_from(form, data, at)
    return value, end


def _read_raw(data: bytes, at: int, length: int, _depth: int = 0) -> tuple[bytes, int]:
    if at + length > len(data):
        raise Truncated(f"{length} bytes announced, {len(data) - at} there")
    return bytes(data[at : at + length]), at + length


def _read_list(data: bytes, at: int, count: int, depth: int) -> tuple[list[Decoded], int]:
    if count > MAX_ITEMS:
        raise Malformed(f"a list of {count}")
    items: list[Decoded] = []
    for _ in range(count):
        item, at = _unpack(data, at, depth + 1)
        items.append(item)
    return items, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[str, Decoded], int]:
    if count > MAX_ITEMS:
        raise Malformed(f"a map of {count}")
    items: dict[str, Decoded] = {}
    for _ in range(count):
        key, at = _unpack(data, at, depth + 1)
        if not isinstance(key, bytes):
            raise Malformed("a key that is no text")
        items[key.decode("latin-1")], at = _unpack(data, at, depth + 1)
    return items, at
