"""What followers and candidates do: they take entries, heartbeats and snapshots, pass requests on, count votes.
Called by raft.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manager.raft.core import confchange, election, leader
from manager.raft.core.config import ReadOnlyOption
from manager.raft.core.errors import ProposalDropped
from manager.raft.core.messages import NOBODY, TRANSFER, Message, MessageType, ReadState, Role, Snapshot
from manager.raft.core.progress import ProgressTracker
from manager.raft.core.quorum import VoteResult

if TYPE_CHECKING:
    from manager.raft.core.raft import Raft


def _append(r: Raft, message: Message) -> None:
    committed = r.log.committed
    if message.index < committed:
        r.send(MessageType.APP_RESP, message.from_, index=committed)
        return
    last = r.log.maybe_append(message.index, message.log_term, message.entries, message.commit)
    if last is not None:
        r.send(MessageType.APP_RESP, message.from_, index=last)
        return
    # The hint: the last place where this log has no higher term than the leader's has there. They can't match behind
    # it, so the leader needn't try.
    hint = min(message.index, r.log.last_index())
    hint, hint_term = r.log.find_conflict_by_term(hint, message.log_term)
    r.send(
        MessageType.APP_RESP,
        message.from_,
        index=message.index,
        reject=True,
        reject_hint=hint,
        log_term=hint_term,
    )


def _heartbeat(r: Raft, message: Message) -> None:
    r.log.commit_to(message.commit)
    r.send(MessageType.HEARTBEAT_RESP, message.from_, context=message.context)


def _snapshot(r: Raft, message: Message) -> None:
    snapshot = message.snapshot or Snapshot()
    taken = restore(r, snapshot)
    r.send(MessageType.APP_RESP, message.from_, index=r.log.last_index() if taken else r.log.committed)


def restore(r: Raft, snapshot: Snapshot) -> bool:
    """Puts a snapshot in the place of the log and membership; False if it isn't needed or not for this member."""
    at = snapshot.metadata
    if at.index <= r.log.committed:
        return False
    if r.state != Role.FOLLOWER:
        # It can't be: then this member isn't what it believes to be.
        r.become_follower(r.term + 1, NOBODY)
        return False
    members = at.conf_state
    if r.id not in (*members.voters, *members.learners, *members.voters_outgoing):
        r.say(f"{r.id:x} ignores a snapshot at {at.index}: it is not one of {members}")
        return False
    if r.log.match_term(at.index, at.term):
        # The log has all that is in it.
        r.log.commit_to(at.index)
        return False
    tracker = ProgressTracker(r.config.max_inflight_msgs, r.config.max_inflight_bytes)
    made = confchange.restore(tracker, at.index, members)
    r.log.restore(snapshot)
    r.tracker = tracker
    r.switch(made)
    r.say(f"{r.id:x} took a snapshot at {at.index}, term {at.term}")
    return True


def _from_leader(r: Raft, message: Message) -> None:
    """Takes what only a leader says."""
    if message.type == MessageType.APP:
        _append(r, message)
    elif message.type == MessageType.HEARTBEAT:
        _heartbeat(r, message)
    else:
        _snapshot(r, message)


_LEADERS = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})


def step_candidate(r: Raft, message: Message) -> None:
    """Takes a message of this term as (pre-)candidate; raises ProposalDropped."""
    if message.type == MessageType.PROP:
        raise ProposalDropped("there is no leader")
    if message.type in _LEADERS:
        r.become_follower(message.term, message.from_)
        _from_leader(r, message)
        return
    asking = r.state == Role.PRE_CANDIDATE
    if message.type != (MessageType.PRE_VOTE_RESP if asking else MessageType.VOTE_RESP):
        return
    r.tracker.record_vote(message.from_, not message.reject)
    result = r.tracker.vote_result()
    if result == VoteResult.LOST:
        r.become_follower(r.term, NOBODY)
    elif result == VoteResult.WON:
        if asking:
            election.campaign(r, MessageType.VOTE)
        else:
            r.become_leader()
            leader.broadcast_append(r)


def step_follower(r: Raft, message: Message) -> None:
    """Takes a message of this term as follower; raises ProposalDropped."""
    type_ = message.type
    if type_ in _LEADERS:
        r.election_elapsed = 0
        r.lead = message.from_
        _from_leader(r, message)
    elif type_ == MessageType.PROP:
        if r.lead == NOBODY:
            raise ProposalDropped("there is no leader")
        if r.config.disable_proposal_forwarding:
            raise ProposalDropped("this member does not lead")
        r.pass_on(message, r.lead)
    elif type_ in (MessageType.TRANSFER_LEADER, MessageType.READ_INDEX):
        if r.lead != NOBODY:
            r.pass_on(message, r.lead)
    elif type_ == MessageType.FORGET_LEADER:
        # With reads by lease the leader counts on everybody who has heard of it.
        if r.config.read_only_option != ReadOnlyOption.LEASE_BASED and r.lead != NOBODY:
            r.say(f"{r.id:x} forgets leader {r.lead:x} of term {r.term}")
            r.lead = NOBODY
    elif type_ == MessageType.TIMEOUT_NOW:
        # The leader hands over, so nobody needs to be asked first.
        election.hup(r, MessageType.VOTE, TRANSFER)
    elif type_ == MessageType.READ_INDEX_RESP and len(message.entries) == 1:
        r.read_states.append(ReadState(message.index, message.entries[0].data))
