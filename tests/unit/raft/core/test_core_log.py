"""The log as the machine sees it: stable and unstable parts as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.raft.core.errors import Compacted, Inconsistent, Unavailable
from manager.raft.core.log import RaftLog
from manager.raft.core.messages import (
    NO_LIMIT,
    Entry,
    Snapshot,
    SnapshotMetadata,
    entries_size,
    entry_size,
    limit_size,
)
from manager.raft.core.storage import MemoryStorage


def raft_log(
    terms: tuple[int, ...], *, compacted: int = 0, unstable: int = 0, limit: int = NO_LIMIT
) -> RaftLog:
    """Entries 1, 2, … of these terms; the first ones compacted, the last ones unstable."""
    entries = [Entry(n, t, data=b"x" * (n % 3)) for n, t in enumerate(terms, 1)]
    storage = MemoryStorage()
    storage.append(entries[: len(terms) - unstable])
    if compacted:
        storage.compact(compacted)
    log = RaftLog(storage, limit)
    log.append(entries[len(terms) - unstable :])
    return log


def test_ends():
    log = raft_log((1, 1, 2, 3, 3), compacted=2, unstable=2)
    assert (log.first_index(), log.last_index(), log.last_term()) == (3, 5, 3)
    assert (log.committed, log.applied, log.applying) == (2, 2, 2)
    assert [log.term(n) for n in (2, 3, 4, 5)] == [1, 2, 3, 3]
    for index, error in ((1, Compacted), (6, Unavailable)):
        with pytest.raises(error):
            log.term(index)
        assert log.term_or_zero(index) == 0
        assert not log.match_term(index, 1)


@pytest.mark.parametrize(
    ("index", "term", "good"), [(3, 3, True), (2, 4, True), (4, 3, True), (2, 3, False), (9, 2, False)]
)
def test_as_good_as_this_one(index, term, good):
    assert raft_log((1, 2, 3)).is_up_to_date(index, term) is good


@pytest.mark.parametrize(
    ("terms", "conflict"), [((), 0), ((2,), 0), ((2, 3), 0), ((2, 3, 4, 4), 5), ((1, 3), 2), ((2, 4), 3)]
)
def test_conflicts(terms, conflict):
    log = raft_log((1, 2, 3, 4))
    assert log.find_conflict([Entry(n, t) for n, t in enumerate(terms, 2)]) == conflict


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (9, 9, (9, 0)),  # behind the end
        (7, 4, (7, 4)),
        (7, 3, (5, 2)),
        (7, 2, (5, 2)),
        (7, 1, (3, 0)),  # compacted behind that
        (3, 9, (3, 0)),
        (2, 9, (2, 0)),
        (0, 9, (0, 0)),
    ],
)
def test_where_a_lower_term_begins(index, term, expected):
    log = raft_log((1, 1, 1, 2, 2, 4, 4), compacted=4, unstable=2)
    assert log.find_conflict_by_term(index, term) == expected


def test_append_keeps_what_is_there():
    log = raft_log((1, 2, 3))
    assert log.maybe_append(3, 9, [Entry(4, 9)], 9) is None
    assert log.maybe_append(9, 3, [], 9) is None
    assert log.maybe_append(1, 1, [Entry(2, 2)], 9) == 2
    assert (log.last_index(), log.committed) == (3, 2)
    assert log.maybe_append(2, 2, [Entry(3, 4), Entry(4, 4)], 3) == 4
    assert (log.last_term(), log.committed) == (4, 3)
    with pytest.raises(Inconsistent):
        log.maybe_append(1, 1, [Entry(2, 9)], 3)
    with pytest.raises(Inconsistent):
        log.append([Entry(3, 9)])


def test_commit():
    log = raft_log((1, 2, 2))
    assert not log.maybe_commit(2, 1)
    assert not log.maybe_commit(0, 0)
    assert log.maybe_commit(2, 2)
    log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(Inconsistent):
        log.commit_to(4)
    for wrong in (3, -1):
        with pytest.raises(Inconsistent):
            log.applied_to(wrong, 0)
    with pytest.raises(Inconsistent):
        log.accept_applying(3, 0)


def test_applying_pauses_at_its_limit():
    size = entry_size(Entry(1, 1))
    log = RaftLog(MemoryStorage(), 3 * size)
    log.append([Entry(n, 1) for n in range(1, 7)])
    log.commit_to(5)
    first = log.next_committed()
    assert [e.index for e in first] == [1, 2, 3]
    log.accept_applying(2, 2 * size)  # not all: so the next waits
    assert not log.has_next_committed()
    assert log.next_committed() == ()
    log.applied_to(1, size)
    assert [e.index for e in log.next_committed()] == [3, 4]
    log.accept_applying(5, 3 * size)
    log.commit_to(6)
    assert not log.has_next_committed()
    log.applied_to(5, 4 * size)
    assert [e.index for e in log.next_committed()] == [6]


def test_nothing_is_applied_before_a_snapshot():
    log = raft_log((1, 1))
    log.commit_to(1)
    assert log.has_next_committed()
    snapshot = Snapshot(SnapshotMetadata(index=7, term=3))
    log.restore(snapshot)
    assert (log.first_index(), log.last_index(), log.last_term(), log.committed) == (8, 7, 3, 7)
    assert log.snapshot() is snapshot
    assert not log.has_next_committed()
    with pytest.raises(Compacted):
        log.slice(7, 8)


def test_what_cannot_be_asked_for():
    log = raft_log((1, 1, 1), compacted=1)
    for lo, hi, error in ((1, 2, Compacted), (3, 2, Inconsistent), (2, 5, Inconsistent)):
        with pytest.raises(error):
            log.slice(lo, hi)
    assert log.slice(2, 2) == ()
    assert log.entries(4) == ()
    assert log.snapshot().empty


@given(st.data())
def test_a_slice_does_not_care_where_entries_are(data):
    count = data.draw(st.integers(1, 8))
    unstable = data.draw(st.integers(0, count))
    lo = data.draw(st.integers(1, count))
    hi = data.draw(st.integers(lo, count + 1))
    limit = data.draw(st.one_of(st.just(NO_LIMIT), st.integers(0, 70)))
    whole = [Entry(n, n, data=b"x" * (n % 3)) for n in range(1, count + 1)]
    log = raft_log(tuple(range(1, count + 1)), unstable=unstable)
    got = list(log.slice(lo, hi, limit))
    assert got == list(limit_size(whole[lo - 1 : hi - 1], limit))
    assert entries_size(got) <= limit or len(got) <= 1


@given(
    st.lists(st.integers(1, 4), max_size=7),
    st.lists(st.integers(1, 4), max_size=7),
    st.integers(0, 7),
)
def test_log_matching(ours, theirs, at):
    """After an append was taken, the logs are the same up to its end; if it was refused, nothing has changed."""
    mine, other = tuple(sorted(ours)), tuple(sorted(theirs))
    at = min(at, len(other))
    log = raft_log(mine)
    previous = other[at - 1] if at else 0
    # What both hold at one place in the same term they hold up to there: so cut the examples where they don't.
    common = next((n for n in range(min(len(mine), len(other)), 0, -1) if mine[n - 1] == other[n - 1]), 0)
    if mine[:common] != other[:common]:
        return
    entries = [Entry(n, t) for n, t in enumerate(other[at:], at + 1)]
    last = log.maybe_append(at, previous, entries, 0)
    now = tuple(log.term(n) for n in range(1, log.last_index() + 1))
    if last is None:
        assert now == mine
        assert mine[:at] != other[:at]
    else:
        assert last == len(other)
        assert now[: len(other)] == other
