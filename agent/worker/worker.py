"""All tasks of this node: a supervisor for each one assigned, adoption of what runs, and a clean-up of what is nobody's.

agent/applier.py hands in every new state (`update`), agent/daemon.py calls `adopt` once and then `run`. Containers are
recognised by their labels, so a lost database costs nothing that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Final

from agent.database import TaskRecord
from agent.runtime.api import ContainerState
from agent.state import NodeState
from agent.worker.container import TASK_LABEL
from agent.worker.supervisor import Supervisor, Wanted
from agent.worker.tools import Tools
from common import errors, model
from common.cancellation import still_wanted

log = logging.getLogger("worker")

S = model.TaskState
REVIVAL_DELAY: Final = (
    3.0  # seconds that the managers have, after the machine came up, to say what is still wanted
)
_HOST: Final = "host"
_RETRY: Final = (0.2, 10.0)  # seconds, doubled from the first to the last


class Worker:
    """The node's tasks."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._supervisors: dict[str, Supervisor] = {}
        self._idle = asyncio.Event()  # no task is left
        self._records: dict[str, TaskRecord] = {}
        self._containers: dict[str, ContainerState] = {}  # by task id, as found at the start
        self._state = NodeState()
        self._news = asyncio.Event()
        self._clean_up = False
        self._cleaning = asyncio.Lock()
        self._ready = asyncio.Event()

    def container_of(self, task_id: str) -> str:
        """The id of a task's container; empty when it has none."""
        supervisor = self._supervisors.get(task_id)
        return supervisor.record.container_id if supervisor else ""

    def short_ids(self) -> dict[str, str]:
        """The short container ids of tasks that have a container: names that DNS knows."""
        return {t: s.record.container_id[:12] for t, s in self._supervisors.items() if s.record.container_id}

    async def adopt(self, records: Mapping[str, TaskRecord]) -> None:
        """Finds what runs here already. A task that was started before the machine's last boot is started again."""
        self._records = dict(records)
        self._containers = {
            state.labels[TASK_LABEL]: state
            for state in await self.tools.runtime.containers()
            if TASK_LABEL in state.labels
        }
        for record in self._records.values():
            if not record.acknowledged and record.status.state:
                self.tools.statuses.put(record.task_id, record.status)
        if self._containers:
            log.info("found %d containers of tasks", len(self._containers))
        self._ready.set()
        self._news.set()

    def update(self, state: NodeState, complete: bool = False) -> None:
        """The newest assignments; `complete` when a manager sent all of them, so that anything else is nobody's."""
        self._state = state
        self._clean_up = self._clean_up or complete
        self._news.set()

    async def run(self) -> None:
        """Until cancelled. The containers stay as they are then."""
        await self._ready.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._allow_revival())
            while True:
                await self._news.wait()
                self._news.clear()
                self._take_in(group)
                if self._clean_up:
                    self._clean_up = False
                    self.tools.may_revive.set()
                    group.create_task(self._remove_strangers())

    def acknowledge(self, statuses: Mapping[str, model.TaskStatus]) -> list[TaskRecord]:
        """Notes that the managers have these statuses; answers with the records to be kept."""
        done = []
        for task_id, status in statuses.items():
            supervisor = self._supervisors.get(task_id)
            if supervisor and supervisor.record.status == status:
                supervisor.record = replace(supervisor.record, acknowledged=True)
                done.append(supervisor.record)
        return done

    async def stop_all(self) -> None:
        """The node leaves its swarm: every task ends and is removed. Returns when nothing is left."""
        self._idle.clear()
        self.update(NodeState(node_id=self._state.node_id), complete=True)
        await self._idle.wait()

    async def _allow_revival(self) -> None:
        """Managers that are reached in time decide which tasks still matter; without any, all do."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVIVAL_DELAY):
                await self.tools.may_revive.wait()
        self.tools.may_revive.set()

    def _take_in(self, group: asyncio.TaskGroup) -> None:
        state = self._state
        self.tools.node_id = state.node_id
        tasks = {id: a for id, a in state.tasks.items() if a.task.spec.attachment is None}
        for task_id, assignment in tasks.items():
            wanted = Wanted(
                assignment, host_network=self._is_host(assignment, state), configs=_configs(assignment, state)
            )
            if supervisor := self._supervisors.get(task_id):
                self._again(supervisor, assignment)
                supervisor.want(wanted)
            else:
                self._begin(group, task_id, wanted)
        for task_id in self._supervisors.keys() - tasks.keys():
            supervisor = self._supervisors[task_id]
            supervisor.want(Wanted(model.TaskAssignment(supervisor.task), gone=True))
        if not self._supervisors:
            self._idle.set()

    def _is_host(self, assignment: model.TaskAssignment, state: NodeState) -> bool:
        known = (state.networks.get(a.network_id) for a in assignment.task.networks)
        return any(n is not None and n.spec.name == _HOST for n in known)

    def _again(self, supervisor: Supervisor, assignment: model.TaskAssignment) -> None:
        """A manager that shows an older state than was committed was set back: it is told once more."""
        status = supervisor.record.status
        if self._clean_up and assignment.task.status.state < status.state:
            self.tools.statuses.put(assignment.task.id, status)

    def _begin(self, group: asyncio.TaskGroup, task_id: str, wanted: Wanted) -> None:
        record = self._record(task_id, wanted.assignment.task)
        supervisor = Supervisor(self.tools, wanted, record, self._is_lost(record))
        self._supervisors[task_id] = supervisor
        name = f"task {wanted.assignment.task.name}"
        group.create_task(self._supervise(task_id, supervisor), name=name)

    def _is_lost(self, record: TaskRecord) -> bool:
        """Whether the machine went down under the task's process."""
        return record.status.state == S.TASK_RUNNING and record.boot_id not in ("", self.tools.boot_id)

    def _record(self, task_id: str, task: model.Task) -> TaskRecord:
        """What is known of a task: by our memory, else by the managers and the container's label."""
        record = self._records.pop(task_id, None)
        if record is None:
            known = task.status if task.status.state > S.TASK_ASSIGNED else model.TaskStatus()
            record = TaskRecord(task_id, known.container.container_id if known.container else "", known, True)
        found = self._containers.get(task_id)
        if found and not record.container_id:
            record = TaskRecord(task_id, found.id, record.status, record.acknowledged)
        return record

    async def _supervise(self, task_id: str, supervisor: Supervisor) -> None:
        delay = 1.0
        while not supervisor.finished:
            try:
                await supervisor.run()
            except Exception:
                still_wanted()
                log.exception(
                    "the supervisor of task %s failed; again in %.0f s", supervisor.task.name, delay
                )
                await asyncio.sleep(delay)
                delay = min(delay * 2, 60.0)
        self._supervisors.pop(task_id, None)
        self._containers.pop(task_id, None)
        self._news.set()

    async def _remove_strangers(self) -> None:
        """Containers and records of tasks that nobody knows any more go; what fails is tried again."""
        async with self._cleaning:
            delay = _RETRY[0]
            while not await self._strangers_gone():
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY[1])

    async def _strangers_gone(self) -> bool:
        """Removes what it can; whether that was all."""
        left: list[str] = []
        try:
            containers = await self.tools.runtime.containers()
        except errors.ShoalError as exc:
            log.warning("containers that are nobody's are not looked for: %s", exc.message)
            return False
        mine = {self.container_of(task_id) for task_id in self._supervisors}
        for found in containers:
            task_id = found.labels.get(TASK_LABEL)
            if task_id is None or found.id in mine or self.container_of(task_id) == found.id:
                continue
            log.info("removing container %s: its task %s is not assigned to this node", found.name, task_id)
            left += await self._quietly(found.name, self.tools.runtime.remove(found.id, force=True))
        attached = set(self.tools.network.attached) - self._supervisors.keys()
        for task_id in attached.difference(self.tools.others()):
            left += await self._quietly(f"namespace of task {task_id}", self.tools.network.detach(task_id))
        for task_id in set(await self.tools.files.tasks()) - self._supervisors.keys():
            await self.tools.files.remove(task_id)
        for task_id in [t for t in self._records if t not in self._supervisors]:
            del self._records[task_id]
            self.tools.statuses.drop(task_id)
            await self.tools.memory.drop_task(task_id)
        return not left

    async def _quietly(self, name: str, work: Awaitable[None]) -> tuple[str, ...]:
        """Does it; names what failed."""
        try:
            await work
        except errors.ShoalError as exc:
            log.warning("%s was not removed: %s", name, exc.message)
            return (name,)
        return ()


def _configs(assignment: model.TaskAssignment, state: NodeState) -> Mapping[str, model.ConfigRecord]:
    """The configs that a task uses, as far as the managers have sent them."""
    container = assignment.task.spec.container
    wanted = {reference.config_id for reference in container.configs} if container else ()
    return {key: state.configs[key] for key in wanted if key in state.configs}
