"""One task's supervisor: carries out what agent/worker/machine.py decides, from the assignment until it is forgotten.

A state is written down (database, then status to the managers) before the next step begins, and every step may be
repeated, so that the agent can be killed at any point and its successor goes on. A step is broken off when the managers
change their mind. Steps up to RUNNING end the task when they fail; later ones (stop, release, remove) are tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.database import TaskRecord
from agent.network.api import Sandbox
from agent.runtime.api import ContainerConfig, ExitStatus, Status
from agent.worker import configs, container, machine
from agent.worker.images import fetch
from agent.worker.machine import Action, Situation
from agent.worker.tools import Tools, make_folders, remove_folders
from common import errors, ids, model, templates
from common.cancellation import still_wanted

log = logging.getLogger("worker")

S = model.TaskState
_RETRY: Final = (0.1, 10.0)  # seconds, doubled from the first to the last


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the managers say of the task."""

    assignment: model.TaskAssignment
    gone: bool = False  # it is not assigned to this node any more: leave nothing of it
    host_network: bool = False
    configs: configs.Configs = field(default_factory=dict)  # those that the task uses


class Ended(Exception):
    """The task's process has ended by itself, badly."""

    def __init__(self, text: str, exit_status: ExitStatus | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.exit = exit_status


class Supervisor:
    """Runs one task. `want` is called for every change; `run` returns when nothing of the task is left."""

    def __init__(self, tools: Tools, wanted: Wanted, record: TaskRecord, lost: bool = False) -> None:
        self.record = record
        self.finished = False  # nothing is left of the task
        self._tools = tools
        self._wanted = wanted
        self._changed = asyncio.Event()
        self._built = False
        self._released = False
        self._removed = False
        self._lost = lost  # it ran when the machine went down: its process is to be made again
        self._peers_deadline: float | None = None
        self._retry = _RETRY[0]
        self._pid = 0
        self._exit: ExitStatus | None = None

    @property
    def task(self) -> model.Task:
        return self._wanted.assignment.task

    def want(self, wanted: Wanted) -> None:
        """The managers' newest word."""
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """From the task's state until nothing of it is left."""
        while True:
            action = machine.next_action(self._situation())
            if await self._attempt(action) and action is Action.FORGET:
                self.finished = True
                return

    def _situation(self) -> Situation:
        want = self._wanted
        passed = self._peers_deadline is not None and self._tools.clock.monotonic() >= self._peers_deadline
        return Situation(
            state=self.record.status.state,
            desired=S.TASK_REMOVE if want.gone else self.task.desired_state,
            endpoint=model.EndpointState.ENDPOINT_NONE if want.gone else self.task.endpoint,
            may_start=want.assignment.peers_ready or not self.task.networks or passed,
            built=self._built,
            released=self._released,
            lost=self._lost,
            removed=self._removed,
            gone=want.gone,
        )

    async def _attempt(self, action: Action) -> bool:
        """Carries `action` out, unless something else is wanted before it is done; says whether it was done."""
        try:
            if (step := _STEPS.get(action)) and not await self._unless_changed(action, step(self)):
                return False
            if outcome := machine.finished(action):
                await self._report(outcome.state, outcome.message)
        except Ended as exc:
            self._exit = exc.exit
            await self._fail(exc.text)
            return False
        except errors.ShoalError as exc:
            await self._wrong(action, exc.message)
            return False
        except Exception as exc:
            still_wanted()
            log.exception("task %s: %s", self.task.name, action.name)
            await self._wrong(action, f"{type(exc).__name__}: {exc}")
            return False
        self._retry = _RETRY[0]
        return True

    async def _unless_changed(self, action: Action, step: Awaitable[None]) -> bool:
        """Runs `step` to its end, or breaks it off when another action is due."""
        work = asyncio.ensure_future(step)
        change: asyncio.Task[bool] | None = None
        try:
            while not work.done():
                self._changed.clear()
                if machine.next_action(self._situation()) is not action:
                    return False
                change = asyncio.create_task(self._changed.wait())
                await asyncio.wait((work, change), return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
            work.result()
            return True
        finally:
            rest = [t for t in (work, change) if t is not None and not t.done()]
            for t in rest:
                t.cancel()
            if rest:
                await asyncio.wait(rest)

    # ---- reports

    async def _report(self, state: model.TaskState, message: str, err: str = "") -> None:
        before = self.record.status.state
        if state < before or (state == before and state != S.TASK_RUNNING):
            return
        running = state == S.TASK_RUNNING
        shown = None
        if self.record.container_id and state >= S.TASK_STARTING:
            code = self._exit.code if self._exit else 0
            shown = model.ContainerStatus(self.record.container_id, self._pid if running else 0, code)
        status = model.TaskStatus(
            timestamp=self._tools.clock.now_ns(),
            state=state,
            message=message,
            err=err,
            container=shown,
            ports=container.host_ports(self.task) if running else model.PortStatus(),
            healthy=running,
        )
        await self._keep(replace(self.record, status=status, acknowledged=False))
        self._tools.statuses.put(self.task.id, status)
        word = state.name.removeprefix("TASK_").lower()
        log.info("task %s is %s%s", self.task.name, word, f": {err}" if err else "")

    async def _keep(self, record: TaskRecord) -> None:
        self.record = record  # first: a commit that arrives meanwhile must not write an older one over it
        await self._tools.memory.put_tasks([record])

    async def _fail(self, text: str) -> None:
        now = self.record.status
        outcome = machine.failed(now.state, now.message)
        await self._report(outcome.state, outcome.message, text)

    async def _wrong(self, action: Action, text: str) -> None:
        if action in _FATAL:
            await self._fail(text)
            return
        word = action.name.lower()
        log.warning("task %s: %s: %s; again in %.1f s", self.task.name, word, text, self._retry)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retry):
                await self._changed.wait()
        self._retry = min(self._retry * 2, _RETRY[1])

    # ---- steps

    def _context(self) -> templates.Context:
        return templates.task_context(self.task, self._tools.node_id, self._tools.description())

    def _mounts(self) -> container.Mounts:
        return container.mounts(self.task, self._context(), self._tools.volume_folder)

    def _files(self) -> tuple[configs.File, ...]:
        return configs.files(self.task, self._wanted.configs, self._context())

    def _config(
        self, sandbox: Sandbox, container_id: str, files: tuple[configs.File, ...]
    ) -> ContainerConfig:
        paths = self._tools.files.paths(self.task.id, len(files))
        return container.config(
            self.task, self._tools.node_id, container_id, self._context(), self._mounts(), sandbox,
            self._wanted.host_network, configs.mounts(files, paths),
        )  # fmt: skip

    async def _prepare(self) -> None:
        # What cannot work is refused here.
        self._config(Sandbox(self.task.id, "", ()), ids.new_container_id(), self._files())
        await make_folders(self._mounts())
        await fetch(self._tools.runtime, self.task)

    async def _build(self) -> None:
        tools = self._tools
        sandbox = await self._sandbox()
        if not self.record.container_id:
            await self._keep(replace(self.record, container_id=ids.new_container_id()))
        files = self._files()
        await tools.files.write(self.task.id, files)
        config = self._config(sandbox, self.record.container_id, files)
        async with tools.starts:
            found = await tools.runtime.container(config.id)
            if found and found.config and found.config.network_namespace == config.network_namespace:
                log.debug("task %s: container %s is there already", self.task.name, config.id)
            else:
                if found:
                    await tools.runtime.remove(config.id, force=True)
                await tools.runtime.create(config)
        self._built = True

    async def _sandbox(self) -> Sandbox:
        tools = self._tools
        if self._wanted.host_network:
            return Sandbox(self.task.id, "", ())
        await tools.network_stands(self.task.id)
        return await tools.network.attach(self.task.id)

    async def _await_peers(self) -> None:
        now = self._tools.clock.monotonic()
        if self._peers_deadline is None:
            self._peers_deadline = now + self._tools.peers_seconds
        await asyncio.sleep(max(0.0, self._peers_deadline - now))
        log.warning("task %s starts though not every node has acknowledged its endpoint", self.task.name)

    async def _start(self) -> None:
        tools, container_id = self._tools, self.record.container_id
        async with tools.starts:
            found = await tools.runtime.container(container_id)
            if found and found.status is Status.STOPPED and not self._lost:
                return  # it ran and ended before its start was written down
            try:
                self._pid = await tools.runtime.start_container(container_id)
            except errors.ShoalError as exc:
                raise type(exc)(f"starting container failed: {exc.message}") from exc
        self.record = replace(self.record, boot_id=tools.boot_id)  # written down with the state that follows
        self._lost = False

    async def _revive(self) -> None:
        await self._tools.may_revive.wait()
        log.info("task %s ran when the machine went down: starting it again", self.task.name)
        await make_folders(self._mounts())
        await self._build()
        await self._start()

    async def _watch(self) -> None:
        runtime, container_id = self._tools.runtime, self.record.container_id
        found = await runtime.container(container_id)
        if found is None:
            raise Ended(f"No such container: {container_id}", ExitStatus(137))
        self._exit = await runtime.wait(container_id)
        if self._exit.code:
            raise Ended(machine.exit_error(self._exit.code, self._exit.oom_killed), self._exit)

    async def _stop(self) -> None:
        container_id = self.record.container_id
        if not container_id:
            return
        found = await self._tools.runtime.container(container_id)
        if found is None or found.status is Status.CREATED:
            return
        grace = 0.0 if self._wanted.gone else container.grace_seconds(self.task)
        self._exit = await self._tools.runtime.stop(container_id, grace_s=grace)

    async def _release(self) -> None:
        await self._tools.files.remove(self.task.id)
        await self._tools.network.detach(self.task.id)
        self._released = True

    async def _remove(self) -> None:
        if self.record.container_id:
            await self._tools.runtime.remove(self.record.container_id, force=True)
        await self._release()
        await remove_folders(self._tools.volumes, container.anonymous_volumes(self.task))
        self._removed = True

    async def _forget(self) -> None:
        self._tools.statuses.drop(self.task.id)
        await self._tools.memory.drop_task(self.task.id)

    async def _wait(self) -> None:
        await asyncio.Event().wait()


_STEPS: Final[Mapping[Action, Callable[[Supervisor], Awaitable[None]]]] = {
    Action.PREPARE: Supervisor._prepare,
    Action.WAIT: Supervisor._wait,
    Action.BUILD: Supervisor._build,
    Action.AWAIT_PEERS: Supervisor._await_peers,
    Action.START: Supervisor._start,
    Action.REVIVE: Supervisor._revive,
    Action.WATCH: Supervisor._watch,
    Action.STOP: Supervisor._stop,
    Action.RELEASE: Supervisor._release,
    Action.REMOVE: Supervisor._remove,
    Action.FORGET: Supervisor._forget,
}
# What ends the task when it goes wrong; everything else is tried again.
_FATAL: Final = frozenset({Action.PREPARE, Action.BUILD, Action.START, Action.REVIVE})
