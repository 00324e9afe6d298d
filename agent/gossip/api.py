"""The words between the gossip core and its shell: settings, members as others see them, effects and events. Pure."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypeVar

from agent.gossip.messages import Address, State

T = TypeVar("T")


class Randomness(Protocol):
    """What the core needs of `random.Random`; the shell gives the system's, a test a seeded one."""

    def random(self) -> float: ...

    def randrange(self, start: int) -> int: ...

    def randbytes(self, n: int) -> bytes: ...

    def sample(self, population: Sequence[T], k: int) -> list[T]: ...

    def shuffle(self, x: MutableSequence[Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Config:
    """Seconds and counts: memberlist's defaults for a local network, and a few of our own (from `first_push_pull` on)."""

    probe_interval: float = 1.0
    probe_timeout: float = 0.5
    indirect_checks: int = 3
    gossip_interval: float = 0.2
    gossip_nodes: int = 3
    gossip_to_dead: float = 30.0
    push_pull_interval: float = 30.0
    retransmit_mult: int = 4
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    awareness_max: int = 8
    packet_size: int = 1400
    stream_timeout: float = 10.0
    delegate: tuple[int, int, int] = (0, 0, 0)  # versions of those above us: min, max, current
    first_push_pull: float = 1.0  # after a start; the waits grow from here to `push_pull_interval`
    reconnect_interval: float = 2.0  # how often a failed member, or a seed while we are alone, is tried
    forget_after: float = 86_400.0  # a failed or left member is dropped then
    takeover: float = 60.0  # after our start: how long we may take our name over from a former self elsewhere
    stall: float = 1.0  # a tick later than this is our own fault: time stood still for us
    leave_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """This member: `name` is the node's id."""

    name: str
    host: str
    port: int
    meta: bytes = b""


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member as the shell and those above see it."""

    name: str
    address: Address
    meta: bytes
    state: State
    incarnation: int


class Change(Enum):
    """What happened to a member."""

    JOINED = "joined"
    UPDATED = "updated"
    SUSPECTED = "suspected"
    CLEARED = "cleared"  # no longer suspected
    FAILED = "failed"
    LEFT = "left"
    CONFLICT = "conflict"  # another living node claims its name
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class MemberEvent:
    change: Change
    member: MemberView


@dataclass(frozen=True, slots=True)
class UserMessage:
    """Bytes that another member sent to those above us."""

    data: bytes


@dataclass(frozen=True, slots=True)
class UserState:
    """The state of those above another member, from a push/pull."""

    data: bytes
    join: bool


@dataclass(frozen=True, slots=True)
class JoinAnswered:
    """What became of one address of a join: no problem means that states were exchanged."""

    address: Address
    problem: str | None


@dataclass(frozen=True, slots=True)
class Departed:
    """We left, and have told it often enough."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """Of the shell: events were lost because nobody took them; ask `members()`."""


Event: TypeAlias = MemberEvent | UserMessage | UserState | JoinAnswered | Departed | Overflow


@dataclass(frozen=True, slots=True)
class SendPacket:
    address: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Connect, send `data`, read one message, say `answered` or `unanswered` with the token; all within `timeout`."""

    token: int
    address: Address
    data: bytes
    timeout: float


Effect: TypeAlias = SendPacket | OpenStream | Event
