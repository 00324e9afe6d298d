"""Members on a virtual clock and a simulated network: seeded loss, latency, partitions, kills, members that stand still."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.gossip.api import (
    Change,
    Config,
    Effect,
    Identity,
    MemberEvent,
    OpenStream,
    SendPacket,
)
from agent.gossip.keyring import Keyring
from agent.gossip.messages import Address, State
from agent.gossip.swim import Swim


@dataclass
class Peer:
    name: str
    address: Address
    core: Swim
    alive: bool = True
    frozen: bool = False
    armed: float | None = None
    waiting: list[Callable[[], None]] = field(default_factory=list)
    events: list[tuple[float, object]] = field(default_factory=list)

    def states(self) -> dict[str, State]:
        return {member.name: member.state for member in self.core.members()}

    def saw(self, change: Change, name: str | None = None) -> list[float]:
        return [
            at
            for at, event in self.events
            if isinstance(event, MemberEvent)
            and event.change is change
            and (name is None or event.member.name == name)
        ]


class Cluster:
    def __init__(self, seed: int, loss: float = 0.0, config: Config | None = None) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.config = config or Config()
        self.now = 1000.0
        self.peers: dict[Address, Peer] = {}
        self.cut: set[frozenset[Address]] = set()
        self.sent = 0
        self.largest = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # ---- what tests do

    def add(
        self, name: str, host: str, keys: tuple[bytes, ...] = (), meta: bytes = b"", port: int = 7946
    ) -> Peer:
        keyring = Keyring(keys) if keys else None
        rng = random.Random(self.random.random())
        core = Swim(self.config, Identity(name, host, port, meta), rng, self.now, keyring)
        peer = self.peers[(host, port)] = Peer(name, (host, port), core)
        self.pump(peer)
        return peer

    def grow(self, count: int, **more: tuple[bytes, ...]) -> list[Peer]:
        """`count` members that know of each other."""
        peers = [self.add(f"n{i}", f"10.0.{i // 250}.{i % 250 + 1}", **more) for i in range(count)]
        for peer in peers[1:]:
            self.do(peer, lambda core: core.join(self.now, [peers[0].address]))
            self.run(0.05)
        assert self.until(lambda: agreed(peers, len(peers)), 30), "never agreed"
        return peers

    def do(self, peer: Peer, work: Callable[[Swim], object]) -> None:
        work(peer.core)
        self.pump(peer)

    def kill(self, peer: Peer) -> None:
        peer.alive = False

    def freeze(self, peer: Peer, seconds: float) -> None:
        """Its loop is blocked: what comes waits."""
        peer.frozen = True
        self._at(seconds, lambda: self._thaw(peer))

    def partition(self, one: list[Peer], other: list[Peer]) -> None:
        self.cut = {frozenset((a.address, b.address)) for a in one for b in other}

    def heal(self) -> None:
        self.cut = set()

    def run(self, seconds: float) -> None:
        self.until(lambda: False, seconds)

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = self.now + seconds
        while not condition():
            if not self._events or self._events[0][0] > end:
                self.now = end
                return condition()
            self.now, _, work = heapq.heappop(self._events)
            work()
        return True

    # ---- the network

    def pump(self, peer: Peer) -> None:
        for effect in peer.core.outgoing():
            self._effect(peer, effect)
        due = peer.core.next_deadline()
        if due is not None and due != peer.armed:
            peer.armed = due
            self._at(max(0.0, due - self.now), lambda: self._ticked(peer, due))

    def _effect(self, peer: Peer, effect: Effect) -> None:
        if isinstance(effect, SendPacket):
            self.sent += 1
            self.largest = max(self.largest, len(effect.data))
            if self.random.random() >= self.loss:
                self._at(self._latency(), lambda: self._packet(peer, effect))
        elif isinstance(effect, OpenStream):
            self._at(self._latency(), lambda: self._connected(peer, effect))
        else:
            peer.events.append((self.now, effect))

    def _at(self, delay: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), work))

    def _latency(self) -> float:
        return 0.0005 + self.random.random() * 0.004

    def _reaches(self, one: Address, other: Address) -> Peer | None:
        peer = self.peers.get(other)
        return peer if peer and peer.alive and frozenset((one, other)) not in self.cut else None

    def _give(self, peer: Peer, work: Callable[[], None]) -> None:
        """In the peer's loop, which may be blocked."""
        if not peer.alive:
            return
        if peer.frozen:
            peer.waiting.append(work)
            return
        work()
        self.pump(peer)

    def _ticked(self, peer: Peer, due: float) -> None:
        if peer.armed == due:
            peer.armed = None
            self._give(peer, lambda: peer.core.tick(self.now))

    def _thaw(self, peer: Peer) -> None:
        peer.frozen = False
        waiting, peer.waiting = peer.waiting, []
        for work in waiting:
            self._give(peer, work)

    def _packet(self, sender: Peer, packet: SendPacket) -> None:
        peer = self._reaches(sender.address, packet.address)
        if peer:
            self._give(peer, lambda: peer.core.packet(self.now, packet.data, sender.address))

    def _connected(self, sender: Peer, stream: OpenStream) -> None:
        peer = self._reaches(sender.address, stream.address)
        if peer is None:
            self._at(1.0, lambda: self._refused(sender, stream))
            return
        self._give(peer, lambda: self._served(sender, peer, stream))

    def _served(self, sender: Peer, peer: Peer, stream: OpenStream) -> None:
        try:
            whole = peer.core.assembler().feed(stream.data)
        except ValueError:
            whole = None
        if whole is None:
            self._refused(sender, stream)
            return
        answer = peer.core.stream(self.now, whole)
        back = sender.core.assembler().feed(answer) if answer else None
        if back is None or self._reaches(peer.address, sender.address) is None:
            self._refused(sender, stream)
            return
        self._at(
            self._latency(),
            lambda: self._give(sender, lambda: sender.core.answered(self.now, stream.token, back)),
        )

    def _refused(self, sender: Peer, stream: OpenStream) -> None:
        self._give(sender, lambda: sender.core.unanswered(self.now, stream.token, "refused"))


def agreed(peers: list[Peer], count: int) -> bool:
    """All of them see `count` members alive."""
    return all(
        sum(state is State.ALIVE for state in peer.states().values()) == count for peer in peers if peer.alive
    )


def known(peers: list[Peer], name: str, state: State) -> bool:
    return all(peer.states().get(name) is state for peer in peers if peer.alive)
