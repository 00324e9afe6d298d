"""What frames on the wire are taken for."""

from __future__ import annotations

import struct

import pytest

from tests.vm.capture import PLAIN_PORT, SEALED_PORT, Seen, Tally, classify
from tests.vm.guest import MARKER


def ipv4(protocol: int, body: bytes, options: bytes = b"", fragment: int = 0) -> bytes:
    first = 0x40 | 5 + len(options) // 4
    header = struct.pack(
        "!BBHHHBBH4s4s", first, 0, 20 + len(body), 0, fragment, 64, protocol, 0, b"\n\0\0\1", b"\n\0\0\2"
    )
    return bytes(12) + b"\x08\0" + header + options + body


def udp(port: int, body: bytes) -> bytes:
    return struct.pack("!HHHH", 40000, port, 8 + len(body), 0) + body


def vxlan(number: int, inner: bytes = b"") -> bytes:
    return b"\x08\0\0\0" + number.to_bytes(3, "big") + b"\0" + inner


def test_esp() -> None:
    assert classify(ipv4(50, struct.pack("!II", 0x102, 7) + bytes(40))) == Seen("esp", 0x102)


@pytest.mark.parametrize("port", [PLAIN_PORT, SEALED_PORT])
@pytest.mark.parametrize("options", [b"", bytes(8)])
def test_vxlan(port: int, options: bytes) -> None:
    frame = ipv4(17, udp(port, vxlan(4099, b"x" + MARKER)), options)
    assert classify(frame) == Seen("vxlan", 4099, port, marked=True)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(60),
        ipv4(17, udp(53, bytes(40))),
        ipv4(6, bytes(40)),
        bytes(12) + b"\x08\x06" + bytes(46),
        ipv4(50, b""),
    ],
)
def test_other(frame: bytes) -> None:
    assert classify(frame) == Seen("other")


def test_a_later_fragment_has_no_ports() -> None:
    assert classify(ipv4(17, udp(PLAIN_PORT, vxlan(1)), fragment=185)) == Seen("fragment")


def test_a_tally() -> None:
    tally = Tally()
    for frame in (
        ipv4(50, struct.pack("!II", 0x102, 7)), ipv4(50, struct.pack("!II", 0x102, 8)), ipv4(17, udp(PLAIN_PORT, vxlan(9))),
        ipv4(6, MARKER + bytes(1441)), ipv4(17, bytes(8), fragment=1),
    ):  # fmt: skip
        tally.add(frame)
    assert (dict(tally.esp), dict(tally.vxlan)) == ({0x102: 2}, {(PLAIN_PORT, 9): 1})
    assert (tally.frames, tally.marked, tally.fragments, tally.longest) == (5, 1, 1, 20 + len(MARKER) + 1441)
