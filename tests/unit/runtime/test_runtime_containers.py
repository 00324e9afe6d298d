"""Containers over a containerd that exists only in memory: whose end a stop waits for, and readers that come to nothing."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from agent.runtime import client as c
from agent.runtime import containers
from agent.runtime.api import ContainerConfig, Status
from agent.runtime.containers import Containers
from agent.runtime.creation import Creator
from agent.runtime.events import Events
from agent.runtime.folder import Folders, Record
from agent.runtime.oci import OciRuntime
from agent.runtime.tasks import Tasks
from common import errors
from common.clock import SystemClock
from common.pb import containerd_pb2 as pb

ID = "c" * 64


class Containerd:
    """One container that runs. Its process ends by `end`, and hears signals when `hears` is set."""

    namespace = "shoal"

    def __init__(self) -> None:
        self.ends: list[asyncio.Event] = [asyncio.Event()]
        self.signals: list[int] = []
        self.heard, self.hears = asyncio.Event(), asyncio.Event()

    async def call(self, method: Any, request: Any, **_: Any) -> Any:
        if method is c.CONTAINER_LIST:
            return pb.ContainerList(containers=[pb.Container(id=ID)])
        if method is c.TASK_LIST:
            return pb.TaskList(tasks=[pb.TaskProcess(id=ID, pid=7, status=pb.RUNNING)])
        if method is c.TASK_WAIT:
            await self.ends[-1].wait()
            return pb.TaskWaited(exit_status=143)
        if method is c.TASK_KILL and not request.all:
            self.signals.append(request.signal)
            self.heard.set()
            await self.hears.wait()
            return c.Empty()
        if method is c.TASK_CREATE:
            return pb.TaskCreated(pid=8)
        if method is c.TASK_START:
            self.ends.append(asyncio.Event())
            return pb.TaskPid(pid=8)
        raise errors.NotFound("nothing of that")


class Logs:
    """Readers of output, counted."""

    def __init__(self) -> None:
        self.tails = 0

    def collect(self, id: str, folder: Path) -> None: ...
    def prepare(self, folder: Path) -> tuple[str, str]:
        return "out", "err"

    async def finish(self, id: str) -> None:
        raise OSError(24, "Too many open files")

    def tail(self, id: str, folder: Path) -> object:
        self.tails += 1
        return object()


class Content:
    async def mounts(self, _id: str) -> list[Any]:
        return []


class Bench:
    def __init__(self, folder: Path, group: asyncio.TaskGroup) -> None:
        self.containerd, self.logs, self.folders = Containerd(), Logs(), Folders(folder)
        config = ContainerConfig(ID, "one", "alpine", open_stdin=True)
        self.folders.prepare(Record(config, "image", "SIGTERM", 1, 2))
        containerd, content, nothing = cast(Any, self.containerd), cast(Any, Content()), cast(Any, None)
        clock = SystemClock()
        self.containers = Containers(
            Creator(containerd, content, nothing, self.folders, nothing, "runc"),
            Tasks(containerd, content, OciRuntime("runc", "shoal"), clock),
            self.folders, cast(Any, self.logs), Events(clock), clock, group.create_task,
        )  # fmt: skip


async def test_a_stop_waits_for_the_end_of_the_run_that_it_found(tmp_path: Path) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        bench = Bench(tmp_path, group)
        await bench.containers.adopt()
        stopping = group.create_task(bench.containers.stop(ID, "", 60.0))
        await bench.containerd.heard.wait()
        bench.containerd.ends[-1].set()
        await bench.containers.wait(ID)
        assert await bench.containers.start(ID) == 8  # by somebody else, at once
        bench.containerd.hears.set()
        await stopping
        found = bench.containers.find(ID)
        assert found is not None and found.status is Status.RUNNING
        assert bench.containerd.signals == [15]
        bench.containerd.ends[-1].set()


async def test_one_who_cannot_attach_holds_no_output_back(tmp_path: Path) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        bench = Bench(tmp_path, group)
        await bench.containers.adopt()
        (tmp_path / ID / "stdin").mkdir()
        with pytest.raises(errors.Internal, match="file exists"):
            await bench.containers.attach(ID, True)
        assert bench.logs.tails == 0
        bench.containerd.ends[-1].set()


async def test_whoever_reads_after_the_end_waits_for_the_last_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is told first; what was written just before it is still on its way."""
    finishing, written = asyncio.Event(), asyncio.Event()

    async def finish(id: str) -> None:
        finishing.set()
        await written.wait()

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        bench = Bench(tmp_path, group)
        monkeypatch.setattr(bench.logs, "finish", finish)
        await bench.containers.adopt()
        await bench.containers.written_out(ID)  # it runs: what is there is there
        bench.containerd.ends[-1].set()
        await bench.containers.wait(ID)
        await finishing.wait()
        reading = group.create_task(bench.containers.written_out(ID))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not reading.done()
        written.set()
        await reading
        monkeypatch.setattr(containers, "_WRITTEN_S", 0.01)
        written.clear()
        await bench.containers.start(ID)
        bench.containerd.ends[-1].set()
        await bench.containers.wait(ID)
        await bench.containers.written_out(ID)  # nobody waits for ever
        written.set()
