"""Reading what containers have written: all of it that was there when it was asked for, however far behind its takers are."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.runtime import logfile
from agent.runtime.logs import Logs


async def read(logs: Logs, folder: Path, tail: int = -1) -> list[bytes]:
    return [entry.data async for entry in logs.read("c", folder, False, tail, 0, 0)]


async def test_what_is_there_is_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has taken any of it yet, and it is taken in small pieces."""
    monkeypatch.setattr(logfile, "READ", 1000)
    logs = Logs()
    out, err = map(Path, logs.prepare(tmp_path))
    logs.collect("c", tmp_path)
    wanted = [b"%d\n" % n for n in range(10_000)]
    out.write_bytes(b"".join(wanted) + b"half a li")
    err.write_bytes(b"wrong\n")
    assert sorted(await read(logs, tmp_path)) == sorted([*wanted, b"wrong\n"])
    with out.open("ab") as more:
        more.write(b"ne\nlast\n" * 5000)
    assert await read(logs, tmp_path, tail=2) == [b"ne\n", b"last\n"]
    await logs.finish("c")
    assert await read(logs, tmp_path, tail=1) == [b"last\n"]
    await logs.close()


async def test_a_writer_that_never_ends_does_not_keep_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown what was there when it asked, and does not run after what comes meanwhile."""
    logs = Logs()
    out, _ = map(Path, logs.prepare(tmp_path))
    logs.collect("c", tmp_path)
    out.write_bytes(b"line\n" * 100)
    take, taken = logfile.LogWriter.take, 0

    def on_and_on(writer: logfile.LogWriter, flush: bool = False) -> bool:
        nonlocal taken
        taken += 1
        take(writer, flush)
        with out.open("ab") as more:
            more.write(b"another\n" * 100)
        return True

    monkeypatch.setattr(logfile.LogWriter, "take", on_and_on)
    assert (await read(logs, tmp_path))[:100] == [b"line\n"] * 100
    assert taken == 1
    await logs.close()
