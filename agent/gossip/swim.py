"""The gossip protocol's state machine: bytes and time in, effects out, no I/O. Pure; node.py is its shell.

Every call carries `now`. After each, the shell takes `outgoing()` (packets to send, streams to open, events) and arms a timer
for `next_deadline()`; then it calls `tick`. A streamed request goes through `assembler()` to `stream`, which gives the answer's bytes;
what an `OpenStream` brought goes to `answered` or `unanswered`. Nothing is due while there is nobody to probe.

Beside SWIM (membership.py, probing.py): news ride on every packet and go to three random members each 0.2 s while there
are any; every 30 s (longer in large clusters) full states are exchanged with a random member; failed members, or the seeds while we are
alone, are knocked at every other second, which heals partitions. A tick that comes late means that we stood still: the
time is given back to those who would have died of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.gossip import frames
from agent.gossip.api import (
    Change,
    Config,
    Departed,
    Effect,
    Event,
    Identity,
    JoinAnswered,
    MemberEvent,
    MemberView,
    OpenStream,
    Randomness,
    SendPacket,
    UserMessage,
    UserState,
)
from agent.gossip.awareness import Awareness
from agent.gossip.broadcasts import EACH, Broadcasts
from agent.gossip.keyring import NONCE, Keyring
from agent.gossip.membership import Member, Membership
from agent.gossip.messages import (
    MAX_U32,
    Ack,
    Address,
    Alive,
    Dead,
    ErrorReply,
    IndirectPing,
    Nack,
    Ping,
    State,
    Suspect,
    Type,
    User,
    decode,
    encode,
    host_of,
)
from agent.gossip.packing import Malformed
from agent.gossip.probing import Prober

CRC_SINCE: Final = 5  # protocol version
PUSH_PULL_SCALE: Final = 32  # members; beyond, states are exchanged less often
MAX_SEEDS: Final = 32
MAX_REASONS: Final = 64


class _Purpose(Enum):
    JOIN = "join"
    SYNC = "sync"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class _Stream:
    purpose: _Purpose
    address: Address
    seq: int = 0


class Swim:
    """One member. `random` must be the system's outside tests: nonces come from it."""

    def __init__(
        self, config: Config, me: Identity, random: Randomness, now: float, keyring: Keyring | None = None
    ) -> None:
        self.keyring = keyring
        self.user_state = b""  # of those above us, for push/pulls
        self.malformed: Counter[str] = Counter()
        self._config = config
        self._random = random
        self._effects: list[Effect] = []
        self._news = Broadcasts(config.retransmit_mult)
        self._user_news = Broadcasts(config.retransmit_mult)
        self._awareness = Awareness(config.awareness_max)
        self._membership = Membership(config, me, now, self._news, self._awareness, self._emit)
        self._prober = Prober(config, self._membership, self._awareness, random, self)
        self._seq = random.randrange(1 << 20)
        self._token = 0
        self._streams: dict[int, _Stream] = {}
        self._seeds: list[Address] = []
        self._knock: tuple[int, Address] | None = None
        self._next_gossip: float | None = None
        self._next_push_pull: float | None = None
        self._next_reconnect: float | None = None
        self._syncs = 0
        self._last_takeover = float("-inf")
        self._leaving_until: float | None = None

    # ---- what those above want

    def join(self, now: float, addresses: Iterable[Address]) -> None:
        """Exchanges states with each; each is answered by a JoinAnswered. They are tried again while we are alone."""
        for address in addresses:
            if address == self._membership.me.address:
                continue
            if address not in self._seeds and len(self._seeds) < MAX_SEEDS:
                self._seeds.append(address)
            self._push_pull(address, _Purpose.JOIN)
        self._arm(now)

    def leave(self, now: float) -> None:
        """Says good-bye; Departed is emitted when it has been told, or nobody is there to hear it."""
        if self._membership.left:
            return
        self._membership.leave(now)
        self._leaving_until = now + self._config.leave_timeout
        self._gossip(now)
        self._arm(now)

    def set_meta(self, now: float, meta: bytes) -> None:
        self._membership.set_meta(meta)
        self._arm(now)

    def broadcast(self, now: float, subject: str, data: bytes) -> None:
        """A user message to a few members, whose users pass it on if it is news to them.

        One of the same subject that is still on its way is replaced.
        """
        most = self._config.packet_size - frames.MAX_OVERHEAD - EACH - 1
        if len(data) > most:
            raise ValueError(f"{len(data)} bytes in a user message; {most} is the most")
        self._user_news.queue(subject, bytes([Type.USER]) + data)
        self._arm(now)

    def members(self) -> tuple[MemberView, ...]:
        return tuple(member.view() for member in self._membership.members.values())

    @property
    def health(self) -> int:
        """Lifeguard's score: 0 is well."""
        return self._awareness.score

    # ---- what the shell brings

    def packet(self, now: float, data: bytes, source: Address) -> None:
        """A datagram. What is wrong with it is counted, never raised."""
        try:
            messages = frames.messages_of(data, self.keyring)
        except Malformed as error:
            self._bad(error)
            return
        for message in messages:
            try:
                self._message(now, message, source)
            except Malformed as error:
                self._bad(error)
        sender = self._membership.at(source)
        if sender and sender.state is State.DEAD:
            self._contradicted(now, sender)
        self._after_news(now)

    def assembler(self) -> frames.Assembler:
        """For one stream, either direction."""
        return frames.Assembler(self.keyring)

    def stream(self, now: float, request: frames.Whole) -> bytes:
        """A stream's request; the bytes to answer with, if any."""
        match request:
            case frames.PushPull():
                answer = self._state(request.join)
                self._merge(now, request)
                return answer
            case frames.UserStream():
                self._effects.append(UserMessage(request.data))
            case Ping() if request.node in ("", self._membership.me.name):
                return frames.stream(Ack(request.seq), self.keyring, self._nonce())
            case _:
                pass
        return b""

    def answered(self, now: float, token: int, answer: frames.Whole) -> None:
        """A stream of ours brought this."""
        stream = self._streams.pop(token, None)
        if stream is None:
            return
        if stream.purpose is _Purpose.PING:
            if isinstance(answer, Ack) and answer.seq == stream.seq:
                self._prober.contacted(now, stream.seq)
            self._arm(now)
            return
        problem = None
        if isinstance(answer, frames.PushPull):
            self._merge(now, answer)
        else:
            problem = answer.error if isinstance(answer, ErrorReply) else "an answer of another kind"
        if stream.purpose is _Purpose.JOIN:
            self._effects.append(JoinAnswered(stream.address, problem))

    def unanswered(self, now: float, token: int, problem: str) -> None:
        """A stream of ours failed."""
        stream = self._streams.pop(token, None)
        if stream and stream.purpose is _Purpose.JOIN:
            self._effects.append(JoinAnswered(stream.address, problem))
        self._arm(now)

    def tick(self, now: float) -> None:
        """The time of `next_deadline` has come, or more."""
        due = self.next_deadline()
        if due is not None and now - due > self._config.stall:
            self._shift(now - due)
        self._membership.tick(now)
        self._prober.tick(now)
        if self._next_gossip is not None and self._next_gossip <= now:
            self._gossip(now)
        if self._next_push_pull is not None and self._next_push_pull <= now:
            self._sync(now)
        if self._next_reconnect is not None and self._next_reconnect <= now:
            self._reconnect(now)
        if self._leaving_until is not None and self._leaving_until <= now:
            self._departed()
        self._arm(now)

    def next_deadline(self) -> float | None:
        times = (
            self._membership.next_deadline(),
            self._prober.next_deadline(),
            self._next_gossip,
            self._next_push_pull,
            self._next_reconnect,
            self._leaving_until,
        )
        return min((time for time in times if time is not None), default=None)

    def outgoing(self) -> list[Effect]:
        """What has to be done now, once."""
        effects, self._effects = self._effects, []
        return effects

    # ---- messages

    def _message(self, now: float, data: bytes, source: Address) -> None:
        message = decode(data)
        match message:
            case Ping():
                if message.node in ("", self._membership.me.name):
                    self.send(_origin(message, source), encode(Ack(message.seq)))
            case IndirectPing():
                self._prober.relay(now, message, _origin(message, source))
            case Ack():
                self._acked(now, message.seq)
            case Nack():
                self._prober.nacked(message.seq)
            case Suspect():
                self._set_right(message, source)
                self._membership.suspect(now, message)
            case Alive():
                self._membership.alive(now, message)
            case Dead():
                self._set_right(message, source)
                self._membership.dead(now, message)
            case User():
                self._effects.append(UserMessage(message.data))
            case _:
                raise Malformed(f"type {data[0]} in a packet")

    def _bad(self, error: Malformed) -> None:
        reason = str(error)[:80]
        self.malformed[
            reason if reason in self.malformed or len(self.malformed) < MAX_REASONS else "other"
        ] += 1

    def _acked(self, now: float, seq: int) -> None:
        if self._knock and seq == self._knock[0]:
            _, address = self._knock
            self._knock = None
            self._push_pull(address, _Purpose.SYNC)
        else:
            self._prober.acked(now, seq)

    def _set_right(self, accusation: Suspect | Dead, source: Address) -> None:
        """Refuted already, and the sender has not heard of it."""
        me = self._membership.me
        if (
            accusation.node == me.name
            and accusation.incarnation < me.incarnation
            and not self._membership.left
        ):
            self._packet(source, [encode(me.alive())])

    def _contradicted(self, now: float, sender: Member) -> None:
        """One that we hold dead has just spoken: it is told so, and refutes."""
        if now - sender.verdict_told >= self._config.probe_timeout:
            sender.verdict_told = now
            verdict = Dead(sender.incarnation, sender.name, self._membership.me.name)
            self.send(sender.address, encode(verdict))

    def _merge(self, now: float, state: frames.PushPull) -> None:
        for node in state.nodes:
            try:
                self._membership.learn(now, node)
            except Malformed as error:
                self._bad(error)
        if state.user_state:
            self._effects.append(UserState(state.user_state, state.join))
        self._after_news(now)

    def _after_news(self, now: float) -> None:
        if (
            self._membership.former is not None
            and now - self._last_takeover >= self._config.reconnect_interval
        ):
            self._take_over(now, self._membership.former)
        self._arm(now)

    def _take_over(self, now: float, former: int) -> None:
        """Tells everybody directly that our former self left and that we are here; asks again soon whether it worked."""
        me = self._membership.me
        self._membership.former = None
        self._last_takeover = now
        gone = encode(Dead(former, me.name, me.name))
        for member in self._membership.others():
            if member.living:
                self._packet(member.address, [gone, encode(me.alive())])
        self._membership.announce()
        self._next_push_pull = now + self._config.reconnect_interval

    # ---- periodic work

    def _arm(self, now: float) -> None:
        """Timers run only while there is work for them."""
        self._prober.arm(now)
        company = self._membership.living > 1
        if not (self._news or self._user_news):
            self._next_gossip = None
        elif self._next_gossip is None:
            self._next_gossip = now + self._config.gossip_interval * self._random.random()
        if not company or self._membership.left:
            self._next_push_pull, self._syncs = None, 0
        elif self._next_push_pull is None:
            self._next_push_pull = now + self._push_pull_wait()
        if self._membership.left or not (self._failed() or (self._seeds and not company)):
            self._next_reconnect = None
        elif self._next_reconnect is None:
            self._next_reconnect = now + self._config.reconnect_interval * (0.5 + self._random.random() / 2)

    def _shift(self, late: float) -> None:
        """We stood still: nobody is to die of it, and we trust ourselves less."""
        self._awareness.apply(1)
        self._membership.shift(late)
        self._prober.shift(late)

    def _gossip(self, now: float) -> None:
        """News to a few random members, those that failed lately among them: they may be alive and want to refute."""
        recent = self._config.gossip_to_dead
        targets = [
            member
            for member in self._membership.others()
            if member.living or (member.state is State.DEAD and now - member.changed < recent)
        ]
        if not targets:
            self._news.clear()
            self._user_news.clear()
        for member in self._random.sample(targets, min(self._config.gossip_nodes, len(targets))):
            messages = self._take(member, 0, frames.COMPOUND_MOST)
            if messages:
                self._packet(member.address, messages)
        self._next_gossip = now + self._config.gossip_interval
        if self._leaving_until is not None and self._membership.me.name not in self._news:
            self._departed()

    def _departed(self) -> None:
        self._leaving_until = None
        self._effects.append(Departed())

    def _push_pull_wait(self) -> float:
        """A young member asks early: news of others that joined with it may have been told before it was known."""
        living = self._membership.living
        wait = min(self._config.push_pull_interval, self._config.first_push_pull * 4.0 ** min(self._syncs, 8))
        if living > PUSH_PULL_SCALE:
            wait *= math.ceil(math.log2(living) - math.log2(PUSH_PULL_SCALE)) + 1
        return wait * (0.5 + self._random.random())

    def _sync(self, now: float) -> None:
        self._membership.forget(now)
        alive = [member for member in self._membership.others() if member.state is State.ALIVE]
        if alive:
            self._push_pull(self._random.sample(alive, 1)[0].address, _Purpose.SYNC)
        self._syncs += 1
        self._next_push_pull = now + self._push_pull_wait()

    def _failed(self) -> list[Member]:
        if self._membership.living == len(self._membership.members):
            return []
        return [member for member in self._membership.others() if member.state is State.DEAD]

    def _reconnect(self, now: float) -> None:
        """Knocks at a failed member, as rarely as there are many others to do it, or asks a seed while we are alone.

        The knock carries the verdict, so that the member can refute with its ack; the ack leads to an exchange of states.
        """
        self._next_reconnect = now + self._config.reconnect_interval
        failed, living = self._failed(), self._membership.living
        if living <= 1 and self._seeds and (not failed or self._random.random() < 0.5):
            self._push_pull(self._random.sample(self._seeds, 1)[0], _Purpose.SYNC)
        elif failed and self._random.random() * living < len(failed):
            member, me = self._random.sample(failed, 1)[0], self._membership.me
            seq = self.next_seq()
            self._knock = (seq, member.address)
            verdict = encode(Dead(member.incarnation, member.name, me.name))
            ping = encode(Ping(seq, member.name, me.addr, me.port, me.name))
            self.send(member.address, ping, verdict)

    # ---- ways out (also the prober's)

    def send(self, address: Address, *messages: bytes) -> None:
        """A packet of these, filled up with news."""
        used = sum(len(message) + EACH for message in messages)
        most = frames.COMPOUND_MOST - len(messages)
        self._packet(address, [*messages, *self._take(self._membership.at(address), used, most)])

    def ping_stream(self, address: Address, ping: Ping, timeout: float) -> None:
        data = frames.stream(ping, self.keyring, self._nonce())
        self._open(_Stream(_Purpose.PING, address, ping.seq), data, timeout)

    def next_seq(self) -> int:
        self._seq = (self._seq + 1) & MAX_U32
        return self._seq

    def _push_pull(self, address: Address, purpose: _Purpose) -> None:
        data = self._state(purpose is _Purpose.JOIN)
        self._open(_Stream(purpose, address), data, self._config.stream_timeout)

    def _open(self, stream: _Stream, data: bytes, timeout: float) -> None:
        self._token += 1
        self._streams[self._token] = stream
        self._effects.append(OpenStream(self._token, stream.address, data, timeout))

    def _state(self, join: bool) -> bytes:
        whole = frames.PushPull(join, self._membership.states(), self.user_state)
        return frames.stream(whole, self.keyring, self._nonce())

    def _take(self, to: Member | None, used: int, most: int) -> list[bytes]:
        """News for the room that is left in a packet."""
        room = self._config.packet_size - frames.overhead(self.keyring, self._crc(to)) - used
        living = self._membership.living
        news = self._news.take(room, most, living)
        room -= sum(len(message) + EACH for message in news)
        return news + self._user_news.take(room, most - len(news), living)

    def _packet(self, address: Address, messages: list[bytes]) -> None:
        crc = self._crc(self._membership.at(address))
        self._effects.append(SendPacket(address, frames.packet(messages, self.keyring, self._nonce(), crc)))

    def _crc(self, to: Member | None) -> bool:
        return to is not None and to.speaks(CRC_SINCE)

    def _nonce(self) -> bytes:
        return self._random.randbytes(NONCE) if self.keyring else b""

    def _emit(self, event: Event) -> None:
        self._effects.append(event)
        if isinstance(event, MemberEvent) and event.change is Change.JOINED:
            self._prober.added(event.member.name)


def _origin(request: Ping | IndirectPing, source: Address) -> Address:
    """Where the answer goes: where the sender says it is, if it says so."""
    if request.source_addr and request.source_port:
        return host_of(request.source_addr), request.source_port
    return source
