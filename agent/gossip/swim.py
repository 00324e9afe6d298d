"""The gossip protocol's state machine: bytes and time in, effects out, no I/O. Pure; node.py is its shell.

Every call carries `now`. After each, the shell takes `outgoing()` (packets to send, streams to open, events) and arms a timer
for `next_deadline()`; then it calls `tick`. A streamed request goes through `assembler()` to `stream`, which gives the answer's bytes;
what an `OpenStream` brought goes to `answered` or `unanswered`. Nothing is due while there is nobody to probe.

It hands messages to the rules (membership.py, probing.py) and time to them and to rounds.py. A tick that comes late means that
we stood still: the time is given back to those who would have died of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
    Randomness,
    UserMessage,
    UserState,
)
from agent.gossip.awareness import Awareness
from agent.gossip.broadcasts import EACH, Broadcasts
from agent.gossip.keyring import Keyring
from agent.gossip.membership import Member, Membership
from agent.gossip.messages import (
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
from agent.gossip.outbox import Outbox, Purpose
from agent.gossip.packing import Malformed
from agent.gossip.probing import Prober
from agent.gossip.rounds import Rounds

MAX_REASONS: Final = 64


class Swim:
    """One member. `random` must be the system's outside tests: nonces come from it."""

    def __init__(
        self, config: Config, me: Identity, random: Randomness, now: float, keyring: Keyring | None = None
    ) -> None:
        self.malformed: Counter[str] = Counter()
        self._config = config
        self._random = random
        self._news = Broadcasts(config.retransmit_mult)
        self._out = Outbox(config, random, keyring, self._news)
        self._awareness = Awareness(config.awareness_max)
        self._membership = Membership(config, me, now, self._news, self._awareness, self._emit)
        self._out.membership = self._membership
        self._prober = Prober(config, self._membership, self._awareness, random, self._out)
        self._rounds = Rounds(config, self._membership, random, self._out)
        self._last_takeover = float("-inf")
        self._leaving_until: float | None = None

    # ---- what those above want

    @property
    def keyring(self) -> Keyring | None:
        """What seals and opens everything; it may be changed or replaced at any time."""
        return self._out.keyring

    @keyring.setter
    def keyring(self, keyring: Keyring | None) -> None:
        self._out.keyring = keyring

    @property
    def user_state(self) -> bytes:
        """Of those above us, for push/pulls."""
        return self._out.user_state

    @user_state.setter
    def user_state(self, state: bytes) -> None:
        self._out.user_state = state

    def join(self, now: float, addresses: Iterable[Address]) -> None:
        """Exchanges states with each; each is answered by a JoinAnswered. They are tried again while we are alone."""
        for address in addresses:
            if address == self._membership.me.address:
                continue
            self._rounds.seed(address)
            self._out.push_pull(address, Purpose.JOIN)
        self._arm(now)

    def leave(self, now: float) -> bool:
        """Says good-bye; Departed is emitted when it has been told: True while that is still to come."""
        if not self._membership.left:
            self._membership.leave(now)
            self._leaving_until = now + self._config.leave_timeout
            self._rounds.gossip(now)
            self._arm(now)
        return self._leaving_until is not None

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
        self._out.user_news.queue(subject, bytes([Type.USER]) + data)
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
                answer = self._out.state(request.join)
                self._merge(now, request)
                return answer
            case frames.UserStream():
                self._out.effects.append(UserMessage(request.data))
            case Ping() if request.node in ("", self._membership.me.name):
                return frames.stream(Ack(request.seq), self.keyring, self._out.nonce())
            case _:
                pass
        return b""

    def answered(self, now: float, token: int, answer: frames.Whole) -> None:
        """A stream of ours brought this."""
        stream = self._out.streams.pop(token, None)
        if stream is None:
            return
        if stream.purpose is Purpose.PING:
            if isinstance(answer, Ack) and answer.seq == stream.seq:
                self._prober.contacted(now, stream.seq)
            self._arm(now)
            return
        problem = None
        if isinstance(answer, frames.PushPull):
            self._merge(now, answer)
        else:
            problem = answer.error if isinstance(answer, ErrorReply) else "an answer of another kind"
        if stream.purpose is Purpose.JOIN:
            self._out.effects.append(JoinAnswered(stream.address, problem))

    def unanswered(self, now: float, token: int, problem: str) -> None:
        """A stream of ours failed."""
        stream = self._out.streams.pop(token, None)
        if stream and stream.purpose is Purpose.JOIN:
            self._out.effects.append(JoinAnswered(stream.address, problem))
        self._arm(now)

    def tick(self, now: float) -> None:
        """The time of `next_deadline` has come, or more."""
        due = self.next_deadline()
        if due is not None and now - due > self._config.stall:
            self._shift(now - due)
        self._membership.tick(now)
        self._prober.tick(now)
        self._rounds.tick(now)
        if self._leaving_until is not None and self._leaving_until <= now:
            self._departed()
        self._arm(now)

    def next_deadline(self) -> float | None:
        times = (
            self._membership.next_deadline(),
            self._prober.next_deadline(),
            self._rounds.next_deadline(),
            self._leaving_until,
        )
        return min((time for time in times if time is not None), default=None)

    def outgoing(self) -> list[Effect]:
        """What has to be done now, once."""
        effects, self._out.effects = self._out.effects, []
        return effects

    # ---- messages

    def _message(self, now: float, data: bytes, source: Address) -> None:
        message = decode(data)
        match message:
            case Ping():
                if message.node in ("", self._membership.me.name):
                    self._out.send(_origin(message, source), encode(Ack(message.seq)))
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
                self._out.effects.append(UserMessage(message.data))
            case _:
                raise Malformed(f"type {data[0]} in a packet")

    def _bad(self, error: Malformed) -> None:
        reason = str(error)[:80]
        self.malformed[
            reason if reason in self.malformed or len(self.malformed) < MAX_REASONS else "other"
        ] += 1

    def _acked(self, now: float, seq: int) -> None:
        if address := self._rounds.knocked(seq):
            self._out.push_pull(address, Purpose.SYNC)
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
            self._out.packet(source, [encode(me.alive())])

    def _contradicted(self, now: float, sender: Member) -> None:
        """One that we hold dead has just spoken: it is told so, and refutes."""
        if now - sender.verdict_told >= self._config.probe_timeout:
            sender.verdict_told = now
            verdict = Dead(sender.incarnation, sender.name, self._membership.me.name)
            self._out.send(sender.address, encode(verdict))

    def _merge(self, now: float, state: frames.PushPull) -> None:
        for node in state.nodes:
            try:
                self._membership.learn(now, node)
            except Malformed as error:
                self._bad(error)
        if state.user_state:
            self._out.effects.append(UserState(state.user_state, state.join))
        self._after_news(now)

    def _after_news(self, now: float) -> None:
        if (
            self._membership.former is not None
            and now - self._last_takeover >= self._config.reconnect_interval
        ):
            self._take_over(now, self._membership.former)
        self._arm(now)
        if self._membership.returned:
            self._membership.returned = False
            self._rounds.sync_soon(now)

    def _take_over(self, now: float, former: int) -> None:
        """Tells everybody directly that our former self left and that we are here; asks again soon whether it worked."""
        me = self._membership.me
        self._membership.former = None
        self._last_takeover = now
        gone = encode(Dead(former, me.name, me.name))
        for member in self._membership.others():
            if member.living:
                self._out.packet(member.address, [gone, encode(me.alive())])
        self._membership.announce()
        self._rounds.sync_at(now + self._config.reconnect_interval)

    # ---- time

    def _arm(self, now: float) -> None:
        """Timers run only while there is work for them."""
        if self._leaving_until is not None and self._membership.me.name not in self._news:
            self._departed()
        self._prober.arm(now)
        self._rounds.arm(now)

    def _shift(self, late: float) -> None:
        """We stood still: nobody is to die of it, and we trust ourselves less."""
        self._awareness.apply(1)
        self._membership.shift(late)
        self._prober.shift(late)

    def _departed(self) -> None:
        self._leaving_until = None
        self._out.effects.append(Departed())

    def _emit(self, event: Event) -> None:
        self._out.effects.append(event)
        if isinstance(event, MemberEvent) and event.change is Change.JOINED:
            self._prober.added(event.member.name)


def _origin(request: Ping | IndirectPing, source: Address) -> Address:
    """Where the answer goes: where the sender says it is, if it says so."""
    if request.source_addr and request.source_port:
        return host_of(request.source_addr), request.source_port
    return source
