"""Twenty thousand bad packets and streams at a member: no crash, nothing grows without bound, and it still works."""

from __future__ import annotations

import random
from contextlib import suppress

from agent.gossip import frames, messages
from agent.gossip.keyring import Keyring
from agent.gossip.messages import State, Type, encode
from agent.gossip.packing import Malformed
from agent.gossip.swim import MAX_REASONS
from tests.unit.agent.gossip.cluster import Cluster, agreed
from tests.unit.agent.gossip.compressing import compressed_stream

KEY = b"k" * 16


def bad_packet(rng: random.Random) -> bytes:
    """Noise, noise behind a type, a good packet with bytes changed, or well formed lies."""
    good = (
        encode(messages.Ping(rng.randrange(9), "n0", b"\x0a\0\0\x02", 7946, "n1")),
        encode(messages.Ack(rng.randrange(1 << 32))),
        encode(messages.Nack(rng.randrange(1 << 32))),
        encode(messages.IndirectPing(1, rng.randbytes(4), rng.randrange(65536), "x", True)),
        encode(
            messages.Alive(rng.choice((0, 5, messages.MAX_U32)), f"x{rng.randrange(50)}", rng.randbytes(4), 1)
        ),
        encode(messages.Suspect(rng.randrange(9), f"x{rng.randrange(50)}", "liar")),
        encode(messages.Dead(rng.choice((1, messages.MAX_U32)), rng.choice(("n0", "x7")), "liar")),
        compressed_stream(encode(messages.Ack(1))),
    )
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(60))
    if kind == 1:
        return bytes([rng.choice(list(Type))]) + rng.randbytes(rng.randrange(60))
    data = frames.packet(rng.sample(good, rng.randrange(1, 4)), None, b"", rng.random() < 0.3)
    if kind == 2:
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        data = bytes(changed[: rng.randrange(1, len(changed) + 1)])
    return data


def test_bad_packets_neither_crash_nor_swell_a_member() -> None:
    rng = random.Random(7)
    cluster = Cluster(7)
    one, other = cluster.grow(2)
    for number in range(20_000):
        one.core.packet(cluster.now, bad_packet(rng), ("10.0.0.66", number % 65536))
        if number % 50 == 0:
            cluster.now += 0.05
            one.core.tick(cluster.now)
        effects = one.core.outgoing()
        assert len(effects) < 1000
    assert one.core.malformed.total() > 5000
    assert len(one.core.malformed) <= MAX_REASONS + 1
    assert len(one.core.members()) < 10_001
    assert {m.name: m.state for m in one.core.members()}["n0"] is State.ALIVE
    cluster.do(one, lambda core: core.join(cluster.now, [other.address]))
    assert cluster.until(lambda: one.states().get("n1") is State.ALIVE, 30)


def test_bad_streams_neither_crash_nor_stay() -> None:
    rng = random.Random(8)
    good = frames.stream(frames.PushPull(True, (messages.NodeState("a", b"1234", 1, b"", 1, 0),)), None, b"")
    for _ in range(3000):
        changed = bytearray(rng.choice((good, compressed_stream(good), rng.randbytes(50))))
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        with suppress(Malformed):
            frames.Assembler(None).feed(bytes(changed))


def test_sealed_gossip_shrugs_at_what_has_no_key() -> None:
    rng = random.Random(9)
    cluster = Cluster(9)
    peers = cluster.grow(3, keys=(KEY,))
    stranger = Keyring([b"x" * 16])
    for _ in range(3000):
        data = bad_packet(rng)
        peers[0].core.packet(
            cluster.now, rng.choice((data, stranger.seal(data, rng.randbytes(12)))), ("10.0.0.9", 1)
        )
    assert peers[0].core.outgoing() == []
    assert peers[0].core.malformed.total() == 3000
    cluster.run(10)
    assert agreed(peers, 3) and len(peers[0].core.members()) == 3
