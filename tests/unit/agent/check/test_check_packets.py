"""Probes as bytes and back; what isn't one, or is another check's, is nothing."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.check import packets
from agent.check.packets import Heard, Kind, Probe, Tally

NONCE = b"a check's own"


def ip(data: bytes, port: int, options: int = 0) -> bytes:
    """An IPv4 packet around it, as a raw socket gives it."""
    total = 20 + options + 8 + len(data)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45 + options // 4, 0, total, 0, 0x4000, 64, 17, 0, b"\1" * 4, b"\2" * 4
    )
    return head + bytes(options) + struct.pack("!HHHH", 40000, port, 8 + len(data), 0) + data


probes = st.builds(
    Probe,
    st.sampled_from([Kind.VXLAN, Kind.GOSSIP]),
    st.integers(0, 500),
    st.integers(0, 500),
    st.integers(packets.SMALL, 9000),
)


@given(probes, st.sampled_from([0, 4, 40]))
def test_datagrams_come_back(probe: Probe, options: int) -> None:
    data = packets.datagram(probe, NONCE)
    port = packets.VXLAN_PORT if probe.kind is Kind.VXLAN else packets.GOSSIP_PORT
    assert 28 + len(data) == probe.size
    if not options:
        assert packets.read_ip(ip(data, port), NONCE) == probe
    assert packets.read_ip(ip(data, port, options), b"another's") is None
    assert packets.read_ip(ip(data, 9999), NONCE) is None
    wrong = packets.GOSSIP_PORT if probe.kind is Kind.VXLAN else packets.VXLAN_PORT
    assert packets.read_ip(ip(data, wrong), NONCE) is None


@given(st.integers(packets.SMALL_FRAME, 9000))
def test_frames_come_back(size: int) -> None:
    probe = Probe(Kind.TUNNEL, 1, 2, size)
    frame = packets.frame(probe, NONCE, "02:42:0a:00:01:03", "02:42:0a:00:01:02")
    assert frame[:14] == bytes.fromhex("02420a00010302420a00010288b5")
    assert len(frame) == 14 + size
    assert packets.read_frame(frame, NONCE) == probe
    assert packets.read_frame(frame, b"another's") is None
    assert size == packets.SMALL_FRAME or packets.read_frame(frame[:-1], NONCE) is None


@given(st.binary(max_size=200))
def test_anything_else_is_nothing(data: bytes) -> None:
    assert packets.read_ip(data, NONCE) is None
    assert packets.read_frame(data, NONCE) is None


def test_sizes_begin_with_what_is_needed() -> None:
    assert packets.sizes(1500)[:3] == (1500, 1492, 1480)
    assert packets.sizes(1500, few=True) == (1500, 1450, 1400, 1350, 1280, 576)
    assert packets.sizes(1) == (packets.SMALL,)
    for need in (600, 1280, 1500, 9000):
        found = packets.sizes(need)
        assert list(found) == sorted(set(found), reverse=True) and found[0] == need


def test_a_tally_counts_what_came_to_this_node_from_others() -> None:
    tally = Tally(2)
    tally.add([
        None,
        Probe(Kind.VXLAN, 0, 2, 576), Probe(Kind.VXLAN, 0, 2, 1400), Probe(Kind.VXLAN, 0, 2, 1280),
        Probe(Kind.VXLAN, 0, 1, 1500),  # to another one
        Probe(Kind.GOSSIP, 2, 2, 59),  # its own
        Probe(Kind.GOSSIP, 1, 2, 59), Probe(Kind.TUNNEL, 1, 2, packets.SMALL_FRAME),
    ])  # fmt: skip
    assert tally.heard == {0: Heard(vxlan=True, largest=1400), 1: Heard(gossip=True, tunnel=True)}
    tally.add([Probe(Kind.TUNNEL, 1, 2, 1450)])
    assert tally.heard[1].whole


def run(program: packets.Program, data: bytes) -> bool:
    """What the kernel's filter would say."""
    accumulator = index = at = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x06:
            return bool(k)
        if code == 0x15:
            at += yes if accumulator == k else no
            continue
        if code == 0xB1:
            index = 4 * (data[k] & 0xF)
            continue
        offset, size = {0x28: (k, 2), 0x48: (index + k, 2), 0x40: (index + k, 4)}[code]
        if offset + size > len(data):
            return False
        accumulator = int.from_bytes(data[offset : offset + size], "big")


@given(probes, st.sampled_from([0, 4, 40]))
def test_filters_let_probes_through(probe: Probe, options: int) -> None:
    data = packets.datagram(probe, NONCE)
    port = packets.VXLAN_PORT if probe.kind is Kind.VXLAN else packets.GOSSIP_PORT
    assert run(packets.IP_FILTER, ip(data, port, options))
    assert not run(packets.IP_FILTER, ip(data, 53, options))
    assert not run(packets.IP_FILTER, ip(bytes(100), port, options))


def test_the_frame_filter() -> None:
    frame = packets.frame(Probe(Kind.TUNNEL, 0, 1, 46), NONCE, "02:42:0a:00:01:03", "02:42:0a:00:01:02")
    assert run(packets.FRAME_FILTER, frame)
    assert not run(packets.FRAME_FILTER, frame[:12] + b"\x08\x00" + frame[14:])
    assert not run(packets.FRAME_FILTER, b"")
