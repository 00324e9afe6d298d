"""What a leader knows of each member, and who takes part: used by raft.py, leader.py and confchange.py.

A follower is in one of three states:
- PROBE: where its log parts from the leader's isn't known; one append at a time until it answers.
- REPLICATE: it follows; appends are sent ahead of its answers, as many as the window holds.
- SNAPSHOT: it is too far behind for the log; nothing is sent until it says where it is, or the snapshot failed.

Everything in (match, next) is under way. The leader tracks itself too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from manager.raft.core.inflights import Inflights
from manager.raft.core.messages import ConfState
from manager.raft.core.quorum import JointConfig, MajorityConfig, VoteResult


class ProgressState(IntEnum):
    """See the module."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2

    def __str__(self) -> str:
        return f"State{self.name.capitalize()}"


class Progress:
    """One member, seen by the leader."""

    __slots__ = (
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(
        self,
        match: int,
        next_: int,
        inflights: Inflights,
        *,
        is_learner: bool = False,
        recent_active: bool = False,
    ) -> None:
        self.match = match
        self.next = next_
        self.sent_commit = 0
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        self.recent_active = recent_active
        self.flow_paused = False
        self.inflights = inflights
        self.is_learner = is_learner

    def clone(self, inflights: Inflights | None = None) -> Progress:
        """A copy; it shares the window unless it is given one."""
        other = Progress(
            self.match,
            self.next,
            self.inflights if inflights is None else inflights,
            is_learner=self.is_learner,
            recent_active=self.recent_active,
        )
        other.sent_commit = self.sent_commit
        other.state = self.state
        other.pending_snapshot = self.pending_snapshot
        other.flow_paused = self.flow_paused
        return other

    def __str__(self) -> str:
        parts = [f"{self.state} match={self.match} next={self.next}"]
        if self.is_learner:
            parts.append("learner")
        if self.paused:
            parts.append("paused")
        if self.pending_snapshot:
            parts.append(f"pendingSnap={self.pending_snapshot}")
        if not self.recent_active:
            parts.append("inactive")
        if self.inflights:
            parts.append(f"inflight={len(self.inflights)}" + ("[full]" if self.inflights.full else ""))
        return " ".join(parts)

    __repr__ = __str__

    @property
    def paused(self) -> bool:
        """Whether nothing may be sent now."""
        return self.state == ProgressState.SNAPSHOT or self.flow_paused

    def _enter(self, state: ProgressState) -> None:
        self.flow_paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        """Starts to look for the place again, behind a snapshot that was on its way."""
        sent = self.pending_snapshot if self.state == ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match, sent) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """The place is known."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """A snapshot at `index` is on its way."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size: int) -> None:
        """An append with so many entries, of so many bytes, was sent."""
        if self.state == ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size)
            # What goes into a full window is a probe: the next one waits for a heartbeat's answer.
            self.flow_paused = self.inflights.full
        elif count:
            self.flow_paused = True

    def can_bump_commit(self, committed: int) -> bool:
        """Whether a message about the commit alone could tell it something new about entries that it has or gets."""
        return committed > self.sent_commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """It has acknowledged `index`; False if that is old."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.flow_paused = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """It has refused the append after `rejected` and may match at `hint`; False if that is old."""
        if self.state == ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.flow_paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True


ProgressMap = dict[int, Progress]


def describe_progress(progress: ProgressMap) -> str:
    """One line for each member, by id."""
    return "".join(f"{id_}: {progress[id_]}\n" for id_ in sorted(progress))


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Who takes part. A voter of the outgoing half that becomes a learner waits in `learners_next`."""

    voters: JointConfig = field(default_factory=JointConfig)
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    def __str__(self) -> str:
        text = f"voters={self.voters}"
        if self.learners:
            text += f" learners={MajorityConfig(self.learners)}"
        if self.learners_next:
            text += f" learners_next={MajorityConfig(self.learners_next)}"
        return text + " autoleave" if self.auto_leave else text

    def conf_state(self) -> ConfState:
        """As snapshots carry it."""
        return ConfState(
            tuple(sorted(self.voters.incoming)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.voters.outgoing)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )


class ProgressTracker:
    """The membership, each member's progress, and the votes of the election that is on."""

    __slots__ = ("config", "ids", "max_inflight", "max_inflight_bytes", "progress", "votes")

    def __init__(self, max_inflight: int, max_inflight_bytes: int = 0) -> None:
        self.max_inflight = max_inflight
        self.max_inflight_bytes = max_inflight_bytes
        self.config = TrackerConfig()
        self.progress: ProgressMap = {}
        self.ids: tuple[int, ...] = ()
        self.votes: dict[int, bool] = {}

    def switch(self, config: TrackerConfig, progress: ProgressMap) -> None:
        """Takes a membership that confchange.py made."""
        self.config = config
        self.progress = progress
        self.ids = tuple(sorted(progress))

    def inflights(self) -> Inflights:
        """An empty window."""
        return Inflights(self.max_inflight, self.max_inflight_bytes)

    def singleton(self) -> bool:
        """Whether one voter decides alone."""
        return len(self.config.voters.incoming) == 1 and not self.config.voters.outgoing

    def _match(self, id_: int) -> int | None:
        progress = self.progress.get(id_)
        return None if progress is None else progress.match

    def committed(self) -> int:
        """The highest index that a quorum has acknowledged."""
        return self.config.voters.committed_index(self._match)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard of since the last look."""
        active = {id_: pr.recent_active for id_, pr in self.progress.items() if not pr.is_learner}
        return self.config.voters.vote_result(active) == VoteResult.WON

    def reset_votes(self) -> None:
        """A new election."""
        self.votes = {}

    def record_vote(self, id_: int, granted: bool) -> None:
        """Takes a vote; only the first one of a member counts."""
        self.votes.setdefault(id_, granted)

    def vote_result(self) -> VoteResult:
        """How the election stands. A learner that doesn't know yet that it is a voter may have voted: it counts as one
        if it is one here."""
        return self.config.voters.vote_result(self.votes)
