"""Netlink's messages as a kernel sent them, and what is made of them (agent/network/events.py)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import names, xfrm
from agent.network.events import (
    AddressLost,
    Event,
    ForwardLost,
    LinkLost,
    NeighbourLost,
    PolicyLost,
    RouteLost,
    RuleLost,
    StateLost,
    TablesChanged,
    contradicts,
    parse,
    told,
)
from agent.network.facts import (
    Address,
    AnswerRule,
    Bridge,
    DefaultRoute,
    Fact,
    Forward,
    LinkRoute,
    LoopbackRoute,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    SealPolicy,
    SealState,
    Table,
    Veth,
    Vxlan,
)

FORWARD = (
    "0700000003000000c00002010a00020002420a000001000008000100010203041400030000000000020000000200000000000000"
)
NEIGHBOUR = (
    "020000000300000020000003080001000a000001080004000000000014000300020000000200000002000000" + "00000000"
)
LINK = "000001000300000002100000ffffffff070003007630000008000d00e8030000"
GENERATION = "0000000208000100000000020800020000005da5080003006e667400"


def message(kind: int, body: bytes | str) -> bytes:
    body = bytes.fromhex(body) if isinstance(body, str) else body
    padded = body + bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + padded


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def routed(table: int, destination: bytes = b"", prefix: int = 0) -> bytes:
    head = struct.pack("=8BI", 2, prefix, 0, 0, min(table, 252), 3, 0, 1, 0)
    return (
        head + (attribute(1, destination) if destination else b"") + attribute(15, struct.pack("=I", table))
    )


SIX = bytes.fromhex("fd000001" + "00" * 11 + "05")
MESSAGES = [
    (21, bytes([10, 64, 0, 0]) + bytes(4) + attribute(1, SIX), AddressLost("fd00:1::5/64")),
    (29, bytes([10]) + bytes(11) + attribute(1, SIX), NeighbourLost("fd00:1::5")),
    (25, bytes([10, 128, *bytes(10)]) + attribute(1, SIX) + attribute(15, struct.pack("=I", 254)),
     RouteLost(254, "fd00:1::5/128", 6)),
    (33, bytes([10, *bytes(11)]) + attribute(10, struct.pack("=I", 3)) + attribute(15, struct.pack("=I", 1003)),
     RuleLost(3, 1003, 6)),
    (29, FORWARD, ForwardLost("02:42:0a:00:00:01", "1.2.3.4")),
    (29, NEIGHBOUR, NeighbourLost("10.0.0.1")),
    (17, LINK, LinkLost("v0")),
    (16, LINK, LinkLost("v0")),
    (2575, GENERATION, TablesChanged("nft")),
    (21, struct.pack("=4BI", 2, 24, 0, 0, 3) + attribute(1, bytes([10, 0, 0, 9])), AddressLost("10.0.0.9/24")),
    (25, routed(254), RouteLost(254, "")),
    (25, routed(1003), RouteLost(1003, "")),
    (25, routed(254, bytes([10, 1, 0, 0]), 16), RouteLost(254, "10.1.0.0/16")),
    (33, routed(1003) + attribute(10, struct.pack("=I", 3)), RuleLost(3, 1003)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "expected"), MESSAGES)
def test_messages(kind: int, body: bytes | str, expected: Event) -> None:
    one = message(kind, body)
    assert list(parse(one)) == [expected]
    assert list(parse(message(20, bytes(8)) + one + one)) == [expected, expected]


@pytest.mark.parametrize(
    ("kind", "family"), [(21, 0), (25, 128), (29, 1), (33, 7), (29, 0), (99, 2)], ids=str
)
def test_of_other_families_and_kinds_nothing_is_told(kind: int, family: int) -> None:
    assert list(parse(message(kind, bytes([family, *range(1, 24)])))) == []


@given(st.binary(max_size=200), st.sampled_from((16, 17, 21, 25, 29, 33, 2575)))
def test_cut_off_and_broken_messages(body: bytes, kind: int) -> None:
    list(parse(message(kind, body)))
    list(parse(body))
    whole = message(kind, FORWARD)
    assert list(parse(whole[: len(whole) - 1])) == []


PAIRS: list[tuple[Fact, Event]] = [
    (Vxlan("vxlan0", 1, "10.0.0.1", 1450, "br0"), LinkLost("vxlan0")),
    (Bridge("br0", 1450), LinkLost("br0")),
    (Bridge("docker_gwbridge", 1500, "172.18.0.1/16"), AddressLost("172.18.0.1/16")),
    (Veth("eth0", "02:42:0a:00:00:01", 1450, "v1", "n-1", "br0"), LinkLost("eth0")),
    (Port("v1", "br0"), LinkLost("v1")),
    (Address("eth0", "10.0.0.1/24"), AddressLost("10.0.0.1/24")),
    (Neighbour("10.0.0.1", "02:42:0a:00:00:01"), NeighbourLost("10.0.0.1")),
    (Forward("02:42:0a:00:00:01", "1.2.3.4"), ForwardLost("02:42:0a:00:00:01", "1.2.3.4")),
    (DefaultRoute("172.18.0.1", "eth1"), RouteLost(254, "")),
    (LinkRoute("10.1.0.0/16", "eth0"), RouteLost(254, "10.1.0.0/16")),
    (ReturnRoute(1003, "10.0.0.3", "eth0"), RouteLost(1003, "")),
    (ReturnRule(3, 1003), RuleLost(3, 1003)),
    (Address("eth0", "fd00:1::5/64"), AddressLost("fd00:1::5/64")),
    (Neighbour("fd00:1::5", "02:42:0a:00:00:01"), NeighbourLost("fd00:1::5")),
    (LinkRoute("fd00:2::/64", "eth0"), RouteLost(254, "fd00:2::/64", 6)),
    (ReturnRoute(1003, "fd00::3", "eth0"), RouteLost(1003, "", 6)),
    (ReturnRule(3, 1003, 6), RuleLost(3, 1003, 6)),
    (AnswerRule(53, 1001), RuleLost(0, 1001, 6)),
    (LoopbackRoute("shoal_ing"), RouteLost(255, "::1/128", 6, 4096)),
    (LoopbackRoute("br-a"), RouteLost(255, "::1/128", 6, names.loopback_metric("br-a"))),
    (Bridge("br-a", 1500, "172.28.0.1/16", "fd00:1::1/64"), AddressLost("fd00:1::1/64")),
    (DefaultRoute("fd00:1::1", "eth0", 6), RouteLost(254, "", 6)),
    (Table("0123", "text"), TablesChanged("nft")),
    (SealState("10.0.0.1", "10.0.0.2", 0x102, b""), StateLost("10.0.0.2", 0x102)),
    (SealState("10.0.0.1", "10.0.0.3", 0x102, b""), StateLost("10.0.0.3", 0x102)),
    (SealPolicy("in"), PolicyLost("in")),
    (SealPolicy("out"), PolicyLost("out")),
    (SealPolicy("out", "10.0.0.1", "10.0.0.2", 0x102), PolicyLost("out", "10.0.0.1", "10.0.0.2")),
]


@pytest.mark.parametrize(("fact", "event"), PAIRS)
def test_only_what_the_picture_has_is_missed(fact: Fact, event: Event) -> None:
    assert contradicts(frozenset({fact}), [event], "us")
    assert contradicts(frozenset({fact}), [LinkLost("none"), event], "us") == event
    others = frozenset(other for other, _ in PAIRS if other != fact and not _same(other, event))
    assert not contradicts(others, [event], "us")
    assert not contradicts(frozenset(), [event], "us")


def _same(fact: Fact, event: Event) -> bool:
    return any(event == heard for other, heard in PAIRS if other == fact)


def test_what_is_gone_is_told_in_words() -> None:
    said = {told(event) for _, event in PAIRS}
    assert {
        "interface eth0",
        "route to everything in table 1003",
        "rule of mark 0x3 and table 1003",
        "nftables, by nft",
        "IPsec state to 10.0.0.2",
        "IPsec policy in",
        "IPsec policy out 10.0.0.2",
    } <= said
    assert (told(StateLost()), told(PolicyLost())) == ("IPsec's states", "IPsec's policies")


def test_our_own_transactions_are_known() -> None:
    assert not contradicts(frozenset({Table("0123", "text")}), [TablesChanged("us")], "us")


def test_an_entry_that_leads_elsewhere_is_not_ours() -> None:
    picture = frozenset({Forward("02:42:0a:00:00:01", "1.2.3.4")})
    assert not contradicts(picture, [ForwardLost("02:42:0a:00:00:01", "4.3.2.1")], "us")


# ---- IPsec's

STATE = SealState("10.0.0.1", "10.0.0.2", 0x102, bytes(20))
POLICY = SealPolicy("out", "10.0.0.1", "10.0.0.2", 0x102)
STATE_ID = bytes((10, 0, 0, 2)) + bytes(12) + bytes((0, 0, 1, 2)) + struct.pack("=HBx", 2, 50)


def shown(policy: bytes) -> bytes:
    """The head of a policy's deletion may say its number alone; the attribute says all."""
    return bytes(64) + attribute(7, policy[:168])


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (0x11, STATE_ID, StateLost("10.0.0.2", 0x102)),
        (0x18, xfrm.packed_state(STATE), StateLost("10.0.0.2", 0x102)),
        (0x14, shown(xfrm.packed_policy(POLICY)), PolicyLost("out", "10.0.0.1", "10.0.0.2")),
        (0x14, shown(xfrm.packed_policy(SealPolicy("in"))), PolicyLost("in")),
        (0x1B, xfrm.packed_policy(SealPolicy("out")), PolicyLost("out")),
        (0x1C, bytes(1), StateLost()),
        (0x1D, b"", PolicyLost()),
    ],
)
def test_ipsec(kind: int, body: bytes, expected: Event) -> None:
    assert list(parse(message(kind, body), ipsec=True)) == [expected]


def test_policies_of_others() -> None:
    """An IKE daemon's come and go all day."""
    body = bytearray(xfrm.packed_policy(SealPolicy("out", "10.0.0.1", "10.0.0.2", 0x102)))
    body[32:34] = (500).to_bytes(2, "big")
    assert list(parse(message(0x14, shown(bytes(body))), ipsec=True)) == []
    forwarded = bytearray(xfrm.packed_policy(SealPolicy("in")))
    forwarded[160] = 2
    assert list(parse(message(0x14, shown(bytes(forwarded))), ipsec=True)) == []
    assert list(parse(message(0x10, xfrm.packed_state(STATE)), ipsec=True)) == []


@given(st.binary(max_size=300), st.sampled_from((0x11, 0x14, 0x18, 0x1B, 0x1C, 0x1D)))
def test_broken_messages_of_ipsec(body: bytes, kind: int) -> None:
    list(parse(message(kind, body), ipsec=True))


def test_who_flushes_takes_all() -> None:
    assert contradicts(frozenset({STATE}), [StateLost()], "us")
    assert contradicts(frozenset({SealPolicy("in")}), [PolicyLost()], "us")
    assert not contradicts(frozenset({SealPolicy("in")}), [StateLost()], "us")
    assert not contradicts(frozenset({STATE}), [PolicyLost()], "us")
    assert not contradicts(frozenset({Table("0", "")}), [StateLost(), PolicyLost()], "us")
