"""The storage in memory, which is also what others are measured by."""

import pytest

from manager.raft.core.errors import Compacted, Inconsistent, SnapshotOutOfDate, Unavailable
from manager.raft.core.messages import (
    NO_LIMIT,
    ConfState,
    Entry,
    HardState,
    Snapshot,
    SnapshotMetadata,
    entry_size,
)
from manager.raft.core.storage import MemoryStorage


def entries(*places: tuple[int, int]) -> list[Entry]:
    return [Entry(index, term) for index, term in places]


def storage() -> MemoryStorage:
    """A snapshot at 3, then entries 4 to 6 of terms 4 to 6."""
    made = MemoryStorage()
    made.apply_snapshot(Snapshot(SnapshotMetadata(ConfState(voters=(1,)), 3, 3), b"three"))
    made.append(entries((4, 4), (5, 5), (6, 6)))
    return made


def test_empty():
    empty = MemoryStorage()
    assert empty.initial_state() == (HardState(), ConfState())
    assert (empty.first_index(), empty.last_index(), empty.term(0)) == (1, 0, 0)
    assert empty.snapshot().empty
    with pytest.raises(Unavailable):
        empty.entries(1, 1, NO_LIMIT)


@pytest.mark.parametrize(("index", "expected"), [(2, Compacted), (3, 3), (4, 4), (6, 6), (7, Unavailable)])
def test_terms(index, expected):
    if isinstance(expected, int):
        assert storage().term(index) == expected
    else:
        with pytest.raises(expected):
            storage().term(index)


@pytest.mark.parametrize(
    ("lo", "hi", "limit", "expected"),
    [
        (2, 6, NO_LIMIT, Compacted),
        (3, 4, NO_LIMIT, Compacted),
        (4, 5, NO_LIMIT, [4]),
        (4, 7, NO_LIMIT, [4, 5, 6]),
        (4, 7, 0, [4]),
        (4, 7, 2 * entry_size(Entry(4, 4)), [4, 5]),
        (4, 7, 3 * entry_size(Entry(4, 4)) - 1, [4, 5]),
        (4, 8, NO_LIMIT, Inconsistent),
    ],
)
def test_entries(lo, hi, limit, expected):
    if isinstance(expected, list):
        assert [e.index for e in storage().entries(lo, hi, limit)] == expected
    else:
        with pytest.raises(expected):
            storage().entries(lo, hi, limit)


@pytest.mark.parametrize(
    ("added", "terms"),
    [
        ([], [4, 5, 6]),
        (entries((1, 1), (2, 2)), [4, 5, 6]),
        (entries((3, 9), (4, 4), (5, 9)), [4, 9]),
        (entries((5, 9)), [4, 9]),
        (entries((7, 7), (8, 8)), [4, 5, 6, 7, 8]),
    ],
)
def test_append(added, terms):
    made = storage()
    held = made.entries(4, 7, NO_LIMIT)
    made.append(added)
    assert [e.term for e in made.entries(4, made.last_index() + 1, NO_LIMIT)] == terms
    assert [e.term for e in held] == [4, 5, 6]  # what was given out stays


def test_append_leaves_no_gap():
    with pytest.raises(Inconsistent):
        storage().append(entries((8, 8)))


def test_compact():
    made = storage()
    made.compact(5)
    assert (made.first_index(), made.last_index(), made.term(5)) == (6, 6, 5)
    with pytest.raises(Compacted):
        made.compact(5)
    with pytest.raises(Inconsistent):
        made.compact(7)
    made.compact(6)
    assert (made.first_index(), made.last_index(), made.term(6)) == (7, 6, 6)
    made.append(entries((7, 7)))
    assert made.last_index() == 7


def test_snapshots():
    made = storage()
    assert made.snapshot().data == b"three"
    created = made.create_snapshot(5, None, b"five")
    assert created == made.snapshot() == Snapshot(SnapshotMetadata(ConfState(voters=(1,)), 5, 5), b"five")
    assert made.create_snapshot(6, ConfState(voters=(1, 2)), b"").metadata.conf_state.voters == (1, 2)
    assert made.first_index() == 4
    with pytest.raises(SnapshotOutOfDate):
        made.create_snapshot(6, None, b"")
    with pytest.raises(Inconsistent):
        made.create_snapshot(7, None, b"")
    with pytest.raises(SnapshotOutOfDate):
        made.apply_snapshot(Snapshot(SnapshotMetadata(index=6)))
    made.apply_snapshot(Snapshot(SnapshotMetadata(index=9, term=8)))
    assert (made.first_index(), made.last_index(), made.term(9)) == (10, 9, 8)


def test_hard_state():
    made = storage()
    made.set_hard_state(HardState(7, 1, 5))
    assert made.initial_state() == (HardState(7, 1, 5), ConfState(voters=(1,)))
