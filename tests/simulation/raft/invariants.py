"""What must hold in every run, looked at whenever a member does something: raises Violation.

It sees what a member has to do (its Work), what leaves it (messages), what it applies, and the disks of all. It trusts
no member: "committed" is checked against the disks of a quorum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from manager.raft.core.messages import (
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from manager.raft.replica import Work

if TYPE_CHECKING:
    from tests.simulation.raft.member import Member

_UNBOUND = frozenset({MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP})
_LEADS = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})


class Violation(Exception):
    """A member did what no member may do."""


def has_quorum(conf: ConfState, have: Collection[int]) -> bool:
    """Whether these members decide: a majority of the voters, in a joint state one of the old ones too."""

    def majority(voters: Sequence[int]) -> bool:
        return sum(1 for id_ in voters if id_ in have) > len(voters) // 2

    return majority(conf.voters) and (not conf.voters_outgoing or majority(conf.voters_outgoing))


def normal(conf: ConfState) -> ConfState:
    """The same with sorted members."""
    return ConfState(
        tuple(sorted(conf.voters)),
        tuple(sorted(conf.learners)),
        tuple(sorted(conf.voters_outgoing)),
        tuple(sorted(conf.learners_next)),
        conf.auto_leave,
    )


def overlaps(before: ConfState, after: ConfState) -> bool:
    """Whether any quorum of the one has a member in any quorum of the other, by the rules of membership changes."""
    old, new = set(before.voters), set(after.voters)
    if before.voters_outgoing and after.voters_outgoing:
        return False
    if after.voters_outgoing:
        return set(after.voters_outgoing) == old
    if before.voters_outgoing:
        return new == old
    return len(old ^ new) <= 1


class Invariants:
    """What is known of all members together; `members` is the simulation's, by id."""

    def __init__(self, members: Mapping[int, Member], first: Snapshot) -> None:
        self.members = members
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        # Every entry that was ever in a log, by index and term, with the term of the entry before it.
        self.written: dict[tuple[int, int], tuple[Entry, int]] = {}
        self.base = first.metadata.index
        self.committed: list[Entry] = []
        # Last indexes that were committed in a term, with the term, ascending.
        self.commits: list[tuple[int, int]] = []
        self.confs: dict[int, ConfState] = {self.base: normal(first.metadata.conf_state)}
        self.conf = self.confs[self.base]
        self.snapshots: dict[int, bytes] = {self.base: first.data}
        self.acknowledged = 0
        self.payloads: dict[bytes, int] = {}

    @property
    def last(self) -> int:
        """Index of the last entry known to be committed."""
        return self.base + len(self.committed)

    # -- work -------------------------------------------------------------------------------------------------------

    def work(self, m: Member, work: Work) -> None:
        """A member has something to do; `m` still knows the state of the last time, its disk holds all until then."""
        hard = work.state or m.hard_state
        if hard is not m.hard_state:
            self._hard_state(m, m.hard_state, hard)
        if work.snapshot is not None:
            self._foreign_snapshot(m, work.snapshot)
        if work.entries:
            self._entries(m, work)
        if m.leads:
            self._leader(m, hard, work)
        for committed in work.committed:
            entry = committed.entry
            place = entry.index - self.base - 1
            if place < len(self.committed):
                known = self.committed[place]
                if known is not entry and known != entry:
                    raise Violation(f"{m.id} commits {entry}, another one committed {known}")
            else:
                self._commit(m, entry, hard.term)

    def _hard_state(self, m: Member, old: HardState, new: HardState) -> None:
        if new.term < old.term or new.commit < old.commit:
            raise Violation(f"{m.id} goes back from {old} to {new}")
        if new.term == old.term and old.vote and new.vote != old.vote:
            raise Violation(f"{m.id} changes its vote in term {new.term}: {old.vote}, then {new.vote}")

    def _foreign_snapshot(self, m: Member, snapshot: Snapshot) -> None:
        index = snapshot.metadata.index
        if index <= m.hard_state.commit:
            raise Violation(f"{m.id} takes a snapshot at {index}, {m.hard_state.commit} is committed")
        if snapshot.data != self.snapshots.get(index):
            raise Violation(f"{m.id} takes a snapshot at {index} that nobody made so")
        if index > self.base and self.committed[index - self.base - 1].term != snapshot.metadata.term:
            raise Violation(f"{m.id} takes a snapshot at {index} of term {snapshot.metadata.term}")
        expected = self.conf_at(index)
        if normal(snapshot.metadata.conf_state) != expected:
            raise Violation(f"the snapshot at {index} has {snapshot.metadata.conf_state}, not {expected}")

    def conf_at(self, index: int) -> ConfState:
        """The membership once that entry is applied."""
        return self.confs[max(place for place in self.confs if place <= index)]

    def _entries(self, m: Member, work: Work) -> None:
        """Log matching, and nothing committed is replaced."""
        first = work.entries[0].index
        if work.snapshot is not None:
            end, previous = work.snapshot.metadata.index, work.snapshot.metadata.term
        else:
            end = m.disk.last_index
            if first > end + 1:
                raise Violation(f"{m.id} leaves a gap between {end} and {first}")
            previous = m.disk.term(first - 1)
            if first <= end:
                self._replaced(m, first, end, work.entries)
        if work.snapshot is not None and first != end + 1:
            raise Violation(f"{m.id} puts {first} after its snapshot at {end}")
        written = self.written
        for entry in work.entries:
            if entry.term < previous:
                raise Violation(f"{m.id} has term {entry.term} at {entry.index} after term {previous}")
            known = written.get((entry.index, entry.term))
            if known is None:
                written[entry.index, entry.term] = (entry, previous)
            elif known[1] != previous or (known[0] is not entry and known[0] != entry):
                raise Violation(
                    f"logs don't match: {m.id} has {entry} after term {previous}, another one has {known}"
                )
            previous = entry.term

    def _replaced(self, m: Member, first: int, end: int, entries: Sequence[Entry]) -> None:
        if first <= m.hard_state.commit:
            raise Violation(
                f"{m.id} replaces {first}, though it knows that {m.hard_state.commit} is committed"
            )
        for index in range(first, min(end, self.last) + 1):
            right = self.committed[index - self.base - 1].term
            place = index - first
            kept = place < len(entries) and entries[place].term == right
            if m.disk.term(index) == right and not kept:
                raise Violation(f"{m.id} drops {index}, which is committed")

    # -- leaders ----------------------------------------------------------------------------------------------------

    def _leader(self, m: Member, hard: HardState, work: Work) -> None:
        if m.led_term != hard.term:
            self._elected(m, hard, work)
            m.led_term = hard.term
        else:
            if hard.commit > m.hard_state.commit:
                self._leader_commits(m, hard, work)
            self._changes_one_by_one(m, work)

    def _elected(self, m: Member, hard: HardState, work: Work) -> None:
        self._leads(m.id, hard.term)
        if not any(
            has_quorum(
                conf,
                {id_ for id_ in self.members if self.votes.get((id_, hard.term)) == m.id} | {m.id},
            )
            for conf in m.confs
        ):
            raise Violation(f"{m.id} leads term {hard.term} without the votes of a quorum of {m.confs[-1]}")
        for index, term in reversed(self.commits):
            if term < hard.term:
                right = self.committed[index - self.base - 1].term
                if not self._has(m, work, index, right):
                    raise Violation(
                        f"{m.id} leads term {hard.term} without {index}, committed in term {term}"
                    )
                return

    @staticmethod
    def _term(m: Member, work: Work, index: int) -> int:
        """The term of an entry in the log of a member as its work makes it; 0 if it is compacted or missing."""
        if work.entries and index >= work.entries[0].index:
            place = index - work.entries[0].index
            return work.entries[place].term if place < len(work.entries) else 0
        return m.disk.term(index)

    def _has(self, m: Member, work: Work, index: int, term: int) -> bool:
        return index <= m.disk.snapshot.metadata.index or self._term(m, work, index) == term

    def _leads(self, id_: int, term: int) -> None:
        other = self.leaders.setdefault(term, id_)
        if other != id_:
            raise Violation(f"two leaders in term {term}: {other} and {id_}")

    def _leader_commits(self, m: Member, hard: HardState, work: Work) -> None:
        term = self._term(m, work, hard.commit)
        if term != hard.term:
            raise Violation(f"{m.id} commits {hard.commit} of term {term} in term {hard.term} by counting")
        holders = {id_ for id_, other in self.members.items() if other.disk.holds(hard.commit, term)}
        if not any(has_quorum(conf, holders) for conf in m.confs):
            raise Violation(
                f"{m.id} commits {hard.commit}, which only {sorted(holders)} hold of {m.confs[-1]}"
            )

    def _changes_one_by_one(self, m: Member, work: Work) -> None:
        """A leader proposes no change of membership while another one isn't applied."""
        for entry in work.entries:
            if entry.type == EntryType.NORMAL:
                continue
            for index in range(m.handed + 1, entry.index):
                other = self.written.get((index, self._term(m, work, index)))
                if other is not None and other[0].type != EntryType.NORMAL:
                    raise Violation(f"{m.id} changes the membership at {entry.index}, {index} isn't applied")

    # -- commit and apply -------------------------------------------------------------------------------------------

    def _commit(self, m: Member, entry: Entry, term: int) -> None:
        if entry.index != self.last + 1:
            raise Violation(f"{m.id} commits {entry.index} after {self.last}")
        if entry.data and entry.type == EntryType.NORMAL:
            other = self.payloads.setdefault(entry.data, entry.index)
            if other != entry.index:
                raise Violation(f"{entry.data!r} is committed twice, at {other} and {entry.index}")
        self.committed.append(entry)
        if self.commits and self.commits[-1][1] == term:
            self.commits.pop()
        if not self.commits or self.commits[-1][1] < term:
            self.commits.append((entry.index, term))

    def handed(self, m: Member, entry: Entry) -> None:
        """A member hands an entry on to be applied."""
        if entry.index != m.handed + 1:
            raise Violation(f"{m.id} hands on {entry.index} after {m.handed}")

    def membership(self, m: Member, index: int, conf: ConfState) -> None:
        """A member has applied a change of membership."""
        known = self.confs.setdefault(index, conf)
        if known != conf:
            raise Violation(f"at {index} {m.id} has {conf}, others {known}")
        if known is conf:
            if not overlaps(self.conf, conf):
                raise Violation(f"memberships without overlap at {index}: {self.conf}, then {conf}")
            self.conf = conf

    def own_snapshot(self, m: Member, index: int, data: bytes) -> None:
        """A member has made a snapshot."""
        if self.snapshots.setdefault(index, data) != data:
            raise Violation(f"at {index} {m.id} holds {data!r}, others {self.snapshots[index]!r}")

    # -- messages and reads -----------------------------------------------------------------------------------------

    def leaves(self, m: Member, message: Message) -> None:
        """A message leaves a member: what it promises must be safe."""
        type_, term, disk = message.type, message.term, m.disk.hard_state
        if type_ in _UNBOUND or not term:
            return
        if disk.term < term:
            raise Violation(f"{m.id} says {type_.name} in term {term}, its disk holds {disk.term}")
        if type_ in _LEADS:
            if self.leaders.get(term) != m.id:
                self._leads(m.id, term)
        elif type_ == MessageType.VOTE:
            self._votes(m, m.id, term)
        elif message.reject:
            return
        elif type_ == MessageType.VOTE_RESP:
            self._votes(m, message.to, term)
        elif type_ == MessageType.APP_RESP and disk.term == term and m.disk.last_index < message.index:
            raise Violation(f"{m.id} acknowledges {message.index}, its disk ends at {m.disk.last_index}")

    def _votes(self, m: Member, candidate: int, term: int) -> None:
        other = self.votes.setdefault((m.id, term), candidate)
        if other != candidate:
            raise Violation(f"{m.id} votes twice in term {term}: for {other} and for {candidate}")
        disk = m.disk.hard_state
        if disk.term == term and disk.vote != candidate:
            raise Violation(f"{m.id} says a vote for {candidate}, its disk holds {disk.vote}")

    def restarted(self, m: Member) -> None:
        """A member starts again: what it ever said was safe, so that it can't have been lost."""
        said = self.votes.get((m.id, m.hard_state.term))
        if said is not None and m.hard_state.vote != said:
            raise Violation(f"{m.id} has forgotten its vote for {said} in term {m.hard_state.term}")

    def read(self, m: Member, floor: int, index: int) -> None:
        """A member may read at `index`; when it asked, `floor` had been acknowledged to somebody."""
        if index < floor:
            raise Violation(f"{m.id} reads at {index}, but {floor} was acknowledged before")
