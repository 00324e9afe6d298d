"""Every codec both ways, cut off anywhere, and fed with anything: packing, LZW, key ring, messages, frames."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gossip import frames, messages
from agent.gossip.keyring import KeyProblem, Keyring
from agent.gossip.lzw import decompress
from agent.gossip.messages import State, Type, decode, encode
from agent.gossip.packing import Malformed, Truncated, pack, unpack
from tests.unit.agent.gossip.compressing import compressed_stream, lzw

KEY = b"k" * 16
NONCE = b"n" * 12
names = st.text(st.characters(codec="utf-8"), max_size=40)
u32 = st.integers(0, messages.MAX_U32)
ports = st.integers(0, 0xFFFF)
addrs = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16), st.just(b""))
metas = st.binary(max_size=512)
vsns = st.one_of(st.just(b""), st.binary(min_size=6, max_size=6))
nodes = st.builds(messages.NodeState, names, addrs, ports, metas, u32, st.integers(0, 3), vsns)
any_message = st.one_of(
    st.builds(messages.Ping, u32, names, addrs, ports, names),
    st.builds(messages.IndirectPing, u32, addrs, ports, names, st.booleans(), addrs, ports, names),
    st.builds(messages.Ack, u32, st.binary(max_size=50)),
    st.builds(messages.Nack, u32),
    st.builds(messages.Suspect, u32, names, names),
    st.builds(messages.Dead, u32, names, names),
    st.builds(messages.Alive, u32, names, addrs, ports, metas, vsns),
    st.builds(messages.ErrorReply, names),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text("abcXYZ", max_size=40), inner, max_size=20)
    ),
    max_leaves=20,
)
wholes = st.one_of(
    st.builds(
        frames.PushPull, st.booleans(), st.lists(nodes, max_size=5).map(tuple), st.binary(max_size=200)
    ),
    st.builds(frames.UserStream, st.binary(max_size=200)),
    st.builds(messages.Ping, u32, names),
    st.builds(messages.Ack, u32),
    st.builds(messages.ErrorReply, names),
)


@given(values)
def test_packed_values_come_back_and_are_truncated_anywhere_before_the_end(value: object) -> None:
    packed = pack(value)  # type: ignore[arg-type]
    assert unpack(packed) == (value, len(packed))
    for cut in range(min(len(packed), 60)):
        with pytest.raises(Truncated):
            unpack(packed[:cut])


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        ("a" * 31, b"\xbf" + b"a" * 31),
        (b"a" * 32, b"\xda\x00\x20" + b"a" * 32),  # old specification: never 0xd9 or 0xc4
        ({"SeqNo": 300}, b"\x81\xa5SeqNo\xcd\x01\x2c"),
        ([True, None, -1, -200], b"\x94\xc3\xc0\xff\xd1\xff\x38"),
        (1.5, b"\xcb\x3f\xf8" + bytes(6)),
    ],
)
def test_the_bytes_of_the_old_specification(value: object, packed: bytes) -> None:
    assert pack(value) == packed  # type: ignore[arg-type]


def test_newer_forms_are_understood_and_excesses_are_refused() -> None:
    assert unpack(b"\xd9\x01a")[0] == b"a"
    assert unpack(b"\xc4\x01a")[0] == b"a"
    for bad in (
        b"\x91" * 20 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc1",
        b"\x81\x01\x01",
    ):
        with pytest.raises(Malformed):
            unpack(bad)
    with pytest.raises(OverflowError):
        pack(1 << 64)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        unpack(data)


@given(any_message)
def test_messages_come_back(message: messages.Message) -> None:
    data = encode(message)
    assert decode(data) == message
    for cut in range(1, min(len(data), 40)):
        with pytest.raises(Malformed):
            decode(data[:cut])


@pytest.mark.parametrize(
    "fields",
    [
        {"SeqNo": -1, "Node": "a"},
        {"SeqNo": 1 << 32, "Node": "a"},
        {"SeqNo": 1, "Node": 5},
        {"SeqNo": 1, "Node": b"\xff"},
        {"SeqNo": 1, "Node": "a" * 300},
        {"SeqNo": 1, "SourceAddr": b"123"},
        {"SeqNo": 1, "SourcePort": 70000},
    ],
)
def test_fields_of_the_wrong_kind_are_malformed(fields: dict[str, str | int | bytes]) -> None:
    with pytest.raises(Malformed):
        decode(bytes([Type.PING]) + pack(fields))


def test_missing_and_unknown_fields_and_nil_are_no_problem() -> None:
    assert decode(bytes([Type.PING]) + pack({"SeqNo": 7, "Later": 1})) == messages.Ping(7, "")
    alive = {"Node": "a", "Meta": None, "Addr": None, "Vsn": [1, 5, 2, 0, 0, 0]}
    assert decode(bytes([Type.ALIVE]) + pack(alive)) == messages.Alive(
        0, "a", b"", 0, b"", b"\x01\x05\x02\0\0\0"
    )


@given(st.binary(max_size=3000))
def test_lzw_comes_back(data: bytes) -> None:
    assert decompress(lzw(data), 1 << 16) == data


def test_lzw_through_full_tables_runs_and_limits() -> None:
    rng = random.Random(1)
    noise = rng.randbytes(30_000)
    text = b"".join(rng.choice((b"swarm ", b"node ", b"gossip ")) for _ in range(20_000))
    for data in (noise, text, b"a" * 50_000):
        assert decompress(lzw(data), 1 << 20) == data
    with pytest.raises(Malformed):
        decompress(lzw(b"a" * 50_000), 49_999)


@given(st.binary(max_size=300))
def test_any_bytes_are_lzw_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        decompress(data, 1 << 16)


def test_the_key_ring_rotates() -> None:
    old, new = Keyring([KEY]), Keyring([b"n" * 32, KEY])
    sealed = old.seal(b"data", NONCE, b"head")
    assert new.open(sealed, b"head") == b"data"
    for wrong in (sealed[:-1], sealed[:20], b"\x07" + sealed[1:], b""):
        with pytest.raises(Malformed):
            new.open(wrong, b"head")
    with pytest.raises(Malformed):
        new.open(sealed, b"other")
    with pytest.raises(Malformed):
        old.open(new.seal(b"data", NONCE))
    old.add(b"n" * 32)
    old.use(b"n" * 32)
    assert old.keys == new.keys
    with pytest.raises(KeyProblem, match="in use"):
        old.remove(b"n" * 32)
    old.remove(KEY)
    old.remove(KEY)
    assert old.keys == (b"n" * 32,)
    old.add(b"1" * 16)
    old.add(b"2" * 24)
    for bad, why in ((b"3" * 16, "3 keys"), (b"short", "5 bytes")):
        with pytest.raises(KeyProblem, match=why):
            old.add(bad)
    with pytest.raises(KeyProblem):
        old.use(b"9" * 16)
    with pytest.raises(KeyProblem):
        Keyring([])


def test_a_padded_seal_of_version_0_is_read() -> None:
    ring = Keyring([KEY])
    padded = ring.seal(b"data" + b"\x0c" * 12, NONCE)
    assert ring.open(b"\x00" + padded[1:]) == b"data"
    with pytest.raises(Malformed):
        ring.open(b"\x00" + ring.seal(b"data\x63", NONCE)[1:])


@given(st.lists(any_message, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_packets_come_back(parts: list[messages.Message], sealed: bool, crc: bool) -> None:
    ring = Keyring([KEY]) if sealed else None
    encoded = [encode(part) for part in parts]
    data = frames.packet(encoded, ring, NONCE, crc)
    assert frames.messages_of(data, ring) == encoded
    most = len(b"".join(encoded)) + frames.COMPOUND_EACH * len(encoded) + frames.overhead(ring, crc)
    assert len(data) <= most


def test_a_wrong_crc_a_bomb_and_a_label_are_malformed() -> None:
    ping = encode(messages.Ping(1, "a"))
    data = frames.packet([ping], None, b"", True)
    nested = ping
    for _ in range(5):
        nested = frames.packet([nested, nested], None, b"", False)
    bomb = bytes([Type.COMPRESS]) + pack({"Algo": 0, "Buf": lzw(b"a" * 100_000)})
    other = bytes([Type.COMPRESS]) + pack({"Algo": 1, "Buf": lzw(ping)})
    for bad in (data[:-1], data[:3], nested, bomb, other, b"", b"\xf4\x01a" + ping, b"\x07", b"\x07\x05\x00"):
        with pytest.raises(Malformed):
            [decode(message) for message in frames.messages_of(bad, None)]
    assert frames.messages_of(bytes([Type.COMPRESS]) + pack({"Algo": 0, "Buf": lzw(ping)}), None) == [ping]
    cut = frames.packet([ping, ping], None, b"", False)[:-2]
    assert frames.messages_of(cut, None) == [ping]


@given(wholes, st.sampled_from(["plain", "sealed", "compressed"]), st.integers(1, 50))
def test_streams_come_back_in_any_pieces(whole: frames.Whole, how: str, size: int) -> None:
    ring = Keyring([KEY]) if how == "sealed" else None
    data = frames.stream(whole, ring, NONCE)
    if how == "compressed":
        data = compressed_stream(data)
    assembler = frames.Assembler(ring)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    results = [assembler.feed(piece) for piece in pieces]
    assert results[-1] == whole
    assert not any(results[:-1]) or size == 1 or results.index(whole) == len(results) - 1


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([bytes([kind]) for kind in Type]))
def test_any_bytes_in_a_stream_or_packet_are_malformed_at_worst(
    data: bytes, sealed: bool, first: bytes
) -> None:
    ring = Keyring([KEY]) if sealed else None
    for read in (
        frames.Assembler(ring).feed,
        lambda data: [decode(m) for m in frames.messages_of(data, ring)],
    ):
        with suppress(Malformed):
            read(first + data)


def test_streams_that_announce_too_much_are_refused_at_once() -> None:
    ring = Keyring([KEY])
    for data, keys in (
        (b"\x0a" + struct.pack(">I", 1 << 30), ring),
        (encode(messages.PushPullHead(1 << 30)), None),
        (encode(messages.UserHead(1 << 30)), None),
        (encode(messages.Ping(1, "a")), ring),
        (frames.stream(messages.Ping(1, "a"), ring, NONCE), None),
        (encode(messages.Alive(1, "a", b"1234", 1)), None),
    ):
        with pytest.raises(Malformed):
            frames.Assembler(keys).feed(data)
    assert State.LEFT == 3
