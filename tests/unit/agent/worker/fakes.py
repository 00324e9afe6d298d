"""A runtime, a network and a memory that exist only in memory, for tests of the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

from agent.database import TaskRecord
from agent.network.api import Sandbox
from agent.network.bridges import Local
from agent.runtime.api import (
    ContainerConfig,
    ContainerEvent,
    ContainerState,
    EventKind,
    ExitStatus,
    Status,
)
from agent.state import NodeState
from common import errors, model


class FakeRuntime:
    """Containers that run until `exit` says otherwise. `images` are what can be pulled."""

    def __init__(self, images: Iterable[str] = ("nginx",)) -> None:
        self.remote = set(images)
        self.local: set[str] = set()
        self.found: dict[str, ContainerState] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.calls: list[str] = []
        self.fail: dict[str, errors.ShoalError] = {}
        self.pull_gate: asyncio.Event | None = None

    def _note(self, call: str, id: str) -> None:
        self.calls.append(f"{call} {id}")
        if error := self.fail.get(call):
            raise error

    async def image(self, ref: str) -> Any:
        return object() if ref in self.local else None

    async def pull(self, ref: str, auth: Any = None, progress: Any = None) -> Any:
        self._note("pull", ref)
        if self.pull_gate:
            await self.pull_gate.wait()
        if ref not in self.remote:
            raise errors.NotFound(f"No such image: {ref}")
        self.local.add(ref)

    async def create(self, config: ContainerConfig) -> None:
        self._note("create", config.id)
        self.found[config.id] = ContainerState(
            config.id, config.name, config.image, config.labels, Status.CREATED, config=config
        )
        self.ended[config.id] = asyncio.Event()

    async def start_container(self, id: str) -> int:
        self._note("start", id)
        state = self.found[id]
        if state.status is not Status.RUNNING:
            self.ended[id] = asyncio.Event()
            self.found[id] = replace(state, status=Status.RUNNING, pid=4000 + len(self.calls), exit=None)
        return self.found[id].pid

    def exit(self, id: str, code: int, oom: bool = False) -> None:
        self.found[id] = replace(self.found[id], status=Status.STOPPED, pid=0, exit=ExitStatus(code, 1, oom))
        self.ended[id].set()

    async def wait(self, id: str) -> ExitStatus:
        await self.ended[id].wait()
        status = self.found[id].exit
        assert status is not None
        return status

    async def stop(self, id: str, signal: str = "", grace_s: float | None = None) -> ExitStatus:
        self._note("stop", id)
        if self.found[id].status is Status.RUNNING:
            self.exit(id, 143)
        status = self.found[id].exit
        assert status is not None
        return status

    async def remove(self, id: str, force: bool = False) -> None:
        self._note("remove", id)
        self.found.pop(id, None)

    async def container(self, id: str) -> ContainerState | None:
        return self.found.get(id)

    async def containers(self) -> list[ContainerState]:
        return list(self.found.values())

    async def watch(self) -> AsyncIterator[ContainerEvent]:
        yield ContainerEvent(EventKind.RESYNC, "", 0)
        await asyncio.Event().wait()


class FakeNetwork:
    def __init__(self) -> None:
        self.attached: set[str] = set()
        self.local: set[str] = set()
        self.applied: list[NodeState] = []
        self.torn_down = 0
        self.fail: errors.ShoalError | None = None
        self.lacks_for_seals = ""
        self.keys: list[tuple[model.EncryptionKey, ...]] = []
        self.keys_when_applied: list[list[tuple[model.EncryptionKey, ...]]] = []
        self.routes_by_mark = True

    gateway_subnet = "172.18.0.0/16"
    speaks_ipv6 = True

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    def wire(self, local: Local) -> None: ...
    async def is_foreign(self, interface: str) -> bool:
        return False

    async def routes(self) -> tuple[str, ...]:
        return ()

    def use_keys(self, keys: Iterable[model.EncryptionKey]) -> None:
        self.keys.append(tuple(keys))

    async def apply(self, state: NodeState) -> None:
        if self.fail:
            raise self.fail
        self.applied.append(state)

    async def attach(self, task_id: str) -> Sandbox:
        self.attached.add(task_id)
        return Sandbox(task_id, f"/netns/{task_id}", ("10.0.0.5",), "172.18.0.2")

    async def detach(self, task_id: str) -> None:
        self.attached.discard(task_id)

    async def teardown(self) -> None:
        self.torn_down += 1
        self.attached.clear()


class Memory:
    """The task part of the database."""

    def __init__(self, records: Iterable[TaskRecord] = ()) -> None:
        self.tasks = {r.task_id: r for r in records}
        self.states: list[NodeState] = []

    async def put_tasks(self, records: Iterable[TaskRecord]) -> None:
        self.tasks.update({r.task_id: r for r in records})

    async def drop_task(self, task_id: str) -> None:
        self.tasks.pop(task_id, None)

    async def put_state(self, state: NodeState) -> None:
        self.states.append(state)


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Lets the loop run until `condition` holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
