"""The worker over a real containerd: a life, a new agent that adopts, and a power cut after which tasks run again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.database import TaskRecord, open_database
from agent.network.api import Sandbox
from agent.runtime.service import ContainerdRuntime, RuntimeSettings
from agent.state import NodeState
from agent.statuses import StatusQueue
from agent.worker.files import TaskFiles
from agent.worker.tools import Tools
from agent.worker.worker import Worker
from common import model
from common.clock import SystemClock
from common.model import TaskState
from tests.lab.containerd import OwnContainerd, busybox_layout

# Blocking calls of a millisecond are fine in a test.
# ruff: noqa: ASYNC240, ASYNC221

pytestmark = pytest.mark.lab

IMAGE = "busybox:test"
OURS = f"shoal-wt-{os.getpid()}-"  # another run of the tests may go on beside this one
PATIENCE = 60.0  # seconds for what usually takes less than one
S = TaskState


class Namespaces:
    """A network that makes bare namespaces."""

    def __init__(self) -> None:
        self.attached: set[str] = set()

    def name(self, task_id: str) -> str:
        return f"{OURS}{task_id}"

    async def attach(self, task_id: str) -> Sandbox:
        name = self.name(task_id)
        if not os.path.exists(f"/run/netns/{name}"):
            subprocess.run(["ip", "netns", "add", name], check=True)
        self.attached.add(task_id)
        return Sandbox(task_id, f"/run/netns/{name}", ("10.0.0.5",))

    async def detach(self, task_id: str) -> None:
        if os.path.exists(f"/run/netns/{self.name(task_id)}"):
            subprocess.run(["ip", "netns", "del", self.name(task_id)], check=True)
        self.attached.discard(task_id)


class Bench:
    def __init__(self, containerd: OwnContainerd, boot: str) -> None:
        self.runtime = ContainerdRuntime(
            RuntimeSettings(folder=containerd.root / "agent", socket=containerd.socket)
        )
        self.database, self.remembered = open_database(containerd.root / "state")
        self.network = Namespaces()
        self.tools = Tools(
            self.runtime, self.network, self.database, StatusQueue(), SystemClock(), containerd.root / "volumes",  # type: ignore[arg-type]
            TaskFiles(containerd.root / "files"), lambda: model.NodeDescription(hostname="one"), boot_id=boot,
        )  # fmt: skip
        self.worker = Worker(self.tools)

    def record(self, task_id: str) -> TaskRecord:
        return self.worker._supervisors[task_id].record

    async def reaches(self, state: TaskState, *task_ids: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while any(  # noqa: ASYNC110
                t not in self.worker._supervisors or self.record(t).status.state < state for t in task_ids
            ):
                await asyncio.sleep(0.01)
        assert {self.record(t).status.state for t in task_ids} == {state}, [self.record(t) for t in task_ids]

    def pid(self, task_id: str) -> int:
        container = self.record(task_id).status.container
        assert container is not None
        return container.pid


@asynccontextmanager
async def agent(containerd: OwnContainerd, boot: str = "one") -> AsyncIterator[Bench]:
    b = Bench(containerd, boot)
    await b.runtime.start()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(b.worker.run())
        await b.worker.adopt(b.remembered.tasks)
        yield b
        run.cancel()
    await b.runtime.close()
    b.database.close()


@pytest.fixture
def containerd() -> Iterator[OwnContainerd]:
    own = OwnContainerd(Path(tempfile.mkdtemp(prefix="shoal-wrk-")))
    own.start()
    yield own
    own.stop()
    for path in Path("/run/netns").glob(f"{OURS}*"):
        subprocess.run(["ip", "netns", "del", path.name], check=True)
    shutil.rmtree(own.root)


def task(
    task_id: str, desired: TaskState = S.TASK_RUNNING, script: str = "exec sleep 1000"
) -> model.TaskAssignment:
    spec = model.ContainerSpec(image=IMAGE, args=("sh", "-c", script), stop_grace_period=100_000_000)
    made = model.Task(
        id=task_id, name=f"web.1.{task_id}", service_id="s1", service_name="web", slot=1, desired_state=desired,
        spec=model.TaskSpec(container=spec),
    )  # fmt: skip
    return model.TaskAssignment(made, True)


def state(*tasks: model.TaskAssignment) -> NodeState:
    return NodeState("n1", model.Fence("c1"), "a", {t.task.id: t for t in tasks})


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_life_over_agents_and_boots(containerd: OwnContainerd) -> None:
    names = ("t1", "t2", "t3")
    async with agent(containerd) as b:
        await b.runtime.load(blocks(busybox_layout(IMAGE)))
        b.worker.update(state(*(task(n) for n in names)), complete=True)
        await b.reaches(S.TASK_RUNNING, *names)
        pids = {n: b.pid(n) for n in names}
        await b.database.put_state(state(*(task(n) for n in names)))
        containers = [b.record(n).container_id for n in names]

    # A new agent: what runs goes on, what ended meanwhile is reported with its code.
    os.kill(pids["t3"], signal.SIGKILL)
    async with agent(containerd) as b:
        b.worker.update(b.remembered.state)
        await b.reaches(S.TASK_FAILED, "t3")
        assert b.record("t3").status.err == "task: non-zero exit (137)"
        assert {n: b.pid(n) for n in names[:2]} == {n: pids[n] for n in names[:2]}
        assert all(os.path.exists(f"/proc/{pids[n]}") for n in names[:2])
        b.worker.update(state(task("t1"), task("t2"), task("t3", S.TASK_SHUTDOWN)))

    # The machine loses power: all processes are gone, containerd's records are there.
    containerd.stop()
    for path in Path("/run/netns").glob(f"{OURS}*"):
        subprocess.run(["ip", "netns", "del", path.name], check=True)
    shutil.rmtree(containerd.root / "state" / "io.containerd.runtime.v2.task", ignore_errors=True)
    for id in containers:  # /run is empty after a boot
        shutil.rmtree(f"/run/containerd/runc/shoal/{id}", ignore_errors=True)
    containerd.start()
    async with agent(containerd, boot="two") as b:
        b.worker.update(state(task("t1"), task("t2"), task("t3", S.TASK_SHUTDOWN)), complete=True)
        await b.reaches(S.TASK_RUNNING, *names[:2])
        async with asyncio.timeout(PATIENCE):
            while not all(b.pid(n) not in (0, pids[n]) for n in names[:2]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert b.record("t3").status.state == S.TASK_FAILED
        b.worker.update(state(task("t1", S.TASK_SHUTDOWN), task("t2")))
        await b.reaches(S.TASK_SHUTDOWN, "t1")
        async with asyncio.timeout(PATIENCE):
            await b.worker.stop_all()
        assert await b.runtime.containers() == []
        assert not list(Path("/run/netns").glob(f"{OURS}*"))
