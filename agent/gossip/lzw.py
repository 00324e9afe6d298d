"""LZW as memberlist's peers compress with it: decoding only, ours need not compress. Pure; frames.py calls it.

The dialect is GIF's with a literal width of 8: codes are packed from the least significant bit on, 9 bits wide at first and
12 at most; 256 clears the table, 257 ends the data, new codes start at 258. The first code after a clear adds nothing
to the table. When the table is full at 12 bits the encoder clears it; until then nothing is added any more. The
output is bounded, since a few bytes can stand for megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.gossip.packing import Malformed

CLEAR: Final = 256
END: Final = 257
FIRST_WIDTH: Final = 9
MAX_WIDTH: Final = 12


class _Decoder:
    """The table: what each code stands for, and how wide the next code is."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.table = [bytes([value]) for value in range(256)] + [b"", b""]
        self.width = FIRST_WIDTH
        self.previous: bytes | None = None

    def text(self, code: int) -> bytes:
        """What `code` stands for; the table learns the previous text with this one's first byte."""
        if code < len(self.table):
            text = self.table[code]
        elif code == len(self.table) and self.previous is not None and code < 1 << MAX_WIDTH:
            text = self.previous + self.previous[:1]
        else:
            raise Malformed(f"LZW code {code} beyond the table")
        if self.previous is not None and len(self.table) < 1 << MAX_WIDTH:
            self.table.append(self.previous + text[:1])
        self.previous = text
        # The encoder is one entry ahead: it has already added the text that the next code will complete here.
        if len(self.table) + 1 > 1 << self.width and self.width < MAX_WIDTH:
            self.width += 1
        return text


def decompress(data: bytes, limit: int) -> bytes:
    """The whole text; Malformed if it isn't LZW or longer than `limit`."""
    out = bytearray()
    for text in _texts(data):
        out += text
        if len(out) > limit:
            raise Malformed(f"decompresses to more than {limit} bytes")
    return bytes(out)


def _texts(data: bytes) -> Iterator[bytes]:
    decoder = _Decoder()
    bits = held = 0
    for byte in data:
        bits |= byte << held
        held += 8
        if held < decoder.width:
            continue
        code = bits & ((1 << decoder.width) - 1)
        bits >>= decoder.width
        held -= decoder.width
        if code == END:
            return
        if code == CLEAR:
            decoder.clear()
        else:
            yield decoder.text(code)
