"""Raw output for those who attach, and the pipe for what they type."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.runtime import fifo, logfile
from agent.runtime.logs import Logs
from agent.runtime.tail import Tail


async def read(tail: Tail) -> list[tuple[str, bytes]]:
    async with asyncio.timeout(10):
        return [piece async for piece in tail.read()]


async def test_from_the_moment_on_to_the_end(tmp_path: Path) -> None:
    logs = Logs()
    out, err = map(Path, logs.prepare(tmp_path))
    out.write_bytes(b"before\n")
    tail = logs.tail("c", tmp_path)
    logs.collect("c", tmp_path)
    with out.open("ab") as one, err.open("ab") as two:
        one.write(b"no newline")
        two.write(b"bad\n")
    reading = asyncio.create_task(read(tail))
    await logs.finish("c")
    assert await reading == [("stdout", b"no newline"), ("stderr", b"bad\n")]
    logs.let_go("c", tail)
    await logs.close()


async def test_one_that_waits_for_a_container_that_goes_unstarted(tmp_path: Path) -> None:
    logs = Logs()
    tail = logs.tail("c", tmp_path)
    reading = asyncio.create_task(read(tail))
    await logs.drop("c")
    assert await reading == []
    await logs.close()


def test_what_is_still_to_be_read_is_not_cut_out(tmp_path: Path) -> None:
    out = Path(logfile.prepare(tmp_path)[0])
    out.write_bytes(b"x" * 1023 * 4096 + b"\n")
    writer = logfile.LogWriter.open(tmp_path)
    spool = writer.spools[0]
    spool.hold = 8192
    while writer.take():
        pass
    assert spool.taken > 4_000_000
    assert spool.punched == 0
    spool.hold = None
    with out.open("ab") as file:
        file.write(b"more\n")
    writer.take()
    assert spool.punched > 4_000_000
    writer.close()


async def test_a_container_that_is_removed_before_all_was_read(tmp_path: Path) -> None:
    logs = Logs()
    out, err = map(Path, logs.prepare(tmp_path))
    tail = logs.tail("c", tmp_path)
    logs.collect("c", tmp_path)
    out.write_bytes(b"x" * 500_000)
    await logs.finish("c")
    await logs.drop("c")
    out.unlink()
    err.unlink()
    assert sum(len(data) for _, data in await read(tail)) == 500_000
    logs.let_go("c", tail)
    await logs.close()
    assert tail._files == [None, None]


async def test_who_is_too_slow_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "HELD", 1 << 20)
    out, _ = (Path(path) for path in logfile.prepare(tmp_path))
    tail = Tail(tmp_path)
    out.write_bytes((b"y" * 4095 + b"\n") * 768)
    writer = logfile.LogWriter.open(tmp_path)
    writer.spools[0].hold = 0
    while writer.take():
        pass
    writer.close()
    tail.wake(ended=True)
    (told, *rest) = await read(tail)
    lost = 2 << 20
    assert told == ("stderr", f"[shoal: {lost} bytes of output were lost: read too slowly]\n".encode())
    assert sum(len(data) for name, data in rest if name == "stdout") == 768 * 4096 - lost
    tail.close()


async def test_input_waits_for_its_reader_and_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "stdin")
    fifo.make(path)
    fifo.make(path)
    stdin = fifo.Stdin(path)
    data = b"y" * 200_000  # more than the pipe holds
    writing = asyncio.create_task(stdin.write(data))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    found = b""
    async with asyncio.timeout(10):
        while len(found) < len(data):
            await asyncio.sleep(0)
            try:
                found += os.read(reader, 65536)
            except BlockingIOError:
                continue
        await writing
    stdin.close()
    assert found == data and os.read(reader, 1) == b"" and not stdin.open
    os.close(reader)
