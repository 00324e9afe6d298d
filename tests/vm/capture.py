"""What a capture of the wire between the machines shows, frame by frame. Pure; wire.py feeds it."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.vm.guest import MARKER

_IPV4: Final = 0x0800
_ESP: Final = 50
_UDP: Final = 17
PLAIN_PORT: Final = 4789
SEALED_PORT: Final = 4790


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame, as far as it matters: `kind` is esp, vxlan (then with its number) or other."""

    kind: str
    number: int = 0  # ESP's index, VXLAN's network
    port: int = 0
    marked: bool = False  # it carries what was sent, in plain text


def classify(frame: bytes) -> Seen:
    """An Ethernet frame with IPv4; everything else is other."""
    marked = MARKER in frame
    if len(frame) < 34 or struct.unpack_from("!H", frame, 12)[0] != _IPV4:
        return Seen("other", marked=marked)
    start = 14 + (frame[14] & 15) * 4
    if struct.unpack_from("!H", frame, 20)[0] & 0x1FFF:  # a later fragment: no ports to look at
        return Seen("fragment", marked=marked)
    protocol, body = frame[23], frame[start:]
    if protocol == _ESP and len(body) >= 8:
        return Seen("esp", struct.unpack_from("!I", body)[0], marked=marked)
    if protocol == _UDP and len(body) >= 16:
        port = struct.unpack_from("!H", body, 2)[0]
        if port in (PLAIN_PORT, SEALED_PORT):
            return Seen("vxlan", int.from_bytes(body[12:15], "big"), port, marked)
    return Seen("other", marked=marked)


@dataclass(slots=True)
class Tally:
    """Frames since the last look."""

    esp: Counter[int] = field(default_factory=Counter)  # by index
    vxlan: Counter[tuple[int, int]] = field(default_factory=Counter)  # by port and network
    fragments: int = 0
    marked: int = 0
    frames: int = 0
    longest: int = 0

    def add(self, frame: bytes) -> None:
        seen = classify(frame)
        self.frames += 1
        self.longest = max(self.longest, len(frame) - 14)
        self.marked += seen.marked
        match seen.kind:
            case "esp":
                self.esp[seen.number] += 1
            case "vxlan":
                self.vxlan[seen.port, seen.number] += 1
            case "fragment":
                self.fragments += 1
