"""The log: what was acknowledged is read back, a torn tail is cut, damage is named."""

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.raft.core.messages import Entry, HardState
from manager.raft.log import Log, Recovered, open_log
from manager.raft.records import START, Content, framed_size, length_at
from manager.raft.seal import Damaged, Sealer

KEY = bytes(range(32))
SEGMENT = 4096


def opened(folder: Path) -> tuple[Log, Recovered]:
    return open_log(folder, Sealer(KEY), SEGMENT)


def entries(*indexes: int, size: int = 20) -> list[Content]:
    return [Entry(i, 1, data=b"%d" % i * size) for i in indexes]


def fill(folder: Path, groups: int = 5) -> list[Content]:
    log, _ = opened(folder)
    written: list[Content] = []
    for n in range(groups):
        group = entries(3 * n + 1, 3 * n + 2, 3 * n + 3)
        log.append(group)
        written += group
    log.close()
    return written


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def offsets(path: Path) -> list[int]:
    """Where the records of a segment begin."""
    data, offset, found = path.read_bytes(), START, []
    while length := length_at(data, offset):
        found.append(offset)
        offset += framed_size(length)
    return found


def test_reopen_gives_what_was_written(tmp_path: Path) -> None:
    written = fill(tmp_path)
    log, found = opened(tmp_path)
    assert found.entries == written
    assert found.cut == 0
    log.append([HardState(7, 2, 15), *entries(16)])
    log.close()
    _, found = opened(tmp_path)
    assert found.state == HardState(7, 2, 15)
    assert [e.index for e in found.entries] == list(range(1, 17))


@given(
    groups=st.lists(st.lists(st.integers(0, 900), min_size=1, max_size=6), min_size=1, max_size=25),
    reopen=st.sets(st.integers(0, 24)),
)
@settings(max_examples=40, deadline=None)
def test_any_groups_survive_any_reopening(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]], reopen: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, _ = opened(folder)
    written: list[Entry] = []
    for number, sizes in enumerate(groups):
        group = [Entry(len(written) + 1 + n, number, data=os.urandom(size)) for n, size in enumerate(sizes)]
        log.append(group)
        written += group
        if number in reopen:
            log.close()
            log, found = opened(folder)
            assert found.entries == written
    log.close()
    _, found = opened(folder)
    assert found.entries == written


def test_a_later_entry_with_the_same_index_replaces_the_rest(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(entries(1, 2, 3))
    log.append([Entry(2, 5, data=b"new")])
    log.close()
    _, found = opened(tmp_path)
    assert [(e.index, e.term) for e in found.entries] == [(1, 1), (2, 5)]


def test_a_log_that_cannot_be_opened_leaves_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again every second for as long as the disk fails."""
    log, _ = opened(tmp_path)
    log.append(entries(1, 2))
    log.append(entries(3))
    log.close()
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    path.write_bytes(whole[: end - 8] + bytes(len(whole) - end + 8))

    def fails(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fails)
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output error"):
                opened(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    log, found = opened(tmp_path)
    assert [e.index for e in found.entries] == [1, 2]
    log.close()


@pytest.mark.parametrize("seed", range(30))
def test_a_torn_last_group_is_cut_and_the_log_goes_on(tmp_path: Path, seed: int) -> None:
    """Any mix of new and old sectors of the last write, as a power cut leaves it."""
    rng = random.Random(seed)
    log, _ = opened(tmp_path)
    log.append(entries(1, 2))
    path, before = segments(tmp_path)[0], segments(tmp_path)[0].read_bytes()
    log.append(entries(3, 4, 5, 6, size=rng.choice((5, 100, 300))))
    log.close()
    if len(segments(tmp_path)) > 1:
        path, before = segments(tmp_path)[1], segments(tmp_path)[1].read_bytes()[:32].ljust(SEGMENT, b"\0")
    after = bytearray(path.read_bytes())
    sector = rng.choice((8, 64, 512))
    for start in range(32, len(after), sector):
        if rng.random() < 0.5:
            old = before.ljust(len(after), b"\0")[start : start + sector]
            after[start : start + sector] = old
    path.write_bytes(after)
    log, found = opened(tmp_path)
    kept = [e.index for e in found.entries]
    assert kept[:2] == [1, 2]
    assert kept == list(range(1, len(kept) + 1))
    log.append(entries(len(kept) + 1))
    log.close()
    _, again = opened(tmp_path)
    assert [e.index for e in again.entries] == list(range(1, len(kept) + 2))
    assert again.cut == 0


def test_a_cut_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path)
    path = segments(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    last = offsets(path)[-1]
    data[last + 40 :] = bytes(len(data) - last - 40)
    path.write_bytes(data)
    log, found = opened(tmp_path)
    log.close()
    assert found.cut > 0
    assert f"a crash tore at byte {last}" in caplog.text
    assert [e.index for e in found.entries] == list(range(1, 13)), "a group counts as a whole or not at all"


@pytest.mark.parametrize("seed", range(40))
def test_damage_in_what_was_synced_is_named(tmp_path: Path, seed: int) -> None:
    """Also in the very last group: its bytes are all there, so that no crash tore it."""
    rng = random.Random(seed)
    fill(tmp_path, groups=20)
    paths = segments(tmp_path)
    assert len(paths) > 1
    path = rng.choice(paths)
    data = bytearray(path.read_bytes())
    last = offsets(path)[-1]
    end = last + framed_size(length_at(data, last) or 0)
    data[rng.randrange(START, end)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"is damaged at byte \d+.*(restore a backup)") as raised:
        opened(tmp_path)
    assert str(path) in str(raised.value)


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    fill(tmp_path, groups=60)
    paths = segments(tmp_path)
    assert len(paths) > 2
    paths[1].unlink()
    with pytest.raises(Damaged, match="one is missing"):
        opened(tmp_path)


def test_a_truncated_or_foreign_segment_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    with pytest.raises(Damaged, match="truncated"):
        opened(tmp_path)
    path.write_bytes(b"X" + whole[1:])
    with pytest.raises(Damaged, match="header"):
        opened(tmp_path)


def test_another_key_is_named_and_nothing_is_cut(tmp_path: Path) -> None:
    fill(tmp_path)
    before = segments(tmp_path)[0].read_bytes()
    with pytest.raises(Damaged, match="does not open with this manager's key"):
        open_log(tmp_path, Sealer(bytes(32)), SEGMENT)
    assert segments(tmp_path)[0].read_bytes() == before


def test_content_is_not_readable_on_the_disk(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append([Entry(1, 1, data=b"a very secret password")])
    log.close()
    assert b"secret" not in segments(tmp_path)[0].read_bytes()
    assert segments(tmp_path)[0].stat().st_mode & 0o077 == 0


def test_compaction_removes_only_what_is_covered(tmp_path: Path) -> None:
    written = fill(tmp_path, groups=60)
    log, _ = opened(tmp_path)
    count = len(segments(tmp_path))
    assert log.compact(0) == 0
    removed = log.compact(100)
    assert 0 < removed < count
    log.append(entries(181))
    log.close()
    _, found = opened(tmp_path)
    assert found.entries[0].index <= 101
    assert [e.index for e in found.entries][-1] == 181
    assert found.entries[:-1] == written[found.entries[0].index - 1 :]


def test_no_room_for_a_new_segment_fails_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)
    log.append(entries(1))

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        log.append(entries(2, size=5000))
    assert not log.broken
    log.append(entries(2))
    monkeypatch.undo()
    log.append(entries(3, size=5000))
    log.close()
    _, found = opened(tmp_path)
    assert [e.index for e in found.entries] == [1, 2, 3]


def test_a_failed_sync_makes_the_log_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)
    log.append(entries(1))

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        log.append(entries(2))
    monkeypatch.undo()
    assert log.broken
    with pytest.raises(OSError, match="earlier failure"):
        log.append(entries(2))
    log.close()
