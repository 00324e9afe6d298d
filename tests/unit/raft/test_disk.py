"""The disk as one durable thing: state, entries and snapshot change together, and load gives back what counts."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import model
from manager.raft.core.messages import Entry, EntryType, HardState
from manager.raft.disk import FileDisk, Loaded
from manager.raft.seal import Damaged, Sealer

KEY = bytes(range(32))
SEGMENT = 2048


def opened(folder: Path, sealer: Sealer | None = None) -> tuple[FileDisk, Loaded]:
    disk = FileDisk(folder, sealer or Sealer(KEY), SEGMENT)
    return disk, disk.load()


def loaded(folder: Path, sealer: Sealer | None = None) -> Loaded:
    disk, found = opened(folder, sealer)
    disk.close()
    return found


def entries(first: int, last: int, term: int = 1, size: int = 20) -> tuple[Entry, ...]:
    return tuple(Entry(i, term, data=b"%d/%d" % (i, term) * size) for i in range(first, last + 1))


def snapshot(index: int, term: int = 1, data: bytes = b"state") -> model.RaftSnapshot:
    member = model.RaftMember(7, "node", "10.0.0.1:2377")
    return model.RaftSnapshot(index, term, model.RaftConfState((7,), (8,)), (member,), (3, 4), data)


def indexes(found: Loaded) -> list[int]:
    return [entry.index for entry in found.entries]


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    disk, found = opened(tmp_path / "raft")
    assert found == Loaded(None, (), HardState())
    assert disk.snapshot() is None
    assert not disk.broken
    disk.close()
    assert disk.broken


def test_everything_comes_back(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    written = (
        Entry(1, 1),
        Entry(2, 1, EntryType.CONF_CHANGE, b"c"),
        Entry(3, 1, EntryType.CONF_CHANGE_V2, b"2"),
    )
    disk.save(HardState(1, 7, 0), written)
    disk.save(HardState(1, 7, 3), ())
    disk.save(None, entries(4, 5))
    disk.save(None, ())
    disk.close()
    assert loaded(tmp_path) == Loaded(None, written + entries(4, 5), HardState(1, 7, 3))


def test_later_entries_replace_over_segments_and_after_compaction(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    for i in range(1, 60):
        disk.save(None, entries(i, i))
    disk.save_snapshot(snapshot(40))
    assert disk.compact(40) > 0
    disk.save(HardState(2, 7, 45), entries(46, 50, term=2))
    disk.save(HardState(3, 7, 45), entries(48, 48, term=3))
    disk.close()
    found = loaded(tmp_path)
    assert [(e.index, e.term) for e in found.entries] == [
        (41, 1), (42, 1), (43, 1), (44, 1), (45, 1), (46, 2), (47, 2), (48, 3),
    ]  # fmt: skip
    assert found.state == HardState(3, 7, 45)
    assert found.snapshot == snapshot(40)


def test_state_outlives_the_segment_it_was_written_in(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    disk.save(HardState(9, 7, 0), ())
    for i in range(1, 200):
        disk.save(None, entries(i, i, term=9))
    disk.save_snapshot(snapshot(150, 9))
    for i in range(200, 300):
        disk.save(None, entries(i, i, term=9))
    disk.compact(150)
    disk.close()
    found = loaded(tmp_path)
    assert found.state == HardState(9, 7, 150)
    assert found.snapshot == snapshot(150, 9)
    assert indexes(found) == list(range(151, 300))


def test_compaction_never_goes_beyond_the_snapshot(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    for i in range(1, 100):
        disk.save(None, entries(i, i))
    assert disk.compact(90) == 0
    disk.save_snapshot(snapshot(30))
    disk.compact(90)
    disk.close()
    assert indexes(loaded(tmp_path)) == list(range(31, 100))


def test_entries_after_a_snapshot_stay_only_when_they_follow_on_it(tmp_path: Path) -> None:
    for name, last, term, kept in (
        ("own", 9, 1, [6, 7, 8, 9]),
        ("ends there", 5, 1, []),
        ("another term", 9, 2, []),
        ("newer than the log", 3, 1, []),
    ):
        disk, _ = opened(tmp_path / name)
        disk.save(HardState(1, 7, 0), entries(1, last))
        disk.save_snapshot(snapshot(5, term))
        disk.close()
        found = loaded(tmp_path / name)
        assert (found.snapshot, indexes(found)) == (snapshot(5, term), kept), name
        assert found.state == HardState(1, 7, 5), name
        disk, _ = opened(tmp_path / name)
        disk.save(None, entries(len(kept) + 6, 20, 3))
        disk.close()
        assert indexes(loaded(tmp_path / name)) == list(range(6, 21)), name


def test_an_older_snapshot_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    disk.save(None, entries(1, 9))
    disk.save_snapshot(snapshot(8))
    disk.save_snapshot(snapshot(5))
    assert disk.snapshot() == snapshot(8)
    disk.close()
    assert loaded(tmp_path).snapshot == snapshot(8)
    assert len(list(tmp_path.glob("*.snap"))) == 1


def test_install_replaces_everything(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    for i in range(1, 100):
        disk.save(HardState(1, 7, i - 1), entries(i, i))
    disk.save_snapshot(snapshot(50))
    # With the same index and entries that would follow on it, as --force-new-cluster does.
    disk.install(snapshot(50, 1, b"another"), HardState(4, 0, 50))
    assert disk.snapshot() == snapshot(50, 1, b"another")
    assert len(list((tmp_path / "log").glob("*.log"))) == 1
    for i in range(51, 100):
        disk.save(None, entries(i, i, 4))
    disk.close()
    assert loaded(tmp_path) == Loaded(snapshot(50, 1, b"another"), entries(51, 99, 4), HardState(4, 0, 50))


def test_install_into_an_empty_folder(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    disk.install(snapshot(500, 3), HardState(4, 0, 500))
    disk.close()
    assert loaded(tmp_path) == Loaded(snapshot(500, 3), (), HardState(4, 0, 500))


def test_entries_that_cannot_follow_are_refused(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    disk.save(None, entries(1, 3))
    with pytest.raises(ValueError, match="entry 5 cannot follow on entry 3"):
        disk.save(None, entries(5, 5))
    disk.close()


def test_a_failed_snapshot_leaves_the_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _ = opened(tmp_path)
    disk.save(HardState(1, 7, 9), entries(1, 9))
    disk.save_snapshot(snapshot(5))

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        disk.save_snapshot(snapshot(8))
    with pytest.raises(OSError, match="No space"):
        disk.install(snapshot(9, 2), HardState(2, 7, 9))
    monkeypatch.undo()
    assert not disk.broken
    assert disk.snapshot() == snapshot(5)
    disk.save(None, entries(10, 10))
    disk.close()
    assert indexes(loaded(tmp_path)) == [6, 7, 8, 9, 10]


def test_a_failed_sync_breaks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _ = opened(tmp_path)
    disk.save(HardState(1, 7, 0), entries(1, 9))

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output"):
        disk.save_snapshot(snapshot(5))
    monkeypatch.undo()
    assert disk.broken
    with pytest.raises(OSError, match="earlier failure"):
        disk.save(HardState(2), ())
    disk.close()
    # The mark may have reached the disk or not; both are whole.
    found = loaded(tmp_path)
    assert (found.snapshot, indexes(found)) in ((snapshot(5), [6, 7, 8, 9]), (None, list(range(1, 10))))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    def filled(name: str) -> Path:
        disk, _ = opened(tmp_path / name)
        for i in range(1, 100):
            disk.save(HardState(1, 7, i - 1), entries(i, i))
        disk.save_snapshot(snapshot(50))
        disk.compact(50)
        disk.save(HardState(1, 7, 98), ())
        disk.close()
        return tmp_path / name

    folder = filled("snapshot")
    next(folder.glob("*.snap")).unlink()
    with pytest.raises(Damaged, match=r"snap is missing.*restore a backup"):
        loaded(folder)
    folder = filled("log")
    for path in folder.glob("log/*.log"):
        path.unlink()
    with pytest.raises(Damaged, match="log is empty but there are snapshots"):
        loaded(folder)
    assert list(folder.glob("*.snap"))
    folder = filled("newest segment")
    max(folder.glob("log/*.log")).unlink()
    with pytest.raises(Damaged, match="missing"):
        loaded(folder)


def test_snapshot_is_sealed_and_checked(tmp_path: Path) -> None:
    disk, _ = opened(tmp_path)
    disk.install(snapshot(7, 2, b"some secret state"), HardState(2, 0, 7))
    disk.close()
    path = next(tmp_path.glob("*.snap"))
    whole = path.read_bytes()
    assert b"secret" not in whole
    assert path.stat().st_mode & 0o077 == 0
    for place in (0, 12, len(whole) // 2, len(whole) - 1):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(Damaged, match="restore a backup"):
            loaded(tmp_path)
    path.write_bytes(whole)
    assert loaded(tmp_path).snapshot == snapshot(7, 2, b"some secret state")


def test_rotation_leaves_nothing_of_the_old_key(tmp_path: Path) -> None:
    for name, with_snapshot in (("with", True), ("without", False)):
        folder = tmp_path / name
        old = Sealer(KEY)
        disk, _ = opened(folder, old)
        disk.save(HardState(3, 7, 60), entries(1, 80, 3))
        if with_snapshot:
            disk.save_snapshot(snapshot(50, 3))
        both = old.replaced_by(bytes(32))
        disk.rotate(both)
        disk.save(HardState(4, 7, 61), entries(81, 82, 4))
        disk.close()
        found = loaded(folder, Sealer(bytes(32), both.number))
        assert found.snapshot == (snapshot(50, 3) if with_snapshot else None)
        assert found.entries == entries(51 if with_snapshot else 1, 80, 3) + entries(81, 82, 4)
        assert found.state == HardState(4, 7, 61)
        with pytest.raises(Damaged, match="key"):
            loaded(folder, old)


def test_snapshots_and_rotations_beside_the_writer(tmp_path: Path) -> None:
    """As in a member: entries are saved in one thread while others save, read and seal anew."""
    sealer = Sealer(KEY)
    disk, _ = opened(tmp_path, sealer)
    done = threading.Event()
    read: list[int] = []

    def snapshots() -> None:
        while not done.wait(0.001):
            upto = saved[-1]
            if upto > 20:
                disk.save_snapshot(snapshot(upto - 10))
                disk.compact(upto - 15)

    def rotations() -> None:
        nonlocal sealer
        for number in range(8):
            sealer = sealer.replaced_by(bytes([number]) * 32)
            disk.rotate(sealer)

    def reads() -> None:
        while not done.wait(0.001):
            found = disk.snapshot()
            read.append(found.index if found else 0)

    saved = [0]
    with ThreadPoolExecutor(3) as pool:
        beside = [pool.submit(call) for call in (snapshots, rotations, reads)]
        while not beside[1].done() or saved[-1] < 400:
            disk.save(HardState(1, 7, saved[-1]), entries(saved[-1] + 1, saved[-1] + 2))
            saved.append(saved[-1] + 2)
        done.set()
    for call in beside:
        call.result()
    newest = disk.snapshot()
    assert newest is not None and read == sorted(read)
    disk.close()
    found = loaded(tmp_path, sealer)
    assert (found.snapshot, indexes(found)) == (newest, list(range(newest.index + 1, saved[-1] + 1)))


def test_what_cannot_be_removed_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sealer = Sealer(KEY)
    disk, _ = opened(tmp_path, sealer)
    disk.save(HardState(1, 7, 90), entries(1, 90))
    disk.save_snapshot(snapshot(50))

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error")

    both = sealer.replaced_by(bytes(32))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        disk.save_snapshot(snapshot(60))
        disk.install(snapshot(200, 2), HardState(2, 0, 200))
        assert caplog.text.count("could not be removed") == 3
        with pytest.raises(OSError, match="Input/output"):
            disk.rotate(both)
    assert disk.snapshot() == snapshot(200, 2)
    disk.save(None, entries(201, 202, 2))
    disk.close()
    expected = Loaded(snapshot(200, 2), entries(201, 202, 2), HardState(2, 0, 200))
    assert loaded(tmp_path, both) == expected
    disk, _ = opened(tmp_path, both)
    disk.rotate(both)
    disk.close()
    assert loaded(tmp_path, Sealer(bytes(32), both.number)) == expected
