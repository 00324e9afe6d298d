"""Values, sizes, and the bytes of membership changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.raft.core.errors import Malformed
from manager.raft.core.messages import (
    NO_LIMIT,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    Entry,
    EntryType,
    MessageType,
    Snapshot,
    SnapshotMetadata,
    decode,
    decode_entry,
    encode,
    entries_size,
    entry_size,
    entry_type,
    limit_size,
    payloads_size,
)

IDS = st.integers(0, NO_LIMIT)
SINGLES = st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), IDS)
V1 = st.builds(ConfChange, st.sampled_from(ConfChangeType), IDS, st.binary(max_size=300), IDS)
V2 = st.builds(
    ConfChangeV2,
    st.sampled_from(ConfChangeTransition),
    st.lists(SINGLES, max_size=5).map(tuple),
    st.binary(max_size=300),
)


def test_numbers_on_the_wire():
    assert (MessageType.HUP, MessageType.SNAP, MessageType.PRE_VOTE_RESP, MessageType.FORGET_LEADER) == (
        0,
        7,
        18,
        23,
    )
    assert Snapshot().empty
    assert not Snapshot(SnapshotMetadata(index=1)).empty


@pytest.mark.parametrize(
    ("change", "data"),
    [
        (ConfChange(ConfChangeType.REMOVE_NODE, 300), "0800 1001 18ac02"),
        (ConfChange(ConfChangeType.ADD_NODE, 1, b"a", 5), "0805 1000 1801 220161"),
        (ConfChangeV2(), "0800"),
        (
            ConfChangeV2(
                ConfChangeTransition.JOINT_EXPLICIT,
                (
                    ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, 2),
                    ConfChangeSingle(ConfChangeType.ADD_NODE, 3),
                ),
                b"hi",
            ),
            "0802 1204 08031002 1204 08001003 1a02 6869",
        ),
    ],
)
def test_bytes_of_changes(change, data):
    assert encode(change) == bytes.fromhex(data)
    assert decode(entry_type(change), bytes.fromhex(data)) == change


def test_no_bytes_leave_a_joint_state():
    change = decode_entry(Entry(type=EntryType.CONF_CHANGE_V2))
    assert change == ConfChangeV2()
    assert change.to_v2().leaves_joint


@given(st.one_of(V1, V2))
def test_changes_come_back(change):
    assert decode(entry_type(change), encode(change)) == change


def test_unknown_fields_are_left_out():
    unknown = bytes.fromhex("2a0161 3007 3d01020304 410102030405060708")
    change = ConfChange(ConfChangeType.ADD_NODE, 7)
    assert decode(EntryType.CONF_CHANGE, encode(change) + unknown) == change


@pytest.mark.parametrize(
    "data", ["ff", "0a", "1007", "0a01", "1a05", "00", "220161 2a", "0b", "1201 0f", "80" * 11]
)
@pytest.mark.parametrize("type_", [EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2])
def test_bytes_that_are_none(type_, data):
    with pytest.raises(Malformed):
        decode(type_, bytes.fromhex(data))


@given(st.sampled_from([EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2]), st.binary(max_size=60))
def test_any_bytes_are_a_change_or_malformed(type_, data):
    try:
        decode(type_, data)
    except Malformed:
        return


@pytest.mark.parametrize(
    ("change", "joint", "auto", "leave"),
    [
        (ConfChangeV2(), False, False, True),
        (ConfChangeV2(context=b"x"), False, False, True),
        (ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT), True, False, False),
        (ConfChangeV2(ConfChangeTransition.JOINT_IMPLICIT), True, True, False),
        (ConfChange(ConfChangeType.ADD_NODE, 1).to_v2(), False, False, False),
        (ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.ADD_NODE, 1),) * 2), True, True, False),
    ],
)
def test_kinds_of_changes(change, joint, auto, leave):
    assert (change.enters_joint, change.auto_leave, change.leaves_joint) == (joint, auto, leave)


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        (Entry(), 6),
        (Entry(1, 1), 6),
        (Entry(128, 1), 7),
        (Entry(1, 300, data=b"x" * 10), 19),
        (Entry(data=b"x" * 128), 137),
    ],
)
def test_sizes(entry, size):
    assert entry_size(entry) == size
    assert entries_size([entry, entry]) == 2 * size
    assert payloads_size([entry, entry]) == 2 * len(entry.data)


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 200))
def test_a_limited_beginning(datas, limit):
    entries = [Entry(n, 1, data=data) for n, data in enumerate(datas, 1)]
    kept = limit_size(entries, limit)
    assert list(kept) == entries[: len(kept)]
    assert len(kept) >= min(1, len(entries))
    assert entries_size(kept) <= limit or len(kept) == 1 or not entries
    if len(kept) < len(entries):
        assert entries_size(entries[: len(kept) + 1]) > limit
    assert limit_size(entries, NO_LIMIT) is entries
