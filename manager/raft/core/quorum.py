"""Majorities: what is committed and who has won, in one set of voters or in two at once (joint).

Used by progress.py, which knows who acknowledged what; pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum

from manager.raft.core.messages import NO_LIMIT

Acked = Callable[[int], int | None]
"""The last index that a voter has acknowledged, None if it never did."""


class VoteResult(IntEnum):
    """How an election stands."""

    PENDING = 1
    LOST = 2
    WON = 3


class MajorityConfig(frozenset[int]):
    """Voters of whom more than half decide. An empty one agrees to everything, so that a joint one may have an empty half."""

    __slots__ = ()

    def __str__(self) -> str:
        return "(" + " ".join(map(str, sorted(self))) + ")"

    def committed_index(self, acked: Acked) -> int:
        """The highest index that a majority has acknowledged."""
        if not self:
            return NO_LIMIT
        indexes = sorted([acked(id_) or 0 for id_ in self])
        return indexes[(len(indexes) - 1) // 2]

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """The result of the votes so far; votes of others than these voters don't count."""
        if not self:
            return VoteResult.WON
        granted = missing = 0
        for id_ in self:
            vote = votes.get(id_)
            if vote is None:
                missing += 1
            elif vote:
                granted += 1
        needed = len(self) // 2 + 1
        if granted >= needed:
            return VoteResult.WON
        return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST

    def describe(self, acked: Acked) -> str:
        """A picture of who has acknowledged how much, one voter a line."""
        if not self:
            return "<empty majority quorum>"
        size = len(self)
        known = {id_: acked(id_) for id_ in self}
        order = sorted(self, key=lambda id_: (known[id_] or 0, id_))
        bars: dict[int, int] = {}
        for place, id_ in enumerate(order):
            higher = place > 0 and (known[order[place - 1]] or 0) < (known[id_] or 0)
            bars[id_] = place if higher else 0
        lines = [" " * size + "    idx"]
        for id_ in sorted(self):
            bar = "?" + " " * size if known[id_] is None else "x" * bars[id_] + ">" + " " * (size - bars[id_])
            lines.append(f"{bar} {known[id_] or 0:5d}    (id={id_})")
        return "\n".join(lines) + "\n"


class JointConfig:
    """Two majorities that must both agree while the membership changes; usually the outgoing one is empty."""

    __slots__ = ("incoming", "outgoing")

    def __init__(self, incoming: Iterable[int] = (), outgoing: Iterable[int] = ()) -> None:
        self.incoming = MajorityConfig(incoming)
        self.outgoing = MajorityConfig(outgoing)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JointConfig):
            return NotImplemented
        return self.incoming == other.incoming and self.outgoing == other.outgoing

    def __hash__(self) -> int:
        return hash((self.incoming, self.outgoing))

    def __str__(self) -> str:
        return f"{self.incoming}&&{self.outgoing}" if self.outgoing else str(self.incoming)

    __repr__ = __str__

    @property
    def joint(self) -> bool:
        """Whether both halves count."""
        return bool(self.outgoing)

    def ids(self) -> frozenset[int]:
        """Every voter of either half."""
        return self.incoming | self.outgoing if self.outgoing else self.incoming

    def committed_index(self, acked: Acked) -> int:
        """The highest index that majorities of both have acknowledged."""
        incoming = self.incoming.committed_index(acked)
        return min(incoming, self.outgoing.committed_index(acked)) if self.outgoing else incoming

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Won if both are won, lost if either is."""
        results = {self.incoming.vote_result(votes), self.outgoing.vote_result(votes)}
        if len(results) == 1:
            return results.pop()
        return VoteResult.LOST if VoteResult.LOST in results else VoteResult.PENDING

    def describe(self, acked: Acked) -> str:
        """A picture of all voters."""
        return MajorityConfig(self.ids()).describe(acked)
