"""Fields of protobuf messages, written and read by hand: the pure ring uses no protobuf. For messages.py."""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that holds a number."""
    return _varint(field << 3) + _varint(value)


def string(field: int, value: bytes) -> bytes:
    """A field that holds bytes."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def as_int(value: int | bytes) -> int:
    """The number in a field; raises TypeError."""
    if isinstance(value, bytes):
        raise TypeError("a string where a number belongs")
    return value


def as_bytes(value: int | bytes) -> bytes:
    """The bytes in a field; raises TypeError."""
    if isinstance(value, int):
        raise TypeError("a number where a string belongs")
    return value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
    raise ValueError("a number of more than 64 bits")


def fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Every field with its value, in order; raises ValueError or IndexError."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        field, kind = key >> 3, key & 7
        if field == 0:
            raise ValueError("a field without a number")
        if kind == 0:
            value, at = _read_varint(data, at)
            found.append((field, value))
            continue
        if kind == 2:
            length, at = _read_varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + length > len(data):
            raise ValueError("a field that ends behind the data")
        found.append((field, data[at : at + length]))
        at += length
    return found
