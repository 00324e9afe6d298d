"""What a leader does: it sends its log to the others, commits, confirms reads, hands over. Called by raft.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from manager.raft.core.config import ReadOnlyOption
from manager.raft.core.errors import (
    Inconsistent,
    ProposalDropped,
    SnapshotTemporarilyUnavailable,
    StorageError,
)
from manager.raft.core.messages import (
    NOBODY,
    Entry,
    EntryType,
    Message,
    MessageType,
    ReadState,
    decode_entry,
    payloads_size,
)
from manager.raft.core.progress import Progress, ProgressState
from manager.raft.core.quorum import VoteResult

if TYPE_CHECKING:
    from manager.raft.core.raft import Raft


# -- sending ---------------------------------------------------------------------------------------------------------


def send_append(r: Raft, to: int, *, even_empty: bool = True) -> bool:
    """Sends the next entries, a snapshot if they are compacted, or only the commit; False if nothing was sent."""
    progress = r.tracker.progress[to]
    if progress.paused:
        return False
    previous = progress.next - 1
    entries: tuple[Entry, ...] = ()
    try:
        previous_term = r.log.term(previous)
        # Into a full window only an empty append goes: its answer frees the window if all others were lost.
        if progress.state != ProgressState.REPLICATE or not progress.inflights.full:
            entries = tuple(r.log.entries(progress.next, r.config.max_size_per_msg))
    except StorageError:
        return _send_snapshot(r, to, progress)
    if not entries and not even_empty:
        return False
    committed = r.log.committed
    r.send(MessageType.APP, to, index=previous, log_term=previous_term, entries=entries, commit=committed)
    progress.sent_entries(len(entries), payloads_size(entries))
    progress.sent_commit = committed
    return True


def _send_snapshot(r: Raft, to: int, progress: Progress) -> bool:
    if not progress.recent_active:
        return False
    try:
        snapshot = r.log.snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    if snapshot.empty:
        raise Inconsistent("entries are compacted, but there is no snapshot")
    progress.become_snapshot(snapshot.metadata.index)
    r.send(MessageType.SNAP, to, snapshot=snapshot)
    return True


def broadcast_append(r: Raft) -> None:
    """To everybody what they may get."""
    for id_ in r.tracker.ids:
        if id_ != r.id:
            send_append(r, id_)


def _broadcast_heartbeat(r: Raft, context: bytes) -> None:
    for id_ in r.tracker.ids:
        if id_ != r.id:
            progress = r.tracker.progress[id_]
            # Never more than it is known to have: its log may end there.
            commit = min(progress.match, r.log.committed)
            r.send(MessageType.HEARTBEAT, id_, commit=commit, context=context)
            progress.sent_commit = commit


def membership_changed(r: Raft) -> None:
    """A smaller quorum may have more committed, and new members are probed at once."""
    if not r.tracker.config.voters.incoming:
        return
    if r.maybe_commit():
        broadcast_append(r)
        return
    for id_ in r.tracker.ids:
        if id_ != r.id:
            send_append(r, id_, even_empty=False)


# -- proposals -------------------------------------------------------------------------------------------------------


def _propose(r: Raft, message: Message) -> None:
    if r.id not in r.tracker.progress:
        raise ProposalDropped("this leader has been removed")
    if r.lead_transferee != NOBODY:
        raise ProposalDropped(f"leadership is being handed over to {r.lead_transferee:x}")
    entries = message.entries
    if any(entry.type != EntryType.NORMAL for entry in entries):
        entries = _one_conf_change(r, entries)
    if not r.append(entries):
        raise ProposalDropped("too much is uncommitted")
    broadcast_append(r)


def _one_conf_change(r: Raft, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Puts an empty entry in the place of a change of membership that can't be made now. Raises Malformed."""
    changes = [decode_entry(e).to_v2() if e.type != EntryType.NORMAL else None for e in entries]
    kept = list(entries)
    for number, change in enumerate(changes):
        if change is None:
            continue
        joint = r.tracker.config.voters.joint
        refusal = ""
        if r.pending_conf_index > r.log.applied:
            refusal = f"the one at {r.pending_conf_index} may not be applied yet, only {r.log.applied} is"
        elif joint and change.changes:
            refusal = "the joint state must be left first"
        elif not joint and not change.changes:
            refusal = "there is no joint state to leave"
        if refusal and not r.config.disable_conf_change_validation:
            r.say(f"{r.id:x} ignores a change of membership at {r.tracker.config}: {refusal}")
            kept[number] = Entry()
        else:
            r.pending_conf_index = r.log.last_index() + number + 1
    return tuple(kept)


# -- reads -----------------------------------------------------------------------------------------------------------


def _read(r: Raft, message: Message) -> None:
    if r.tracker.singleton():
        _answer_read(r, message, r.log.committed)
    elif r.committed_in_term():
        _confirm_read(r, message)
    else:
        r.pending_reads.append(message)


def _confirm_read(r: Raft, message: Message) -> None:
    if r.config.read_only_option == ReadOnlyOption.LEASE_BASED:
        _answer_read(r, message, r.log.committed)
        return
    context = message.entries[0].data
    r.read_only.add(r.log.committed, message)
    r.read_only.acknowledge(r.id, context)
    _broadcast_heartbeat(r, context)


def _answer_read(r: Raft, request: Message, index: int) -> None:
    if request.from_ in (NOBODY, r.id):
        r.read_states.append(ReadState(index, request.entries[0].data))
    else:
        r.send(MessageType.READ_INDEX_RESP, request.from_, index=index, entries=request.entries)


def _release_reads(r: Raft) -> None:
    if r.pending_reads and r.committed_in_term():
        waiting, r.pending_reads = r.pending_reads, []
        for message in waiting:
            _confirm_read(r, message)


# -- answers ---------------------------------------------------------------------------------------------------------


def _append_answered(r: Raft, progress: Progress, message: Message) -> None:
    """Also called for the leader's own entries, once they are stable."""
    progress.recent_active = True
    from_ = message.from_
    if message.reject:
        # The hint is a place up to which the logs may match, with its term there. Everything of a higher term than
        # that in this log can't match it either: so one answer skips a whole term, on either side.
        hint = message.reject_hint
        if message.log_term:
            hint, _ = r.log.find_conflict_by_term(hint, message.log_term)
        if progress.maybe_decrease(message.index, hint):
            if progress.state == ProgressState.REPLICATE:
                progress.become_probe()
            send_append(r, from_)
        return
    # An answer that tells nothing new still ends the search for the place.
    if not progress.maybe_update(message.index) and not (
        progress.match == message.index and progress.state == ProgressState.PROBE
    ):
        return
    if progress.state == ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state == ProgressState.REPLICATE:
        progress.inflights.free_to(message.index)
    elif progress.match + 1 >= r.log.first_index():
        # Whatever snapshot it got, and from whom: the log is enough from here on.
        progress.become_probe()
        progress.become_replicate()
    if r.maybe_commit():
        _release_reads(r)
        broadcast_append(r)
    elif from_ != r.id and progress.can_bump_commit(r.log.committed):
        send_append(r, from_)
    if from_ != r.id:
        while send_append(r, from_, even_empty=False):
            pass
    if from_ == r.lead_transferee and progress.match == r.log.last_index():
        r.send(MessageType.TIMEOUT_NOW, from_)


def _heartbeat_answered(r: Raft, progress: Progress, message: Message) -> None:
    progress.recent_active = True
    progress.flow_paused = False
    # Also to one that has everything, but is probed: its answer lets it follow again.
    if progress.match < r.log.last_index() or progress.state == ProgressState.PROBE:
        send_append(r, message.from_)
    if not message.context or r.config.read_only_option != ReadOnlyOption.SAFE:
        return
    acks = r.read_only.acknowledge(message.from_, message.context)
    if r.tracker.config.voters.vote_result(acks) == VoteResult.WON:
        for read in r.read_only.advance(message.context):
            _answer_read(r, read.request, read.index)


def _snapshot_reported(r: Raft, progress: Progress, message: Message) -> None:
    if progress.state != ProgressState.SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    # Arrived: its answer comes soon. Failed: try again after the next heartbeat, not at once.
    progress.flow_paused = True


def _unreachable(r: Raft, progress: Progress, message: Message) -> None:
    # What was sent ahead is probably lost.
    if progress.state == ProgressState.REPLICATE:
        progress.become_probe()


def _transfer(r: Raft, progress: Progress, message: Message) -> None:
    transferee = message.from_
    if progress.is_learner or transferee == r.lead_transferee:
        return
    if r.lead_transferee != NOBODY:
        r.lead_transferee = NOBODY
    if transferee == r.id:
        return
    # It has the time of one election.
    r.election_elapsed = 0
    r.lead_transferee = transferee
    if progress.match == r.log.last_index():
        r.send(MessageType.TIMEOUT_NOW, transferee)
    else:
        send_append(r, transferee)


def _check_quorum(r: Raft, message: Message) -> None:
    if not r.tracker.quorum_active():
        r.say(f"{r.id:x} steps down: it has not heard of a quorum")
        r.become_follower(r.term, NOBODY)
    for id_, progress in r.tracker.progress.items():
        if id_ != r.id:
            progress.recent_active = False


def _beat(r: Raft, message: Message) -> None:
    _broadcast_heartbeat(r, r.read_only.last_context())


_ANY: Final[dict[MessageType, Callable[[Raft, Message], None]]] = {
    MessageType.BEAT: _beat,
    MessageType.CHECK_QUORUM: _check_quorum,
    MessageType.PROP: _propose,
    MessageType.READ_INDEX: _read,
}
_MEMBERS: Final[dict[MessageType, Callable[[Raft, Progress, Message], None]]] = {
    MessageType.APP_RESP: _append_answered,
    MessageType.HEARTBEAT_RESP: _heartbeat_answered,
    MessageType.SNAP_STATUS: _snapshot_reported,
    MessageType.UNREACHABLE: _unreachable,
    MessageType.TRANSFER_LEADER: _transfer,
}


def step_leader(r: Raft, message: Message) -> None:
    """Takes a message of this term as leader; what isn't in the tables is ignored."""
    handle = _ANY.get(message.type)
    if handle is not None:
        handle(r, message)
        return
    answer = _MEMBERS.get(message.type)
    progress = r.tracker.progress.get(message.from_)
    if answer is not None and progress is not None:
        answer(r, progress, message)
