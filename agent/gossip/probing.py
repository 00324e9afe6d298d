"""SWIM's failure detector with Lifeguard's corrections: one member is probed per interval. Pure; swim.py drives it.

A probe: ping; after `probe_timeout` without an ack three others are asked to ping it, and it is pinged through TCP; at
the end of the (scaled) interval without any answer it is suspected. Members are probed in a random order, each once per round, so
that none waits longer than two rounds. Whoever is asked to ping for another sends the ack on, or a nack in time:
nacks that stay out say that *we* are badly connected, and our awareness pays instead of the suspect's life.
A ping to a suspect carries the suspicion, so that it can refute at once (the buddy system).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from agent.gossip.api import Config, Randomness
from agent.gossip.awareness import Awareness
from agent.gossip.membership import Member, Membership
from agent.gossip.messages import Ack, Address, IndirectPing, Nack, Ping, State, Suspect, encode, host_of

MAX_RELAYS: Final = 256
NACKS_SINCE: Final = 4  # protocol version


class Wire(Protocol):
    """What swim.py gives: the ways out, and numbers."""

    def send(self, address: Address, *messages: bytes) -> None:
        """A packet of these, and news beside them where there is room."""

    def ping_stream(self, address: Address, ping: Ping, timeout: float) -> None:
        """The same ping through TCP; its ack comes to `Prober.contacted`."""

    def next_seq(self) -> int:
        """A number that no open probe has."""


@dataclass(slots=True)
class _Probe:
    member: Member
    seq: int
    started: float
    indirect_at: float
    end: float
    indirect: bool = False
    expected_nacks: int = 0
    nacks: int = 0


@dataclass(slots=True)
class _Relay:
    """A ping for another."""

    origin: Address
    seq: int
    nack: bool
    deadline: float


class Prober:
    def __init__(
        self, config: Config, membership: Membership, awareness: Awareness, random: Randomness, wire: Wire
    ) -> None:
        self._config = config
        self._membership = membership
        self._awareness = awareness
        self._random = random
        self._wire = wire
        self._round: list[str] = []
        self._asked: list[str] = []  # in this round
        self._next: float | None = None
        self._probe: _Probe | None = None
        self._relays: dict[int, _Relay] = {}

    # ---- time

    def next_deadline(self) -> float | None:
        times = [relay.deadline for relay in self._relays.values()]
        if self._probe:
            times.append(self._probe.end if self._probe.indirect else self._probe.indirect_at)
        elif self._next is not None:
            times.append(self._next)
        return min(times, default=None)

    def arm(self, now: float) -> None:
        """Probes while there is somebody to probe, starting anywhere in the interval so that members don't march in step."""
        if self._membership.living <= 1 and not self._probe:
            self._next = None
        elif self._next is None and not self._probe:
            self._next = now + self._random.random() * self._config.probe_interval

    def shift(self, seconds: float) -> None:
        """Time stood still for us so long."""
        if self._next is not None:
            self._next += seconds
        if self._probe:
            self._probe.started += seconds
            self._probe.indirect_at += seconds
            self._probe.end += seconds
        for relay in self._relays.values():
            relay.deadline += seconds

    def tick(self, now: float) -> None:
        for seq, relay in list(self._relays.items()):
            if relay.deadline <= now:
                del self._relays[seq]
                if relay.nack:
                    self._wire.send(relay.origin, encode(Nack(relay.seq)))
        if self._probe and not self._probe.indirect and self._probe.indirect_at <= now:
            self._ask_others(now, self._probe)
        if self._probe and self._probe.end <= now:
            self._failed(now, self._probe)
        if not self._probe and self._next is not None and self._next <= now:
            self._start(now)

    # ---- a probe's life

    def _start(self, now: float) -> None:
        member = self._choose()
        if member is None:
            self._next = None
            return
        seq = self._wire.next_seq()
        end = now + self._awareness.scale(self._config.probe_interval)
        self._probe = _Probe(member, seq, now, min(end, now + self._config.probe_timeout), end)
        messages = [encode(self._ping(member, seq))]
        if member.state is State.SUSPECT:
            accusation = Suspect(member.incarnation, member.name, self._membership.me.name)
            messages.append(encode(accusation))
        self._wire.send(member.address, *messages)

    def _choose(self) -> Member | None:
        for fresh in (False, True):
            if fresh:
                self._round = self._fresh_round()
            while self._round:
                member = self._membership.members.get(self._round.pop())
                if member and member.living:
                    self._asked.append(member.name)
                    return member
        return None

    def _fresh_round(self) -> list[str]:
        """The next ones last. Who was asked in the first half of the last round is asked in the first half of this one.

        So nobody waits much longer than one round for the next probe; after a plain shuffle it can be two, and of three
        nodes the others would notice a death a second later.
        """
        before = {name: place for place, name in enumerate(self._asked)}
        self._asked = []
        names = [member.name for member in self._membership.others() if member.living]
        names.sort(key=lambda name: before.get(name, -1))
        middle = (len(names) + 1) // 2
        first, second = names[:middle], names[middle:]
        self._random.shuffle(first)
        self._random.shuffle(second)
        return second + first

    def added(self, name: str) -> None:
        """A new member takes part in this round already, anywhere."""
        if name not in self._round:
            self._round.insert(self._random.randrange(len(self._round) + 1), name)

    def _ping(self, member: Member, seq: int) -> Ping:
        me = self._membership.me
        return Ping(seq, member.name, me.addr, me.port, me.name)

    def _ask_others(self, now: float, probe: _Probe) -> None:
        probe.indirect = True
        me, member = self._membership.me, probe.member
        peers = [
            other for other in self._membership.others() if other is not member and other.state is State.ALIVE
        ]
        for peer in self._random.sample(peers, min(self._config.indirect_checks, len(peers))):
            nack = peer.speaks(NACKS_SINCE)
            probe.expected_nacks += nack
            request = IndirectPing(
                probe.seq, member.addr, member.port, member.name, nack, me.addr, me.port, me.name
            )
            self._wire.send(peer.address, encode(request))
        if probe.end > now:
            self._wire.ping_stream(member.address, self._ping(member, probe.seq), probe.end - now)

    def _failed(self, now: float, probe: _Probe) -> None:
        if probe.expected_nacks:
            self._awareness.apply(max(0, probe.expected_nacks - probe.nacks))
        else:
            self._awareness.apply(1)
        self._finish(now, probe)
        member = probe.member
        self._membership.suspect(now, Suspect(member.incarnation, member.name, self._membership.me.name))

    def _finish(self, now: float, probe: _Probe) -> None:
        self._probe = None
        self._next = max(now, probe.started + self._config.probe_interval)

    # ---- what comes in

    def acked(self, now: float, seq: int) -> None:
        if self._probe and seq == self._probe.seq:
            self._awareness.apply(-1)
            self._finish(now, self._probe)
            return
        relay = self._relays.pop(seq, None)
        if relay:
            self._wire.send(relay.origin, encode(Ack(relay.seq)))

    def contacted(self, now: float, seq: int) -> None:
        """TCP reached it: it lives, but its UDP or ours suffers; our health stays as it is."""
        if self._probe and seq == self._probe.seq:
            self._finish(now, self._probe)

    def nacked(self, seq: int) -> None:
        if self._probe and seq == self._probe.seq:
            self._probe.nacks += 1

    def relay(self, now: float, request: IndirectPing, origin: Address) -> None:
        """Pings for another member."""
        if len(self._relays) >= MAX_RELAYS:
            return
        me, seq = self._membership.me, self._wire.next_seq()
        deadline = now + self._config.probe_timeout
        self._relays[seq] = _Relay(origin, request.seq, request.nack, deadline)
        ping = Ping(seq, request.node, me.addr, me.port, me.name)
        self._wire.send((host_of(request.target), request.port), encode(ping))
