"""The ways out of the gossip core: packets filled up with news, streams with a token, effects for the shell. Pure; swim.py owns it.

Every packet to anybody carries as many news as fit; that is how SWIM spreads them for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from agent.gossip import frames
from agent.gossip.api import Config, Effect, OpenStream, Randomness, SendPacket
from agent.gossip.broadcasts import EACH, Broadcasts
from agent.gossip.keyring import NONCE, Keyring
from agent.gossip.membership import Member, Membership
from agent.gossip.messages import MAX_U32, Address, Ping

CRC_SINCE = 5  # protocol version


class Purpose(Enum):
    """Of a stream of ours."""

    JOIN = "join"
    SYNC = "sync"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class Stream:
    purpose: Purpose
    address: Address
    seq: int = 0


class Outbox:
    """`news` are the membership's, `user_news` those of whoever is above; the former go first."""

    def __init__(self, config: Config, random: Randomness, keyring: Keyring | None, news: Broadcasts) -> None:
        self.keyring = keyring
        self.user_state = b""
        self.news = news
        self.user_news = Broadcasts(config.retransmit_mult)
        self.effects: list[Effect] = []
        self.streams: dict[int, Stream] = {}
        self.membership: Membership  # given right after, for it announces through us
        self._config = config
        self._random = random
        self._seq = random.randrange(1 << 20)
        self._token = 0

    def send(self, address: Address, *messages: bytes) -> None:
        """A packet of these, filled up with news."""
        used = sum(len(message) + EACH for message in messages)
        most = frames.COMPOUND_MOST - len(messages)
        self.packet(address, [*messages, *self.take(self.membership.at(address), used, most)])

    def send_news(self, member: Member) -> None:
        """A packet of news alone, if there are any."""
        messages = self.take(member, 0, frames.COMPOUND_MOST)
        if messages:
            self.packet(member.address, messages)

    def packet(self, address: Address, messages: list[bytes]) -> None:
        """A packet of exactly these."""
        crc = _takes_crc(self.membership.at(address))
        self.effects.append(SendPacket(address, frames.packet(messages, self.keyring, self.nonce(), crc)))

    def take(self, to: Member | None, used: int, most: int) -> list[bytes]:
        """News for the room that is left in a packet."""
        room = self._config.packet_size - frames.overhead(self.keyring, _takes_crc(to)) - used
        living = self.membership.living
        news = self.news.take(room, most, living)
        room -= sum(len(message) + EACH for message in news)
        return news + self.user_news.take(room, most - len(news), living)

    def ping_stream(self, address: Address, ping: Ping, timeout: float) -> None:
        """The same ping through TCP."""
        data = frames.stream(ping, self.keyring, self.nonce())
        self._open(Stream(Purpose.PING, address, ping.seq), data, timeout)

    def push_pull(self, address: Address, purpose: Purpose) -> None:
        """All that we know, for all that they know."""
        data = self.state(purpose is Purpose.JOIN)
        self._open(Stream(purpose, address), data, self._config.stream_timeout)

    def state(self, join: bool) -> bytes:
        whole = frames.PushPull(join, self.membership.states(), self.user_state)
        return frames.stream(whole, self.keyring, self.nonce())

    def nonce(self) -> bytes:
        return self._random.randbytes(NONCE) if self.keyring else b""

    def next_seq(self) -> int:
        """A number for a ping that no open one has."""
        self._seq = (self._seq + 1) & MAX_U32
        return self._seq

    def _open(self, stream: Stream, data: bytes, timeout: float) -> None:
        self._token += 1
        self.streams[self._token] = stream
        self.effects.append(OpenStream(self._token, stream.address, data, timeout))


def _takes_crc(to: Member | None) -> bool:
    return to is not None and to.speaks(CRC_SINCE)
