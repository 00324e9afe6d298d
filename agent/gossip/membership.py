"""Who is there: the rules by which news about members are believed. Pure; swim.py and probing.py call it.

| news | about another | about ourselves |
|---|---|---|
| alive | believed with a higher incarnation; from a new address only of a failed or left member | refuted if it isn't what we are |
| suspect | of a living one: its suspicion starts, or is confirmed | refuted with incarnation + 1 |
| dead | of one not yet dead; from itself it means left | refuted, unless we leave |

Only its owner raises an incarnation. "Dead" from a push/pull counts as a suspicion only: its sender may be the one that
was cut off. What is believed is passed on. (Das, Gupta, Motivala: SWIM, 2002, section 4.2.)

A node that starts again with another address finds its former self: for `takeover` seconds after the start it may say "I left"
about it, which lets everybody accept the new address at once (`former` below; swim.py sends it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from agent.gossip.api import Change, Config, Identity, MemberEvent, MemberView
from agent.gossip.awareness import Awareness
from agent.gossip.broadcasts import Broadcasts
from agent.gossip.messages import (
    MAX_META,
    MAX_U32,
    Address,
    Alive,
    Dead,
    NodeState,
    State,
    Suspect,
    encode,
    host_of,
    raw_address,
)
from agent.gossip.suspicion import Suspicion, shortest_suspicion

PROTOCOL: Final = (1, 5, 2)  # min, max, and the one we speak
MAX_MEMBERS: Final = 10_000
CONFLICT_EVERY: Final = 60.0
LIVING: Final = (State.ALIVE, State.SUSPECT)
GONE: Final = (State.DEAD, State.LEFT)


@dataclass(slots=True)
class Member:
    """One that we know of. `changed` is when it took this state."""

    name: str
    addr: bytes
    port: int
    address: Address
    meta: bytes
    vsn: bytes
    incarnation: int
    state: State
    changed: float
    suspicion: Suspicion | None = None
    conflict_told: float = float("-inf")
    verdict_told: float = float("-inf")  # when it was last told that we hold it dead

    @property
    def living(self) -> bool:
        return self.state in LIVING

    def speaks(self, protocol: int) -> bool:
        return len(self.vsn) >= 2 and self.vsn[1] >= protocol

    def view(self) -> MemberView:
        return MemberView(self.name, self.address, self.meta, self.state, self.incarnation)

    def alive(self) -> Alive:
        return Alive(self.incarnation, self.name, self.addr, self.port, self.meta, self.vsn)

    def recorded(self) -> NodeState:
        return NodeState(
            self.name, self.addr, self.port, self.meta, self.incarnation, int(self.state), self.vsn
        )


class Membership:
    """All members, ourselves among them."""

    def __init__(
        self,
        config: Config,
        me: Identity,
        now: float,
        broadcasts: Broadcasts,
        awareness: Awareness,
        emit: Callable[[MemberEvent], None],
    ) -> None:
        if len(me.meta) > MAX_META:
            raise ValueError(f"{len(me.meta)} bytes of meta data; {MAX_META} is the most")
        addr = raw_address(me.host)
        vsn = bytes((*PROTOCOL, *config.delegate))
        self.me = Member(me.name, addr, me.port, (host_of(addr), me.port), me.meta, vsn, 1, State.ALIVE, now)
        self.members: dict[str, Member] = {me.name: self.me}
        self.living = 1
        self.left = False
        self.returned = False  # somebody that was gone is back, since this was last looked at
        self.former: int | None = None  # the incarnation of a former self of ours elsewhere, to be taken over
        self._config = config
        self._broadcasts = broadcasts
        self._awareness = awareness
        self._emit = emit
        self._started = now
        self._suspects: dict[str, Member] = {}
        self._at: dict[Address, Member] = {self.me.address: self.me}

    # ---- what others ask

    def at(self, address: Address) -> Member | None:
        return self._at.get(address)

    def others(self) -> Iterable[Member]:
        return (member for member in self.members.values() if member is not self.me)

    def states(self) -> tuple[NodeState, ...]:
        """For a push/pull."""
        return tuple(member.recorded() for member in self.members.values())

    def next_deadline(self) -> float | None:
        return min((m.suspicion.deadline for m in self._suspects.values() if m.suspicion), default=None)

    # ---- news

    def alive(self, now: float, news: Alive) -> None:
        if not _compatible(news.vsn) or not news.node:
            return
        address = (host_of(news.addr), news.port)
        if news.node == self.me.name:
            self._alive_me(now, news, address)
            return
        member = self.members.get(news.node)
        new = member is None
        if member is None:
            if len(self.members) >= MAX_MEMBERS:
                return
            member = Member(news.node, news.addr, news.port, address, b"", b"", -1, State.DEAD, now)
            self.members[news.node] = member
        moved = member.address != address
        if moved and member.state not in GONE:
            self._conflict(now, member)
            return
        if news.incarnation <= member.incarnation and not moved:
            return
        before, meta = member.state, member.meta
        self._move(member, news, address)
        member.incarnation = news.incarnation
        member.meta = news.meta
        member.vsn = news.vsn or member.vsn
        self._broadcasts.queue(member.name, encode(member.alive()))
        self._become(now, member, State.ALIVE)
        if before in GONE:
            self.returned = self.returned or not new
            self._tell(Change.JOINED, member)
        else:
            if before is State.SUSPECT:
                self._tell(Change.CLEARED, member)
            if meta != member.meta:
                self._tell(Change.UPDATED, member)

    def suspect(self, now: float, news: Suspect) -> None:
        member = self.members.get(news.node)
        if member is None or news.incarnation < member.incarnation:
            return
        if member is self.me:
            self._refute(news.incarnation)
            return
        if member.suspicion:
            if member.suspicion.confirm(news.sender):
                self._broadcasts.queue(member.name, encode(news))
            return
        if member.state is not State.ALIVE:
            return
        self._broadcasts.queue(member.name, encode(news))
        member.incarnation = news.incarnation
        self._become(now, member, State.SUSPECT)
        member.suspicion = self._suspicion(now, news.sender)
        self._suspects[member.name] = member
        self._tell(Change.SUSPECTED, member)

    def dead(self, now: float, news: Dead) -> None:
        member = self.members.get(news.node)
        if member is None or news.incarnation < member.incarnation or member.state in GONE:
            return
        if member is self.me and not self.left:
            self._refute(news.incarnation)
            return
        self._broadcasts.queue(member.name, encode(news))
        member.incarnation = news.incarnation
        left = news.node == news.sender
        self._become(now, member, State.LEFT if left else State.DEAD)
        self._tell(Change.LEFT if left else Change.FAILED, member)

    def learn(self, now: float, node: NodeState) -> None:
        """What another member holds of one, from a push/pull."""
        if node.state == State.ALIVE:
            self.alive(now, Alive(node.incarnation, node.name, node.addr, node.port, node.meta, node.vsn))
            return
        if node.name == self.me.name:
            self._meet_former(now, node.incarnation, (host_of(node.addr), node.port))
        if node.state == State.LEFT:
            self.dead(now, Dead(node.incarnation, node.name, node.name))
        else:
            self.suspect(now, Suspect(node.incarnation, node.name, self.me.name))

    # ---- time

    def tick(self, now: float) -> None:
        """Suspects whose time is over are dead."""
        for member in list(self._suspects.values()):
            if member.suspicion and member.suspicion.deadline <= now:
                self.dead(now, Dead(member.incarnation, member.name, self.me.name))

    def shift(self, seconds: float) -> None:
        """Time stood still for us so long: suspects get it back."""
        for member in self._suspects.values():
            if member.suspicion:
                member.suspicion.start += seconds

    def forget(self, now: float) -> None:
        """Those who have been gone for long are dropped."""
        for member in list(self.others()):
            if member.state in GONE and now - member.changed > self._config.forget_after:
                del self.members[member.name]
                self._unindex(member)
                self._tell(Change.FORGOTTEN, member)

    # ---- ourselves

    def announce(self) -> None:
        """We are as we are: to everybody."""
        self._broadcasts.queue(self.me.name, encode(self.me.alive()))

    def set_meta(self, meta: bytes) -> None:
        if len(meta) > MAX_META:
            raise ValueError(f"{len(meta)} bytes of meta data; {MAX_META} is the most")
        if meta != self.me.meta:
            self.me.meta = meta
            self._raise(self.me.incarnation)
            self.announce()

    def leave(self, now: float) -> None:
        self.left = True
        self.dead(now, Dead(self.me.incarnation, self.me.name, self.me.name))

    def _alive_me(self, now: float, news: Alive, address: Address) -> None:
        if self.left:
            return
        if address != self.me.address:
            self._meet_former(now, news.incarnation, address)
            return
        same = (news.meta, news.vsn) == (self.me.meta, self.me.vsn)
        if news.incarnation > self.me.incarnation or (news.incarnation == self.me.incarnation and not same):
            self._refute(news.incarnation)

    def _meet_former(self, now: float, incarnation: int, address: Address) -> None:
        """Somebody knows our name at another address."""
        if self.left or address == self.me.address:
            return
        if incarnation >= self.me.incarnation:
            self._raise(incarnation)
        if now - self._started <= self._config.takeover:
            self.former = incarnation
        else:
            self._conflict(now, self.me)

    def _refute(self, accused: int) -> None:
        if self.left:
            return
        self._raise(accused)
        self._awareness.apply(1)
        self.announce()

    def _raise(self, above: int) -> None:
        self.me.incarnation = min(MAX_U32, max(self.me.incarnation, above) + 1)

    # ---- bookkeeping

    def _suspicion(self, now: float, accuser: str) -> Suspicion:
        expected = self._config.suspicion_mult - 2
        if self.living - 2 < expected:
            expected = 0
        shortest = shortest_suspicion(self._config.suspicion_mult, self.living, self._config.probe_interval)
        longest = shortest * self._config.suspicion_max_mult
        return Suspicion(now, accuser, expected, shortest, longest)

    def _become(self, now: float, member: Member, state: State) -> None:
        self._suspects.pop(member.name, None)
        member.suspicion = None
        if member.state is state:
            return
        self.living += (state in LIVING) - member.living
        member.state = state
        member.changed = now

    def _move(self, member: Member, news: Alive, address: Address) -> None:
        self._unindex(member)
        member.addr, member.port, member.address = news.addr, news.port, address
        if address != self.me.address:
            self._at[address] = member

    def _unindex(self, member: Member) -> None:
        if self._at.get(member.address) is member:
            del self._at[member.address]

    def _conflict(self, now: float, member: Member) -> None:
        if now - member.conflict_told >= CONFLICT_EVERY:
            member.conflict_told = now
            self._tell(Change.CONFLICT, member)

    def _tell(self, change: Change, member: Member) -> None:
        self._emit(MemberEvent(change, member.view()))


def _compatible(vsn: bytes) -> bool:
    """Others drop an alive whose protocol range is empty or zero, in silence; so do we."""
    if len(vsn) < 3:
        return True
    low, high = vsn[0], vsn[1]
    return 0 < low <= high and low <= PROTOCOL[1] and high >= PROTOCOL[0]
