"""LZW the other way, as members that compress do it: only tests need it."""

from __future__ import annotations

from agent.gossip.lzw import CLEAR, END, FIRST_WIDTH, MAX_WIDTH
from agent.gossip.messages import Type
from agent.gossip.packing import pack


def lzw(data: bytes) -> bytes:
    """Least significant bit first, literal width 8; the table is cleared when it is full."""
    bits = held = 0
    out = bytearray()
    table: dict[bytes, int] = {bytes([value]): value for value in range(256)}
    high, width = END, FIRST_WIDTH

    def emit(code: int) -> None:
        nonlocal bits, held
        bits |= code << held
        held += width
        while held >= 8:
            out.append(bits & 0xFF)
            bits >>= 8
            held -= 8

    def grow() -> bool:
        """One code more is in use; True when the table had to be cleared."""
        nonlocal high, width, table
        high += 1
        if high == 1 << width:
            width += 1
        if high < (1 << MAX_WIDTH) - 1:
            return False
        width = min(width, MAX_WIDTH)
        emit(CLEAR)
        table = {bytes([value]): value for value in range(256)}
        high, width = END, FIRST_WIDTH
        return True

    emit(CLEAR)
    text = b""
    for value in data:
        longer = text + bytes([value])
        if longer in table:
            text = longer
            continue
        emit(table[text])
        if not grow():
            table[longer] = high
        text = bytes([value])
    if text:
        emit(table[text])
        grow()
    emit(END)
    if held:
        out.append(bits & 0xFF)
    return bytes(out)


def compressed_stream(data: bytes) -> bytes:
    """As serf wraps every stream."""
    return bytes([Type.COMPRESS]) + pack({"Algo": 0, "Buf": lzw(data)})
