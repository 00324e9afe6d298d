"""How a member becomes leader, and whom it helps to become one. Called by raft.py and follower.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manager.raft.core.messages import NOBODY, EntryType, Message, MessageType, Role

if TYPE_CHECKING:
    from manager.raft.core.raft import Raft

ANSWERS: Final = {MessageType.VOTE: MessageType.VOTE_RESP, MessageType.PRE_VOTE: MessageType.PRE_VOTE_RESP}
"""Requests for a vote, and what answers them."""


def hup(r: Raft, kind: MessageType, context: bytes = b"") -> None:
    """Stands for election, if it may; PRE_VOTE asks first whether it would win."""
    if r.state == Role.LEADER:
        return
    if not r.promotable():
        r.say(f"{r.id:x} can't stand for election: it is no voter, or a snapshot waits")
        return
    if _has_unapplied_conf_changes(r):
        r.say(f"{r.id:x} can't stand for election: changes of membership wait to be applied")
        return
    campaign(r, kind, context)


def _has_unapplied_conf_changes(r: Raft) -> bool:
    lo, hi = r.log.applied + 1, r.log.committed + 1
    while lo < hi:
        page = r.log.slice(lo, hi, r.log.max_applying_size)
        if any(entry.type != EntryType.NORMAL for entry in page):
            return True
        lo += len(page)
    return False


def campaign(r: Raft, kind: MessageType, context: bytes = b"") -> None:
    """Asks every voter, itself too: its own vote counts once it is stable."""
    if kind == MessageType.PRE_VOTE:
        r.become_pre_candidate()
        term = r.term + 1
    else:
        r.become_candidate()
        term = r.term
    last = r.log.last_index()
    last_term = r.log.term(last)
    for id_ in sorted(r.tracker.config.voters.ids()):
        if id_ == r.id:
            r.send(ANSWERS[kind], id_, term=term)
        else:
            r.send(kind, id_, term=term, index=last, log_term=last_term, context=context)


def answer_vote(r: Raft, message: Message) -> None:
    """Votes for a candidate, or not."""
    can_vote = (
        r.vote == message.from_
        or (r.vote == NOBODY and r.lead == NOBODY)
        or (message.type == MessageType.PRE_VOTE and message.term > r.term)
    )
    # A learner votes as well: it may have been promoted without knowing it yet.
    if can_vote and r.log.is_up_to_date(message.index, message.log_term):
        # The answer is of the term that was asked for: a PRE_VOTE's is in the future.
        r.send(ANSWERS[message.type], message.from_, term=message.term)
        if message.type == MessageType.VOTE:
            r.election_elapsed = 0
            r.vote = message.from_
    else:
        r.send(ANSWERS[message.type], message.from_, reject=True)
