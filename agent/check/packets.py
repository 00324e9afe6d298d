"""The probes of a `network check` as bytes, and what arrived of them. Pure; used by probing.py, and by gossip, which passes them over.

A probe on UDP 4789 is VXLAN of a network that nobody has: every kernel drops it after its packet filter has let it in, where a raw
socket sees it. One on UDP 7946 begins with what no gossip begins with. One through a network's own tunnel is a frame of the type
that is free for experiments, from an address of the network to another one: no container takes it in.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

MAGIC: Final = b"SHOALCHK"
ETHERTYPE: Final = 0x88B5
VXLAN_PORT: Final = 4789
GOSSIP_PORT: Final = 7946
ETHERNET: Final = 14
_IP_UDP: Final = 28  # bytes of IPv4's and UDP's headers
_UDP: Final = 8
_VXLAN: Final = struct.Struct("!II")
_VXLAN_FLAGS: Final = 0x0800_0000
_NOBODYS: Final = 0xFF_FFFF  # the largest VXLAN number; ours end far below
_BODY: Final = struct.Struct("!8s8sBHHH")  # magic, nonce, kind, sender, receiver, size
SMALL_FRAME: Final = 46
"""What a small frame carries; one that carries more is one of the network's largest."""
SMALL: Final = _IP_UDP + _VXLAN.size + _BODY.size
_SIZES: Final = (
    9000, 8950, 8900, 4000, 2000, 1500, 1492, 1480, 1476, 1472, 1462, 1460, 1454, 1450, 1440, 1430, 1420, 1410, 1400, 1390, 1380,
    1370, 1360, 1350, 1340, 1320, 1300, 1280, 1200, 1000, 800, 576,
)  # fmt: skip
_FEW_SIZES: Final = (9000, 1500, 1450, 1400, 1350, 1280, 576)


class Kind(IntEnum):
    VXLAN = 1
    GOSSIP = 2
    TUNNEL = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe: from and to are places in the check's plan, size is the whole packet's (a tunnel's: without its frame's head)."""

    kind: Kind
    sender: int
    receiver: int
    size: int


def digest(nonce: bytes) -> bytes:
    """What of the check's nonce is in each probe."""
    return hashlib.sha256(nonce).digest()[:8]


def sizes(need: int, few: bool = False) -> tuple[int, ...]:
    """Packets to send to learn what the way takes, the largest first; none is larger than `need`."""
    smaller = (size for size in (_FEW_SIZES if few else _SIZES) if size < need)
    return (max(need, SMALL), *smaller)


def _body(probe: Probe, nonce: bytes, length: int) -> bytes:
    body = _BODY.pack(MAGIC, digest(nonce), probe.kind, probe.sender, probe.receiver, probe.size)
    return body.ljust(length, b"\0")


def datagram(probe: Probe, nonce: bytes) -> bytes:
    """What a UDP packet of this size holds."""
    length = probe.size - _IP_UDP
    if probe.kind is Kind.GOSSIP:
        return _body(probe, nonce, length)
    return _VXLAN.pack(_VXLAN_FLAGS, _NOBODYS << 8) + _body(probe, nonce, length - _VXLAN.size)


def frame(probe: Probe, nonce: bytes, target: str, source: str) -> bytes:
    """A whole Ethernet frame between two MAC addresses."""
    head = _mac(target) + _mac(source) + struct.pack("!H", ETHERTYPE)
    return head + _body(probe, nonce, max(SMALL_FRAME, probe.size))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def read_ip(packet: bytes, nonce: bytes) -> Probe | None:
    """The probe in an IPv4 packet as a raw socket gives it; None for anything else."""
    if len(packet) < 20:
        return None
    at = 4 * (packet[0] & 0xF)
    if len(packet) < at + _UDP:
        return None
    port = int.from_bytes(packet[at + 2 : at + 4], "big")
    data = packet[at + _UDP :]
    if port == VXLAN_PORT:
        found = _read(data[_VXLAN.size :], nonce)
        return found if found and found.kind is Kind.VXLAN and found.size == len(packet) else None
    found = _read(data, nonce)
    return found if found and found.kind is Kind.GOSSIP and port == GOSSIP_PORT else None


def read_frame(data: bytes, nonce: bytes) -> Probe | None:
    """The probe in an Ethernet frame; None for anything else."""
    if data[12:ETHERNET] != ETHERTYPE.to_bytes(2, "big"):
        return None
    found = _read(data[ETHERNET:], nonce)
    return found if found and found.kind is Kind.TUNNEL and found.size <= len(data) - ETHERNET else None


def _read(body: bytes, nonce: bytes) -> Probe | None:
    if len(body) < _BODY.size:
        return None
    magic, mine, kind, sender, receiver, size = _BODY.unpack_from(body)
    if magic != MAGIC or mine != digest(nonce) or kind not in tuple(Kind):
        return None
    return Probe(Kind(kind), sender, receiver, size)


# ---- filters, so that a busy machine's traffic does not go through us: classic BPF, as (code, jt, jf, k)

Program = Sequence[tuple[int, int, int, int]]
_LOAD_HALF, _LOAD_HALF_AT_X, _LOAD_WORD_AT_X, _X_IS_IP_HEADER = 0x28, 0x48, 0x40, 0xB1
_EQUAL, _RETURN = 0x15, 0x06
_WORD: Final = int.from_bytes(MAGIC[:4], "big")

IP_FILTER: Final[Program] = (
    (_X_IS_IP_HEADER, 0, 0, 0),
    (_LOAD_HALF_AT_X, 0, 0, 2),
    (_EQUAL, 0, 2, VXLAN_PORT),
    (_LOAD_WORD_AT_X, 0, 0, _UDP + _VXLAN.size),
    (_EQUAL, 3, 4, _WORD),
    (_EQUAL, 0, 3, GOSSIP_PORT),
    (_LOAD_WORD_AT_X, 0, 0, _UDP),
    (_EQUAL, 0, 1, _WORD),
    (_RETURN, 0, 0, 0xFFFF),
    (_RETURN, 0, 0, 0),
)
FRAME_FILTER: Final[Program] = (
    (_LOAD_HALF, 0, 0, 12),
    (_EQUAL, 0, 1, ETHERTYPE),
    (_RETURN, 0, 0, 0xFFFF),
    (_RETURN, 0, 0, 0),
)


# ---- what has arrived


@dataclass(slots=True)
class Heard:
    """From one sender."""

    vxlan: bool = False
    largest: int = 0
    gossip: bool = False
    tunnel: bool = False
    whole: bool = False


@dataclass(slots=True)
class Tally:
    """What has come to `receiver` so far, by sender."""

    receiver: int
    heard: dict[int, Heard] = field(default_factory=dict)

    def add(self, probes: Iterable[Probe | None]) -> None:
        """What isn't a probe, or is another's, does not count."""
        for probe in probes:
            if probe is None or probe.receiver != self.receiver or probe.sender == self.receiver:
                continue
            heard = self.heard.setdefault(probe.sender, Heard())
            if probe.kind is Kind.VXLAN:
                heard.vxlan = True
                heard.largest = max(heard.largest, probe.size)
            elif probe.kind is Kind.GOSSIP:
                heard.gossip = True
            else:
                heard.tunnel = True
                heard.whole |= probe.size > SMALL_FRAME
