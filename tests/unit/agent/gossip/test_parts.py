"""The parts by themselves: broadcasts, awareness, suspicion, the rules of membership and of a probe."""

from __future__ import annotations

import random

import pytest

from agent.gossip import frames
from agent.gossip.api import Change, Config, Departed, Identity, MemberEvent, OpenStream, SendPacket
from agent.gossip.awareness import Awareness
from agent.gossip.broadcasts import Broadcasts
from agent.gossip.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    NodeState,
    Ping,
    State,
    Suspect,
    User,
    decode,
    encode,
)
from agent.gossip.suspicion import Suspicion, shortest_suspicion
from agent.gossip.swim import Swim

VSN = bytes((1, 5, 2, 0, 0, 0))
ME = ("10.0.0.1", 7946)


def alive(name: str, incarnation: int = 1, last: int = 2, meta: bytes = b"", vsn: bytes = VSN) -> Alive:
    return Alive(incarnation, name, bytes((10, 0, 0, last)), 7946, meta, vsn)


class Bench:
    """One core, fed by hand."""

    def __init__(self, config: Config | None = None) -> None:
        self.core = Swim(config or Config(), Identity("me", *ME), random.Random(1), 0.0)
        self.now = 0.0
        self.changes: list[tuple[Change, str]] = []
        self.streams: list[OpenStream] = []

    def tell(self, *messages: Message, source: tuple[str, int] = ("10.0.0.2", 7946)) -> list[Message | User]:
        self.core.packet(self.now, frames.packet([encode(m) for m in messages], None, b"", False), source)
        return self.sent()

    def tick_to(self, when: float) -> list[Message | User]:
        said = []
        while (due := self.core.next_deadline()) is not None and due <= when:
            self.now = due
            self.core.tick(due)
            said += self.sent()
        self.now = when
        return said

    def sent(self) -> list[Message | User]:
        said: list[Message | User] = []
        for effect in self.core.outgoing():
            if isinstance(effect, SendPacket):
                said += [decode(part) for part in frames.messages_of(effect.data, None)]
            elif isinstance(effect, MemberEvent):
                self.changes.append((effect.change, effect.member.name))
            elif isinstance(effect, OpenStream):
                self.streams.append(effect)
        return said

    def state(self, name: str) -> State:
        return next(m.state for m in self.core.members() if m.name == name)


def test_broadcasts_are_told_a_limited_number_of_times_least_told_first() -> None:
    queue = Broadcasts(4)
    assert [queue.limit(n) for n in (1, 9, 10, 99, 100)] == [8, 8, 8, 8, 12]
    queue.queue("a", b"old")
    queue.queue("a", b"newer")
    assert queue.take(100, 255, 1) == [b"newer"]
    queue.queue("b", b"b")
    assert queue.take(100, 1, 1) == [b"b"]
    assert queue.take(3, 255, 1) == [b"b"]  # the other doesn't fit
    while queue:
        assert queue.take(100, 255, 1)
    assert queue.take(100, 255, 1) == []


def test_a_full_queue_drops_what_was_told_most() -> None:
    queue = Broadcasts(4, bound=2)
    queue.queue("a", b"a")
    queue.take(100, 255, 1)
    queue.queue("b", b"b")
    queue.queue("c", b"c")
    assert len(queue) == 2 and "a" not in queue


def test_awareness_stays_in_its_bounds_and_stretches_waits() -> None:
    health = Awareness(8)
    health.apply(-5)
    assert health.scale(2.0) == 2.0
    health.apply(100)
    assert health.score == 7 and health.scale(1.0) == 8.0


def test_confirmations_shorten_a_suspicion_and_each_accuser_counts_once() -> None:
    suspicion = Suspicion(100.0, "a", 2, 4.0, 24.0)
    assert suspicion.deadline == 124.0
    assert not suspicion.confirm("a")
    assert suspicion.confirm("b") and not suspicion.confirm("b")
    assert 104.0 < suspicion.deadline < 124.0
    assert suspicion.confirm("c") and suspicion.deadline == pytest.approx(104.0)
    assert not suspicion.confirm("d")
    assert Suspicion(100.0, "a", 0, 4.0, 24.0).deadline == 104.0
    assert [round(shortest_suspicion(4, n, 1.0), 1) for n in (1, 10, 20, 100)] == [4.0, 4.0, 5.2, 8.0]


def test_a_higher_incarnation_is_believed_and_an_equal_one_not() -> None:
    bench = Bench()
    bench.tell(alive("a", 3, meta=b"old"))
    bench.tell(alive("a", 3, meta=b"lie"))
    bench.tell(Suspect(2, "a", "x"), Dead(2, "a", "x"))
    assert bench.state("a") is State.ALIVE
    bench.tell(alive("a", 4, meta=b"new"))
    bench.tell(Suspect(4, "a", "x"))
    bench.tell(alive("a", 4))
    assert bench.state("a") is State.SUSPECT
    bench.tell(alive("a", 5, meta=b"new"))
    bench.tell(Dead(5, "a", "x"))
    bench.tell(alive("a", 6, last=9))
    bench.tell(Dead(6, "a", "a"))
    assert [change for change, _ in bench.changes] == [
        Change.JOINED, Change.UPDATED, Change.SUSPECTED, Change.CLEARED, Change.FAILED, Change.JOINED, Change.LEFT,
    ]  # fmt: skip


def test_another_address_is_a_conflict_while_the_old_one_lives() -> None:
    bench = Bench()
    bench.tell(alive("a"))
    bench.tell(alive("a", 9, last=9))
    assert bench.changes[-1] == (Change.CONFLICT, "a")
    assert ("10.0.0.2", 7946) in [m.address for m in bench.core.members()]


@pytest.mark.parametrize(
    "vsn", [bytes(6), bytes((0, 5, 2, 0, 0, 0)), bytes((5, 1, 2, 0, 0, 0)), bytes((6, 9, 7, 0, 0, 0))]
)
def test_an_alive_of_no_common_protocol_is_dropped(vsn: bytes) -> None:
    bench = Bench()
    bench.tell(alive("a", vsn=vsn))
    assert len(bench.core.members()) == 1


def test_accusations_of_us_are_refuted_with_a_higher_incarnation() -> None:
    bench = Bench()
    bench.tell(alive("a"))
    for accusation in (Suspect(1, "me", "a"), Dead(7, "me", "a"), alive("me", 20, last=1)):
        bench.tell(accusation)
        (me,) = (m for m in bench.core.members() if m.name == "me")
        assert me.state is State.ALIVE and me.incarnation == accusation.incarnation + 1
    assert bench.core.health == 3
    # An old accusation is answered directly.
    assert bench.tell(Dead(3, "me", "a"))[0] == Alive(21, "me", b"\x0a\0\0\x01", 7946, b"", VSN)
    assert any(isinstance(m, Alive) and m.node == "me" for m in bench.tick_to(0.5))


def test_dead_from_a_push_pull_is_a_suspicion_only() -> None:
    bench = Bench()
    bench.tell(alive("a"), alive("b", last=3))
    addr = b"\x0a\0\0"
    nodes = (
        NodeState("a", addr + b"\x02", 7946, b"", 1, State.DEAD, VSN),
        NodeState("b", addr + b"\x03", 7946, b"", 1, State.LEFT, VSN),
        NodeState("c", addr + b"\x04", 7946, b"", 1, State.ALIVE, VSN),
    )
    answer = bench.core.stream(0.0, frames.PushPull(False, nodes))
    told = frames.Assembler(None).feed(answer)
    assert isinstance(told, frames.PushPull) and {n.name for n in told.nodes} == {"me", "a", "b"}
    assert [bench.state(name) for name in "abc"] == [State.SUSPECT, State.LEFT, State.ALIVE]


def test_pings_for_us_are_answered_to_where_they_say() -> None:
    bench = Bench()
    assert bench.tell(Ping(5, "me", b"\x0a\0\0\x09", 99, "x")) == [Ack(5)]
    assert bench.tell(Ping(6, "")) == [Ack(6)]
    assert bench.tell(Ping(7, "another")) == []
    assert bench.core.stream(0.0, Ping(8, "me")) == encode(Ack(8))
    assert bench.core.stream(0.0, Ping(8, "another")) == b""


def test_a_ping_for_another_is_passed_on_and_its_ack_back_or_a_nack_in_time() -> None:
    bench = Bench()
    (ping,) = bench.tell(IndirectPing(5, b"\x0a\0\0\x07", 7946, "t", True, b"\x0a\0\0\x02", 7946, "o"))
    assert isinstance(ping, Ping) and ping.node == "t"
    assert bench.tell(Ack(ping.seq), source=("10.0.0.7", 7946)) == [Ack(5)]
    bench.tell(IndirectPing(6, b"\x0a\0\0\x07", 7946, "t", True))
    bench.tell(IndirectPing(7, b"\x0a\0\0\x07", 7946, "t", False))
    assert bench.tick_to(0.6) == [Nack(6)]


def test_a_probe_asks_others_and_tcp_before_it_suspects_and_a_suspect_hears_of_it() -> None:
    bench = Bench()
    bench.tell(*(alive(name, last=last) for name, last in (("a", 2), ("b", 3), ("c", 4), ("d", 5))))
    said = bench.tick_to(2.4)
    pings = [m for m in said if isinstance(m, Ping)]
    asked = [m for m in said if isinstance(m, IndirectPing) and m.seq == pings[0].seq]
    assert len(asked) == 3 and {m.node for m in asked} == {pings[0].node} and all(m.nack for m in asked)
    through_tcp = [s for s in bench.streams if isinstance(frames.Assembler(None).feed(s.data), Ping)]
    assert through_tcp[0].timeout == pytest.approx(0.5)
    assert (Change.SUSPECTED, pings[0].node) in bench.changes
    assert bench.core.health >= 3  # nacks that we asked for stayed out
    later = bench.tick_to(40)
    assert any(isinstance(m, Suspect) and m.sender == "me" for m in later)


def test_tcp_contact_ends_a_probe_well() -> None:
    bench = Bench()
    bench.tell(alive("a"))
    for second in range(1, 8):
        bench.tick_to(float(second))
        for stream in bench.streams:
            ping = frames.Assembler(None).feed(stream.data)
            if isinstance(ping, Ping):
                bench.core.answered(bench.now, stream.token, Ack(ping.seq))
        bench.streams.clear()
        bench.tick_to(second + 0.0)
    assert (Change.FAILED, "a") not in bench.changes


def test_a_late_tick_gives_suspects_their_time_back() -> None:
    bench = Bench()
    bench.tell(alive("a"), Suspect(1, "a", "b"))
    bench.core.tick(300.0)
    bench.sent()
    assert bench.state("a") is State.SUSPECT
    assert bench.core.health == 1


def test_a_farewell_that_went_out_on_acks_is_told_too() -> None:
    bench = Bench()
    bench.tell(alive("a"))
    bench.core.leave(0.0)
    effects = bench.core.outgoing()
    for seq in range(8):
        bench.core.packet(0.0, encode(Ping(seq, "me")), ("10.0.0.2", 7946))
        effects += bench.core.outgoing()
    assert Departed() in effects
