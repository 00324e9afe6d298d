"""One member's state machine: terms, votes, time, membership. What each role does with messages is in leader.py and
follower.py, voting in election.py; node.py is the face to the outside.

Messages wait in two queues. Those in `messages` may go at once. Those in `after_append` promise something that must
be stable first (a vote, an acknowledged append), also towards the member itself: node.py sends them after the
entries of the same Ready are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from manager.raft.core import election, follower, leader
from manager.raft.core.confchange import Changer, Membership, restore
from manager.raft.core.config import Config
from manager.raft.core.errors import Inconsistent, ProposalDropped
from manager.raft.core.log import RaftLog
from manager.raft.core.messages import (
    AFTER_APPEND,
    NO_LIMIT,
    NOBODY,
    TRANSFER,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Role,
    Snapshot,
    SoftState,
    payloads_size,
)
from manager.raft.core.progress import Progress, ProgressTracker
from manager.raft.core.read_only import ReadOnly
from manager.raft.core.storage import Storage

_FROM_LEADER: Final = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
_OF_NO_TERM: Final = frozenset({MessageType.PROP, MessageType.READ_INDEX})


class Raft:
    """See the module."""

    __slots__ = (
        "_random",
        "_step",
        "after_append",
        "config",
        "election_elapsed",
        "heartbeat_elapsed",
        "id",
        "is_learner",
        "lead",
        "lead_transferee",
        "log",
        "messages",
        "pending_conf_index",
        "pending_reads",
        "randomized_election_timeout",
        "read_only",
        "read_states",
        "say",
        "state",
        "term",
        "tracker",
        "uncommitted_size",
        "vote",
    )

    def __init__(self, config: Config, storage: Storage) -> None:
        self.config = config
        self.id = config.id
        self.say: Callable[[str], None] = config.log or (lambda text: None)
        self.term = 0
        self.vote = NOBODY
        self.lead = NOBODY
        self.state = Role.FOLLOWER
        self.is_learner = False
        self.lead_transferee = NOBODY
        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.read_only = ReadOnly()
        self.pending_reads: list[Message] = []
        self.pending_conf_index = 0  # a leader proposes no change of membership before this entry is applied
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0
        self._random = config.random
        self._step: Callable[[Raft, Message], None] = follower.step_follower
        self.log = RaftLog(storage, config.max_committed_size_per_ready or config.max_size_per_msg)
        self.tracker = ProgressTracker(config.max_inflight_msgs, config.max_inflight_bytes)
        hard_state, conf_state = storage.initial_state()
        self.switch(restore(self.tracker, self.log.last_index(), conf_state))
        if hard_state != HardState():
            self._load(hard_state)
        if config.applied:
            self.log.applied_to(config.applied, 0)
        self.become_follower(self.term, NOBODY)

    def _load(self, saved: HardState) -> None:
        if not self.log.committed <= saved.commit <= self.log.last_index():
            raise Inconsistent(
                f"the saved commit {saved.commit} is out of range [{self.log.committed}, {self.log.last_index()}]"
            )
        self.log.committed = saved.commit
        self.term = saved.term
        self.vote = saved.vote

    # -- looking -------------------------------------------------------------------------------------------------

    def hard_state(self) -> HardState:
        """What must not be forgotten, now."""
        return HardState(self.term, self.vote, self.log.committed)

    def soft_state(self) -> SoftState:
        """What may be forgotten, now."""
        return SoftState(self.lead, self.state)

    def promotable(self) -> bool:
        """Whether it may stand for election: it is a voter, and no snapshot waits to be applied."""
        own = self.tracker.progress.get(self.id)
        return own is not None and not own.is_learner and self.log.unstable.snapshot is None

    def committed_in_term(self) -> bool:
        """Whether something of this term is committed: only then a leader knows what is committed."""
        return self.log.term_or_zero(self.log.committed) == self.term

    # -- saying --------------------------------------------------------------------------------------------------

    def send(
        self,
        type_: MessageType,
        to: int,
        *,
        term: int | None = None,
        index: int = 0,
        log_term: int = 0,
        entries: tuple[Entry, ...] = (),
        commit: int = 0,
        snapshot: Snapshot | None = None,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
    ) -> None:
        """Queues a message of the current term, or of the given one."""
        message = Message(
            type_,
            to,
            self.id,
            self.term if term is None else term,
            log_term,
            index,
            entries,
            commit,
            NOBODY,
            snapshot,
            reject,
            reject_hint,
            context,
        )
        if type_ in AFTER_APPEND:
            self.after_append.append(message)
        else:
            self.messages.append(message)

    def pass_on(self, message: Message, to: int) -> None:
        """Queues somebody's request for another member. Proposals and reads belong to no term."""
        term = 0 if message.type in _OF_NO_TERM else self.term
        self.messages.append(replace(message, to=to, from_=message.from_ or self.id, term=term))

    # -- time ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Time goes on by one tick."""
        if self.state == Role.LEADER:
            self._tick_leader()
            return
        self.election_elapsed += 1
        if self.promotable() and self.election_elapsed >= self.randomized_election_timeout:
            self.election_elapsed = 0
            self.step(Message(MessageType.HUP, from_=self.id))

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        self.election_elapsed += 1
        if self.election_elapsed >= self.config.election_tick:
            self.election_elapsed = 0
            if self.config.check_quorum:
                self.step(Message(MessageType.CHECK_QUORUM, from_=self.id))
            # A transfer that takes longer than an election is given up.
            if self.state == Role.LEADER:
                self.lead_transferee = NOBODY
        if self.state == Role.LEADER and self.heartbeat_elapsed >= self.config.heartbeat_tick:
            self.heartbeat_elapsed = 0
            self.step(Message(MessageType.BEAT, from_=self.id))

    # -- roles ---------------------------------------------------------------------------------------------------

    def _reset(self, term: int) -> None:
        if self.term != term:
            self.term = term
            self.vote = NOBODY
        self.lead = NOBODY
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = self.config.election_tick + self._random(self.config.election_tick)
        self.lead_transferee = NOBODY
        self.tracker.reset_votes()
        last = self.log.last_index()
        progress = self.tracker.progress
        for id_, old in progress.items():
            progress[id_] = Progress(
                last if id_ == self.id else 0, last + 1, self.tracker.inflights(), is_learner=old.is_learner
            )
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()

    def become_follower(self, term: int, lead: int) -> None:
        """Follows `lead`, or waits for one."""
        self._step = follower.step_follower
        self._reset(term)
        self.lead = lead
        self.state = Role.FOLLOWER
        self.say(
            f"{self.id:x} follows {lead:x} in term {term}" if lead else f"{self.id:x} follows in term {term}"
        )

    def become_candidate(self) -> None:
        """Begins a new term and votes for itself."""
        if self.state == Role.LEADER:
            raise Inconsistent("a leader can't become a candidate")
        self._step = follower.step_candidate
        self._reset(self.term + 1)
        self.vote = self.id
        self.state = Role.CANDIDATE
        self.say(f"{self.id:x} is a candidate in term {self.term}")

    def become_pre_candidate(self) -> None:
        """Asks whether it would win; that changes neither term nor vote."""
        if self.state == Role.LEADER:
            raise Inconsistent("a leader can't become a candidate")
        self._step = follower.step_candidate
        self.tracker.reset_votes()
        self.lead = NOBODY
        self.state = Role.PRE_CANDIDATE
        self.say(f"{self.id:x} asks for an election after term {self.term}")

    def become_leader(self) -> None:
        """Leads, and begins its term with an empty entry."""
        if self.state == Role.FOLLOWER:
            raise Inconsistent("a follower can't become leader")
        self._step = leader.step_leader
        self._reset(self.term)
        self.lead = self.id
        self.state = Role.LEADER
        own = self.tracker.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # There may be changes of membership in the log that aren't applied; the empty entry is behind them.
        self.pending_conf_index = self.log.last_index()
        self.append((Entry(),))
        self.say(f"{self.id:x} leads in term {self.term}")

    # -- the log -------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> bool:
        """A leader's new entries, numbered here; False if too much is uncommitted already."""
        size = payloads_size(entries)
        limit = self.config.max_uncommitted_entries_size or NO_LIMIT
        # What has no data always fits, and one entry of any size does when nothing else waits.
        if self.uncommitted_size > 0 and size > 0 and self.uncommitted_size + size > limit:
            return False
        self.uncommitted_size += size
        index = self.log.last_index()
        term = self.term
        last = self.log.append([Entry(n, term, e.type, e.data) for n, e in enumerate(entries, index + 1)])
        # The leader acknowledges its own entries too, once they are stable.
        self.send(MessageType.APP_RESP, self.id, index=last)
        return True

    def maybe_commit(self) -> bool:
        """Commits what a quorum holds."""
        return self.log.maybe_commit(self.tracker.committed(), self.term)

    def entries_stable(self, term: int, index: int, log_term: int) -> None:
        """What was handed out in that term is written, up to this entry. Written in an older term, it may have been
        replaced since, even by the same: then it doesn't count."""
        if term == self.term and index:
            self.log.unstable.stable_to(index, log_term)

    def snapshot_stable(self, index: int) -> None:
        """A snapshot is written and applied."""
        self.log.unstable.stable_snapshot_to(index)
        self.applied_to(index, 0)

    def entries_applied(self, entries: Sequence[Entry], size: int) -> None:
        """Entries, of that encoded size, are applied."""
        self.applied_to(entries[-1].index, size)
        self.uncommitted_size = max(self.uncommitted_size - payloads_size(entries), 0)

    def applied_to(self, index: int, size: int) -> None:
        """Everything up to `index` is applied; a leader then leaves a joint state if it is to do that by itself."""
        index = max(index, self.log.applied)
        self.log.applied_to(index, size)
        if self.tracker.config.auto_leave and index >= self.pending_conf_index and self.state == Role.LEADER:
            # Without data, which means "leave", it is never refused for its size. A transfer under way refuses it:
            # it is tried again at the next applied entry, here or by the next leader.
            try:
                self.step(Message(MessageType.PROP, entries=(Entry(type=EntryType.CONF_CHANGE_V2),)))
            except ProposalDropped as exc:
                self.say(f"{self.id:x} does not leave {self.tracker.config} yet: {exc}")

    # -- messages ------------------------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Takes a message; one without a term is local, or belongs to none. Raises ProposalDropped."""
        if message.term > self.term and message.term:
            if not self._newer_term(message):
                return
        elif message.term < self.term and message.term:
            self._older_term(message)
            return
        if message.type == MessageType.HUP:
            election.hup(self, MessageType.PRE_VOTE if self.config.pre_vote else MessageType.VOTE)
        elif message.type in election.ANSWERS:
            election.answer_vote(self, message)
        else:
            self._step(self, message)

    def _newer_term(self, message: Message) -> bool:
        """Goes to a newer term if the message calls for it; False if it is to be ignored."""
        type_ = message.type
        if type_ in election.ANSWERS and message.context != TRANSFER:
            # Who hears its leader doesn't help to depose it.
            hears = self.lead != NOBODY and self.election_elapsed < self.config.election_tick
            if self.config.check_quorum and hears:
                return False
        # Neither asking nor being told "you would win" changes the term.
        if type_ == MessageType.PRE_VOTE or (type_ == MessageType.PRE_VOTE_RESP and not message.reject):
            return True
        self.become_follower(message.term, message.from_ if type_ in _FROM_LEADER else NOBODY)
        return True

    def _older_term(self, message: Message) -> None:
        if (self.config.check_quorum or self.config.pre_vote) and message.type in (
            MessageType.HEARTBEAT,
            MessageType.APP,
        ):
            # A leader whom this member doesn't obey any more would never hear of the newer term otherwise: votes for
            # it are ignored while others hear the leader. This makes it step down.
            self.send(MessageType.APP_RESP, message.from_)
        elif message.type == MessageType.PRE_VOTE:
            # Tells it the newer term: else a candidate with a higher term but a shorter log and one with a lower term
            # could block each other.
            self.send(MessageType.PRE_VOTE_RESP, message.from_, reject=True)

    # -- membership ----------------------------------------------------------------------------------------------

    def apply_conf_change(self, change: ConfChangeV2) -> ConfState:
        """Takes a committed change into effect; raises ConfChangeRefused and changes nothing."""
        changer = Changer(self.tracker, self.log.last_index())
        if change.leaves_joint:
            made = changer.leave_joint()
        elif change.enters_joint:
            made = changer.enter_joint(change.auto_leave, change.changes)
        else:
            made = changer.simple(change.changes)
        return self.switch(made)

    def switch(self, made: Membership) -> ConfState:
        """Takes a membership into effect."""
        self.tracker.switch(*made)
        config = self.tracker.config
        conf_state = config.conf_state()
        self.say(f"{self.id:x} is in a membership of {config}")
        own = self.tracker.progress.get(self.id)
        self.is_learner = own is not None and own.is_learner
        if self.state != Role.LEADER:
            return conf_state
        if own is None or self.is_learner:
            # Whoever removes or demotes the leader wants somebody else to lead.
            if self.config.step_down_on_removal:
                self.become_follower(self.term, NOBODY)
            return conf_state
        leader.membership_changed(self)
        if self.lead_transferee not in config.voters.ids():
            self.lead_transferee = NOBODY
        return conf_state
