from __future__ import annotations

from manager.raft.core.messages import ConfState, Entry, HardState, Message, MessageType
from manager.raft.replica import Replica, Start


def _append(index: int, commit: int, *entries: Entry) -> Message:
    return Message(
        MessageType.APP, to=1, from_=2, term=2, index=index, log_term=2, entries=entries, commit=commit
    )


def test_a_commit_goes_to_the_disk_with_the_next_entry() -> None:
    """A commit alone needn't be saved; who has lost it must not have anything that came after it."""
    start = Start(1, HardState(2, 2, 1), (), 1, 2, ConfState((1, 2, 3)))
    replica = Replica(start, lambda sides: 0)
    replica.step(_append(1, 1, Entry(2, 2, data=b"x")))
    replica.done(replica.work())
    replica.step(_append(2, 2))
    alone = replica.work()
    assert alone.state == HardState(2, 2, 2) and not alone.must_sync
    replica.done(alone)
    replica.step(_append(2, 2, Entry(3, 2, data=b"y")))
    assert replica.work().state == HardState(2, 2, 2)
