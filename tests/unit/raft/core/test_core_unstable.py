"""The end of the log that isn't written yet."""

import pytest

from manager.raft.core.errors import Inconsistent
from manager.raft.core.messages import Entry, Snapshot, SnapshotMetadata
from manager.raft.core.unstable import Unstable


def unstable(*terms: int, offset: int = 5, snapshot: int = 0) -> Unstable:
    made = Unstable(offset)
    if snapshot:
        made.restore(Snapshot(SnapshotMetadata(index=snapshot, term=1)))
        made.offset = made.in_progress = offset
    if terms:
        made.truncate_and_append([Entry(n, t) for n, t in enumerate(terms, offset)])
    return made


def shown(made: Unstable) -> tuple[int, int, list[int]]:
    return made.offset, made.in_progress, [e.term for e in made.entries]


@pytest.mark.parametrize(
    ("made", "first", "last"),
    [
        (unstable(), None, None),
        (unstable(1), None, 5),
        (unstable(snapshot=4), 5, 4),
        (unstable(1, 1, snapshot=4), 5, 6),
    ],
)
def test_first_and_last(made, first, last):
    assert (made.first_index(), made.last_index()) == (first, last)


@pytest.mark.parametrize(("index", "term"), [(3, None), (4, 1), (5, 2), (6, 3), (7, None)])
def test_terms(index, term):
    assert unstable(2, 3, snapshot=4).term(index) == term
    assert unstable().term(index) is None


def test_handed_out_once_and_kept_until_stable():
    made = unstable(1, 1)
    assert [e.index for e in made.next_entries()] == [5, 6]
    made.accept()
    assert made.next_entries() == []
    assert not made.has_next_entries()
    made.truncate_and_append([Entry(7, 2)])
    assert [e.index for e in made.next_entries()] == [7]
    made.stable_to(6, 1)
    assert shown(made) == (7, 7, [2])
    made.accept()
    made.stable_to(7, 2)
    assert shown(made) == (8, 8, [])


@pytest.mark.parametrize(("index", "term"), [(4, 1), (5, 9), (7, 1)])
def test_what_was_replaced_or_never_there_is_not_stable(index, term):
    made = unstable(1, 1, snapshot=4)
    made.stable_to(index, term)
    assert shown(made) == (5, 5, [1, 1])


@pytest.mark.parametrize(
    ("first", "terms", "after"),
    [
        (7, [3], (5, 7, [1, 1, 3])),
        (5, [3], (5, 5, [3])),
        (4, [3, 3], (4, 4, [3, 3])),
        (6, [3, 3], (5, 6, [1, 3, 3])),
    ],
)
def test_append_and_truncate(first, terms, after):
    made = unstable(1, 1)
    made.accept()
    made.truncate_and_append([Entry(n, t) for n, t in enumerate(terms, first)])
    assert shown(made) == after


def test_no_gap_and_no_slice_of_what_is_not_there():
    with pytest.raises(Inconsistent):
        unstable(1).truncate_and_append([Entry(8, 1)])
    assert unstable(1, 2).slice(6, 7) == [Entry(6, 2)]
    for lo, hi in ((4, 5), (5, 8), (7, 6)):
        with pytest.raises(Inconsistent):
            unstable(1, 2).slice(lo, hi)


def test_a_snapshot_takes_the_place_of_entries():
    made = unstable(1, 1)
    made.restore(Snapshot(SnapshotMetadata(index=9, term=3)))
    assert shown(made) == (10, 10, [])
    assert made.next_snapshot() is not None
    made.accept()
    assert made.next_snapshot() is None
    made.stable_snapshot_to(8)
    assert made.snapshot is not None
    made.stable_snapshot_to(9)
    assert made.snapshot is None
    made.restore(Snapshot(SnapshotMetadata(index=12, term=3)))
    assert made.next_snapshot() is not None
