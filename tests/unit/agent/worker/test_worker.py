"""The worker as a whole on a fake runtime and network: lives of tasks, failures, adoption, clean-up."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakes import FakeNetwork, FakeRuntime, Memory, until

from agent.database import TaskRecord
from agent.runtime.api import ContainerState, ExitStatus, Status
from agent.state import NodeState
from agent.statuses import StatusQueue
from agent.worker import worker
from agent.worker.configs import File
from agent.worker.container import TASK_LABEL
from agent.worker.files import TaskFiles
from agent.worker.tools import Tools
from agent.worker.worker import Worker
from common import errors, model
from common.clock import SystemClock
from common.model import EndpointState, TaskState

S = TaskState


class Bench:
    """A worker with everything around it."""

    def __init__(self, folder: Path, records: tuple[TaskRecord, ...] = ()) -> None:
        self.runtime = FakeRuntime()
        self.network = FakeNetwork()
        self.memory = Memory(records)
        self.statuses = StatusQueue()
        self.history: dict[str, list[model.TaskStatus]] = {}
        put = self.statuses.put
        self.statuses.put = self._put  # type: ignore[method-assign]
        self._really_put = put
        self.tools = Tools(
            self.runtime, self.network, self.memory, self.statuses, SystemClock(), folder / "volumes",  # type: ignore[arg-type]
            TaskFiles(folder / "files"), lambda: model.NodeDescription(hostname="worker1"), peers_seconds=0.05, boot_id="now",
        )  # fmt: skip
        self.worker = Worker(self.tools)
        self.tasks: dict[str, model.TaskAssignment] = {}
        self.configs: dict[str, model.ConfigRecord] = {}

    def _put(self, task_id: str, status: model.TaskStatus) -> None:
        self.history.setdefault(task_id, []).append(status)
        self._really_put(task_id, status)

    def assign(self, task: model.Task, peers_ready: bool = True, complete: bool = False) -> None:
        self.tasks[task.id] = model.TaskAssignment(task, peers_ready)
        self.tell(complete)

    def tell(self, complete: bool = False) -> None:
        self.worker.update(
            NodeState("n1", model.Fence("c1"), "x", dict(self.tasks), configs=self.configs), complete
        )

    def last(self, task_id: str = "t1") -> model.TaskStatus:
        return self.history[task_id][-1] if task_id in self.history else model.TaskStatus()

    async def reaches(self, state: TaskState, task_id: str = "t1") -> model.TaskStatus:
        await until(lambda: self.last(task_id).state >= state)
        assert self.last(task_id).state == state, self.history
        return self.last(task_id)

    def container(self, task_id: str = "t1") -> str:
        return self.worker.container_of(task_id)


@asynccontextmanager
async def bench(folder: Path, records: tuple[TaskRecord, ...] = (),
                prepare: object = None) -> AsyncIterator[Bench]:  # fmt: skip
    made = Bench(folder, records)
    if callable(prepare):
        prepare(made)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(made.worker.run())
        await made.worker.adopt({r.task_id: r for r in records})
        yield made
        run.cancel()


def task(desired: TaskState = S.TASK_RUNNING, image: str = "nginx", **more: object) -> model.Task:
    spec = model.TaskSpec(container=model.ContainerSpec(image=image))
    values: dict[str, object] = {"spec": spec, **more}
    return model.Task(
        id="t1", name="web.1.t1", service_id="s1", service_name="web", slot=1, desired_state=desired, **values
    )  # type: ignore[arg-type]


async def test_from_assigned_to_running_with_dockers_words(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task())
        running = await b.reaches(S.TASK_RUNNING)
        words = [(s.state.name, s.message) for s in b.history["t1"]]
        assert words == [
            ("TASK_ACCEPTED", "accepted"), ("TASK_PREPARING", "preparing"), ("TASK_READY", "prepared"),
            ("TASK_STARTING", "starting"), ("TASK_RUNNING", "started"),
        ]  # fmt: skip
        assert running.healthy
        assert running.container is not None
        assert running.container.pid
        config = b.runtime.found[b.container()].config
        assert config is not None
        assert config.name == "web.1.t1"
        assert config.hostname == config.id[:12]
        assert config.network_namespace == "/netns/t1"
        assert config.labels == {
            "com.docker.swarm.node.id": "n1", "com.docker.swarm.service.id": "s1", "com.docker.swarm.service.name": "web",
            "com.docker.swarm.task": "", "com.docker.swarm.task.id": "t1", "com.docker.swarm.task.name": "web.1.t1",
        }  # fmt: skip
        assert b.memory.tasks["t1"].container_id == b.container()


async def test_unknown_image_is_rejected_in_dockers_words(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task(image="nosuch:latest"))
        status = await b.reaches(S.TASK_REJECTED)
        assert (status.message, status.err) == ("preparing", "No such image: nosuch:latest")
        assert status.container is None


async def test_bind_mount_without_a_source_is_rejected(tmp_path: Path) -> None:
    mount = model.Mount(model.MountType.BIND, "/no/such", "/x")
    spec = model.TaskSpec(container=model.ContainerSpec(image="nginx", mounts=(mount,)))
    async with bench(tmp_path) as b:
        b.assign(task(spec=spec))
        status = await b.reaches(S.TASK_REJECTED)
        assert status.err == 'invalid mount config for type "bind": bind source path does not exist: /no/such'


async def test_volumes_are_made(tmp_path: Path) -> None:
    mount = model.Mount(model.MountType.VOLUME, "data-{{.Task.Slot}}", "/x")
    spec = model.TaskSpec(container=model.ContainerSpec(image="nginx", mounts=(mount,)))
    async with bench(tmp_path) as b:
        b.assign(task(spec=spec))
        await b.reaches(S.TASK_RUNNING)
        assert (tmp_path / "volumes/data-1/_data").is_dir()


@pytest.mark.parametrize(
    ("code", "oom", "state", "message", "err"),
    [
        (0, False, S.TASK_COMPLETE, "finished", ""),
        (137, False, S.TASK_FAILED, "started", "task: non-zero exit (137)"),
        (3, False, S.TASK_FAILED, "started", "task: non-zero exit (3)"),
    ],
)
async def test_the_end_of_the_process(
    tmp_path: Path, code: int, oom: bool, state: TaskState, message: str, err: str
) -> None:
    async with bench(tmp_path) as b:
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)
        b.runtime.exit(b.container(), code, oom)
        status = await b.reaches(state)
        assert (status.message, status.err, status.healthy) == (message, err, False)
        assert status.container == model.ContainerStatus(b.container(), 0, code)
        await until(lambda: not b.network.attached)
        assert b.container() in b.runtime.found  # kept for history


async def test_a_start_that_fails(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.runtime.fail["start"] = errors.InvalidArgument("failed to create shim task: no such file")
        b.assign(task())
        status = await b.reaches(S.TASK_FAILED)
        assert status.message == "starting"
        assert status.err == "starting container failed: failed to create shim task: no such file"


async def test_shutdown_waits_for_the_endpoint(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)
        for endpoint in (EndpointState.ENDPOINT_SERVING, EndpointState.ENDPOINT_WITHDRAWN):
            b.assign(task(S.TASK_SHUTDOWN, endpoint=endpoint))
            await asyncio.sleep(0)
        assert b.last().state == S.TASK_RUNNING
        b.assign(task(S.TASK_SHUTDOWN, endpoint=EndpointState.ENDPOINT_DRAINED))
        status = await b.reaches(S.TASK_SHUTDOWN)
        assert (status.message, status.err) == ("shutdown", "")
        stops = [c for c in b.runtime.calls if c.startswith("stop")]
        assert stops == [f"stop {b.container()}"]


async def test_remove_deletes_everything(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)
        del b.tasks["t1"]
        b.tell()
        await until(lambda: not b.runtime.found and not b.memory.tasks and not b.network.attached)
        await until(lambda: not b.container())
        assert len(b.statuses) == 0


async def test_a_removed_task_is_not_begun_again_while_it_is_still_assigned(tmp_path: Path) -> None:
    """The manager may be away: it takes the task out of the assignments, and hears how it ended, when it is back."""
    async with bench(tmp_path) as b:
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)
        b.assign(task(S.TASK_REMOVE, status=model.TaskStatus(state=S.TASK_RUNNING)))
        await until(lambda: not b.runtime.found and not b.network.attached)
        b.tell(complete=True)
        b.assign(task(S.TASK_REMOVE, status=model.TaskStatus(state=S.TASK_RUNNING)))
        for _ in range(100):
            await asyncio.sleep(0)
        ends = [s for s in b.history["t1"] if s.state == S.TASK_SHUTDOWN]
        assert len(set(ends)) == 1  # it ended once, however often that is told
        assert len(b.statuses) == 1
        del b.tasks["t1"]
        b.tell()
        await until(lambda: not b.memory.tasks)
        assert len(b.statuses) == 0


async def test_ready_waits_for_running(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task(S.TASK_READY))
        await b.reaches(S.TASK_READY)
        assert not b.runtime.found
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)


async def test_a_pull_is_broken_off_when_the_task_is_to_stop(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.runtime.pull_gate = asyncio.Event()
        b.assign(task())
        await until(lambda: "pull nginx" in b.runtime.calls)
        b.assign(task(S.TASK_SHUTDOWN))
        await b.reaches(S.TASK_SHUTDOWN)
        assert not b.runtime.found


async def test_start_waits_for_peers_but_not_for_ever(tmp_path: Path) -> None:
    networks = (model.NetworkAttachment(addresses=("10.0.0.5/24",), network_id="net1"),)
    async with bench(tmp_path) as b:
        b.tools.peers_seconds = 60.0
        b.assign(task(networks=networks), peers_ready=False)
        await until(lambda: any(c.startswith("create") for c in b.runtime.calls))
        assert b.last().state == S.TASK_STARTING
        b.assign(task(networks=networks), peers_ready=True)
        await b.reaches(S.TASK_RUNNING)
    async with bench(tmp_path) as b:
        b.assign(task(networks=networks), peers_ready=False)
        await b.reaches(S.TASK_RUNNING)


def record(state: TaskState, boot: str = "now") -> TaskRecord:
    return TaskRecord("t1", "c1", model.TaskStatus(1, state, "started"), True, boot)


def present(b: Bench, status: Status, code: int = 0, id: str = "c1") -> None:
    labels = {TASK_LABEL: "t1"}
    ended = ExitStatus(code, 1) if status is Status.STOPPED else None
    b.runtime.found[id] = ContainerState(id, "web.1.t1", "nginx", labels, status, pid=77, exit=ended)
    b.runtime.ended[id] = asyncio.Event()
    if ended:
        b.runtime.ended[id].set()


async def test_a_restarted_agent_goes_on_with_what_runs(tmp_path: Path) -> None:
    records = (record(S.TASK_RUNNING),)
    async with bench(tmp_path, records, prepare=lambda b: present(b, Status.RUNNING)) as b:
        b.assign(task(), complete=True)
        await until(lambda: b.container() == "c1")
        assert b.runtime.calls == []
        b.runtime.exit("c1", 137)
        assert (await b.reaches(S.TASK_FAILED)).err == "task: non-zero exit (137)"


async def test_what_ended_meanwhile_is_reported_with_its_code(tmp_path: Path) -> None:
    records = (record(S.TASK_RUNNING),)
    async with bench(tmp_path, records, prepare=lambda b: present(b, Status.STOPPED, 9)) as b:
        b.assign(task())
        assert (await b.reaches(S.TASK_FAILED)).err == "task: non-zero exit (9)"


async def test_a_lost_database_costs_nothing_that_runs(tmp_path: Path) -> None:
    async with bench(tmp_path, prepare=lambda b: present(b, Status.RUNNING)) as b:
        b.assign(task(status=model.TaskStatus(1, S.TASK_RUNNING, "started")), complete=True)
        await until(lambda: b.container() == "c1")
        assert b.runtime.calls == []


async def test_after_a_reboot_tasks_run_again_under_the_same_id(tmp_path: Path) -> None:
    records = (record(S.TASK_RUNNING, "before"),)

    def dead(b: Bench) -> None:
        present(b, Status.STOPPED, 137)
        b.runtime.found["c1"] = replace(b.runtime.found["c1"], pid=0)

    async with bench(tmp_path, records, prepare=dead) as b:
        b.tools.may_revive.set()
        b.assign(task(endpoint=EndpointState.ENDPOINT_SERVING))
        await until(lambda: b.last().state == S.TASK_RUNNING)
        assert b.runtime.found["c1"].status is Status.RUNNING
        assert b.network.attached == {"t1"}


async def test_after_a_reboot_a_task_that_was_replaced_does_not_run_again(tmp_path: Path) -> None:
    records = (record(S.TASK_RUNNING, "before"),)
    async with bench(tmp_path, records) as b:
        b.assign(task())
        await until(lambda: "t1" in b.worker._supervisors)
        b.assign(task(S.TASK_SHUTDOWN, endpoint=EndpointState.ENDPOINT_WITHDRAWN), complete=True)
        await b.reaches(S.TASK_SHUTDOWN)
        assert not [c for c in b.runtime.calls if c.startswith("start")]


async def test_strangers_go_after_the_first_complete_set(tmp_path: Path) -> None:
    def around(b: Bench) -> None:
        present(b, Status.RUNNING)
        b.runtime.found["own"] = ContainerState("own", "mine", "nginx", {}, Status.RUNNING)

    async with bench(tmp_path, (record(S.TASK_RUNNING),), prepare=around) as b:
        b.tell()
        await asyncio.sleep(0.01)
        assert "c1" in b.runtime.found
        b.tell(complete=True)
        await until(lambda: list(b.runtime.found) == ["own"] and not b.memory.tasks)


async def test_strangers_that_cannot_be_removed_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_RETRY", (0.01, 0.01))
    async with bench(tmp_path, (record(S.TASK_RUNNING),), prepare=lambda b: present(b, Status.RUNNING)) as b:
        b.runtime.fail["remove"] = errors.Unavailable("containerd is away")
        b.tell(complete=True)
        await until(lambda: b.runtime.calls.count("remove c1") > 1)
        del b.runtime.fail["remove"]
        await until(lambda: not b.runtime.found)


async def test_leaving_stops_all(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)
        async with asyncio.timeout(30):
            await b.worker.stop_all()
        assert not b.runtime.found
        assert not b.memory.tasks


async def test_managers_that_were_set_back_are_told_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(task())
        await b.reaches(S.TASK_RUNNING)
        batch = b.statuses.batch()
        assert batch is not None
        b.worker.acknowledge(b.statuses.taken(batch.sequence))
        assert len(b.statuses) == 0
        b.assign(task(status=model.TaskStatus(1, S.TASK_ASSIGNED)), complete=True)
        await until(lambda: len(b.statuses) == 1)


@pytest.mark.parametrize("kill_after", range(1, 12))
async def test_killed_at_any_step_the_next_agent_goes_on(tmp_path: Path, kill_after: int) -> None:
    """The agent dies after its n-th write; its successor gets what was written and what runs."""
    first = Bench(tmp_path)
    writes = 0
    died = asyncio.Event()
    put = first.memory.put_tasks

    async def counted(records: object) -> None:
        nonlocal writes
        await put(records)  # type: ignore[arg-type]
        writes += 1
        if writes >= kill_after:
            died.set()
            await asyncio.Event().wait()

    first.memory.put_tasks = counted  # type: ignore[assignment, method-assign]
    async with asyncio.TaskGroup() as group:
        run = group.create_task(first.worker.run())
        await first.worker.adopt({})
        first.assign(task())
        await until(lambda: died.is_set() or first.last().state == S.TASK_RUNNING)
        run.cancel()
    records = tuple(first.memory.tasks.values())

    def inherit(b: Bench) -> None:
        b.runtime.found, b.runtime.ended, b.runtime.local = (
            first.runtime.found,
            first.runtime.ended,
            first.runtime.local,
        )

    async with bench(tmp_path, records, prepare=inherit) as b:
        b.assign(task(), complete=True)
        await until(lambda: [c.status for c in b.runtime.found.values()] == [Status.RUNNING])
        await until(lambda: b.memory.tasks["t1"].status.state == S.TASK_RUNNING)


def with_config(desired: TaskState = S.TASK_RUNNING) -> model.Task:
    file = model.FileTarget("/etc/app", str(os.getuid()), str(os.getgid()), 0o444)
    reference = model.ConfigReference(file, config_id="c1", config_name="app-conf")
    container = model.ContainerSpec(image="nginx", configs=(reference,))
    return replace(task(desired), spec=model.TaskSpec(container=container))


async def test_configs_are_files_for_as_long_as_the_task_runs(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.configs["c1"] = model.ConfigRecord("c1", "app-conf", b"key=value")
        b.assign(with_config())
        await b.reaches(S.TASK_RUNNING)
        config = b.runtime.found[b.container()].config
        assert config is not None
        (mount,) = config.mounts
        assert (mount.type, mount.target, mount.read_only) == ("bind", "/etc/app", True)
        assert mount.source == str(tmp_path / "files" / "t1" / "0")
        assert (tmp_path / "files" / "t1" / "0").read_bytes() == b"key=value"
        b.configs.clear()  # the managers take it back when the task is to end
        b.assign(with_config(S.TASK_SHUTDOWN))
        await b.reaches(S.TASK_SHUTDOWN)
        await until(lambda: not os.listdir(tmp_path / "files"))
        assert b.container() in b.runtime.found


async def test_a_task_whose_config_is_gone_is_rejected(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.assign(with_config())
        assert (await b.reaches(S.TASK_REJECTED)).err == "config app-conf is not there any more"


async def test_files_of_tasks_that_nobody_knows_are_removed(tmp_path: Path) -> None:
    await TaskFiles(tmp_path / "files").write("old", (File("/a", b"", os.getuid(), os.getgid(), 0o444),))
    async with bench(tmp_path) as b:
        b.configs["c1"] = model.ConfigRecord("c1", "app-conf", b"key=value")
        b.assign(with_config(), complete=True)
        await b.reaches(S.TASK_RUNNING)
        await until(lambda: os.listdir(tmp_path / "files") == ["t1"])


async def test_after_a_boot_the_files_are_there_again(tmp_path: Path) -> None:
    """Memory is empty after a boot, and the container that is found again needs its files."""
    running = model.TaskStatus(1, S.TASK_RUNNING, "started")
    record = TaskRecord("t1", "c" * 64, running, True, "before")
    async with bench(tmp_path, (record,)) as b:
        b.configs["c1"] = model.ConfigRecord("c1", "app-conf", b"key=value")
        b.assign(replace(with_config(), status=running), complete=True)
        await until(lambda: f"start {'c' * 64}" in b.runtime.calls)
        assert (tmp_path / "files" / "t1" / "0").read_bytes() == b"key=value"
