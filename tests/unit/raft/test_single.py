"""Consensus of one member: committed means synced, and everything is there again after a restart."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common import errors
from manager.raft.seal import Damaged, Sealer
from manager.raft.single import SingleNode

KEY = bytes(range(32))


@dataclass
class Captured:
    index: int
    term: int
    data: bytes

    def encode(self) -> bytes:
        return self.data


@dataclass
class Machine:
    """Remembers what was applied."""

    applied: list[tuple[int, int, bytes]] = field(default_factory=list)

    def apply(self, index: int, term: int, data: bytes, /) -> None:
        self.applied.append((index, term, data))

    def capture(self) -> Captured:
        last = self.applied[-1]
        return Captured(last[0], last[1], b"|".join(b"%d,%d,%s" % a for a in self.applied))

    def restore(self, data: bytes, /) -> None:
        parts = [p.split(b",") for p in data.split(b"|")]
        self.applied = [(int(a), int(b), c) for a, b, c in parts]


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


@asynccontextmanager
async def running(folder: Path, machine: Machine, interval: int = 10_000) -> AsyncIterator[SingleNode]:
    node = SingleNode(folder, Sealer(KEY), machine, interval, segment_bytes=4096)
    await node.start()
    task = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        task.cancel()
        await asyncio.wait([task])
        await node.stop()


async def test_proposals_are_applied_in_order_and_survive(tmp_path: Path) -> None:
    machine = Machine()
    async with running(tmp_path, machine) as node:
        assert (node.term, node.leader) == (1, True)
        indexes = await asyncio.gather(*(node.propose(b"%d" % n) for n in range(300)))
        assert indexes == list(range(1, 301))
        assert await node.read_index() == 300
    assert [data for _, _, data in machine.applied] == [b"%d" % n for n in range(300)]
    again = Machine()
    async with running(tmp_path, again) as node:
        assert again.applied == machine.applied
        assert node.term == 2
        assert await node.propose(b"x") == 301
    assert again.applied[-1] == (301, 2, b"x")


async def test_snapshots_shorten_the_log(tmp_path: Path) -> None:
    machine = Machine()
    async with running(tmp_path, machine, interval=50) as node:
        for n in range(220):
            await node.propose(b"%d" % n)
    assert len(files(tmp_path, "*.snap")) == 1
    assert len(files(tmp_path, "log/*.log")) < 5
    again = Machine()
    async with running(tmp_path, again) as node:
        assert again.applied == machine.applied
        assert node.term == 2


async def test_a_full_disk_refuses_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    async with running(tmp_path, machine) as node:
        await node.propose(b"one")

        def full(fd: int, offset: int, length: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(errors.Internal, match=r"nothing was changed.*No space left"):
            await node.propose(b"x" * 8000)
        assert len(machine.applied) == 1
        monkeypatch.undo()
        assert await node.propose(b"x" * 8000) == 2


async def test_a_failing_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    node = SingleNode(tmp_path, Sealer(KEY), machine)
    await node.start()
    task = asyncio.create_task(node.run())
    await node.propose(b"one")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(errors.Internal):
        await node.propose(b"two")
    await asyncio.wait([task])
    assert isinstance(task.exception(), ExceptionGroup)
    with pytest.raises(errors.ShoalError, match="lost leader status"):
        await node.propose(b"three")
    assert [data for _, _, data in machine.applied] == [b"one"]
    monkeypatch.undo()
    await node.stop()


async def test_a_snapshot_without_its_log_is_named(tmp_path: Path) -> None:
    machine = Machine()
    async with running(tmp_path, machine, interval=50) as node:
        for n in range(220):
            await node.propose(b"%d" % n)
    for path in files(tmp_path, "*.snap"):
        path.unlink()
    node = SingleNode(tmp_path, Sealer(KEY), Machine())
    with pytest.raises(Damaged, match="missing"):
        await node.start()
    await node.stop()
