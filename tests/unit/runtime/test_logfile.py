"""Output taken from spool files: exact over crashes, bounded, with times."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.runtime import logfile
from agent.runtime.logfile import Cursor, LogWriter


def lines(folder: Path) -> list[tuple[str, bytes]]:
    found, cursor, end = [], Cursor(), False
    while not end:
        entries, cursor, end = logfile.read(folder, cursor)
        found += [(entry.stream, entry.data) for entry in entries]
    return found


def append(folder: Path, stream: str, data: bytes) -> None:
    with (folder / f"{stream}.log").open("ab") as file:
        file.write(data)


@pytest.fixture
def writer(tmp_path: Path) -> LogWriter:
    logfile.prepare(tmp_path)
    return LogWriter.open(tmp_path)


def test_lines_of_both_streams(tmp_path: Path, writer: LogWriter) -> None:
    append(tmp_path, "stdout", b"one\ntwo\nhal")
    append(tmp_path, "stderr", b"wrong\n")
    assert not writer.take()
    assert sorted(lines(tmp_path)) == [("stderr", b"wrong\n"), ("stdout", b"one\n"), ("stdout", b"two\n")]
    append(tmp_path, "stdout", b"f\nrest")
    writer.take()
    assert lines(tmp_path)[-1] == ("stdout", b"half\n")
    writer.take(flush=True)
    assert lines(tmp_path)[-1] == ("stdout", b"rest")
    writer.close()


def test_long_lines_are_cut(tmp_path: Path, writer: LogWriter) -> None:
    data = b"x" * (2 * logfile.LINE + 5) + b"\n"
    append(tmp_path, "stdout", data)
    writer.take()
    assert [len(line) for _, line in lines(tmp_path)] == [logfile.LINE, logfile.LINE, 6]
    writer.close()


def test_times_grow(tmp_path: Path, writer: LogWriter) -> None:
    append(tmp_path, "stdout", b"a\nb\nc\n")
    writer.take()
    entries, _, _ = logfile.read(tmp_path, Cursor())
    times = [entry.at for entry in entries]
    assert times == sorted(set(times))
    assert abs(times[0] - (tmp_path / "stdout.log").stat().st_mtime_ns) < 10
    writer.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40), st.booleans()), max_size=20
    )
)
def test_nothing_is_lost_or_doubled_over_crashes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes, bool]]
) -> None:
    """A crash: the writer is gone without a word, and the last segment may end in half a line."""
    folder = tmp_path_factory.mktemp("log")
    logfile.prepare(folder)
    writer = LogWriter.open(folder)
    sent = {"stdout": b"", "stderr": b""}
    for stream, data, crash in steps:
        append(folder, stream, data)
        sent[stream] += data
        writer.take()
        if crash:
            writer.close()
            for number in logfile.segments(folder)[-1:]:
                path = folder / f"log.{number}"
                path.write_bytes(path.read_bytes() + b"\x00\x00\x00\x09\x00torn")
            writer = LogWriter.open(folder)
    writer.take(flush=True)
    writer.close()
    found = {"stdout": b"", "stderr": b""}
    for stream, data in lines(folder):
        found[stream] += data
    assert found == sent


def test_a_torn_last_line_is_taken_again(tmp_path: Path, writer: LogWriter) -> None:
    append(tmp_path, "stdout", b"one\ntwo\n")
    writer.take()
    writer.close()
    segment = tmp_path / "log.1"
    segment.write_bytes(segment.read_bytes()[:-2])
    again = LogWriter.open(tmp_path)
    again.take()
    again.close()
    assert lines(tmp_path) == [("stdout", b"one\n"), ("stdout", b"two\n")]


def test_segments_are_bounded(tmp_path: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "SEGMENT", 1000)
    for number in range(300):
        append(tmp_path, "stdout", b"%04d %s\n" % (number, b"x" * 20))
        writer.take()
    assert len(logfile.segments(tmp_path)) == logfile.SEGMENTS
    kept = lines(tmp_path)
    assert kept[-1][1].startswith(b"0299")
    assert [int(line[:4]) for _, line in kept] == list(range(300 - len(kept), 300))
    writer.close()
    again = LogWriter.open(tmp_path)
    assert not again.take()
    assert lines(tmp_path) == kept
    again.close()


@given(st.integers(1, 1500))
def test_eight_full_segments_are_kept_whatever_the_pieces(
    tmp_path_factory: pytest.TempPathFactory, piece: int
) -> None:
    """How quickly output is taken decides how full the segments get, never how much of it is kept."""
    folder = tmp_path_factory.mktemp("log")
    logfile.prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logfile, "SEGMENT", 1000)
        patch.setattr(logfile, "READ", piece)
        writer = LogWriter.open(folder)
        append(folder, "stdout", b"".join(b"%05d\n" % number for number in range(2000)))
        while writer.take():
            pass
        writer.close()
    kept = [int(line) for _, line in lines(folder)]
    assert kept == list(range(2000 - len(kept), 2000))
    assert len(kept) * (6 + logfile._LINE.size) >= (logfile.SEGMENTS - 1) * 1000


def test_a_backlog_beyond_bounds_is_let_go_and_said(
    tmp_path: Path, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "BACKLOG", 100_000)
    monkeypatch.setattr(logfile, "KEPT_BACKLOG", 1000)
    append(tmp_path, "stdout", b"x" * 99 + b"\n" + b"y" * 1999 + b"\n" + b"z" * 99 + b"\n")
    append(tmp_path, "stdout", (b"w" * 99 + b"\n") * 2000)
    writer.take()
    kept = lines(tmp_path)
    assert any(b"bytes of output were lost" in line for stream, line in kept if stream == "stderr")
    assert sum(len(line) for stream, line in kept if stream == "stdout") == 1000
    assert (tmp_path / "stdout.log").stat().st_blocks * 512 < 20_000
    writer.close()
    again = LogWriter.open(tmp_path)
    assert not again.take()
    assert lines(tmp_path) == kept
    again.close()


def test_nothing_is_let_go_that_would_be_kept_of_who_writes_slowly() -> None:
    assert logfile.KEPT_BACKLOG >= logfile.SEGMENT * (logfile.SEGMENTS - 1)
    assert logfile.BACKLOG >= 2 * logfile.KEPT_BACKLOG


def test_taken_output_gives_its_space_back(tmp_path: Path, writer: LogWriter) -> None:
    for _ in range(4):
        append(tmp_path, "stdout", (b"x" * 1023 + b"\n") * 1024)
        while writer.take():
            pass
    assert (tmp_path / "stdout.log").stat().st_size == 4 << 20
    assert (tmp_path / "stdout.log").stat().st_blocks * 512 <= 1 << 20
    writer.close()
