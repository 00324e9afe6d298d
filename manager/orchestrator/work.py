"""One service under reconciliation: its tasks by slot as this pass leaves them. Pure; used by service.py and update.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.orchestrator import restart, tasks
from manager.plan import Plan
from manager.store.view import ReadView


@dataclass(slots=True)
class Work:
    """A service, its slots, and the plan that this pass fills."""

    view: ReadView
    plan: Plan
    service: model.Service
    now: int
    new_id: Callable[[], str]
    slots: dict[int, list[model.Task]] = field(default_factory=dict)
    deadlines: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the service, in sentences."""
        return self.service.spec.name

    def node(self, task: model.Task) -> model.Node | None:
        """The task's node, if it is still there."""
        return self.view.nodes.get(task.node_id)

    def write(self, task: model.Task) -> model.Task:
        """Puts a changed task, in the plan and in its slot."""
        slot = self.slots.setdefault(task.slot, [])
        for position, known in enumerate(slot):
            if known.id == task.id:
                slot[position] = task
                break
        else:
            slot.append(task)
        self.plan.put(task)
        return task

    def drop(self, task: model.Task) -> None:
        """Removes a task from the store."""
        self.slots[task.slot] = [t for t in self.slots[task.slot] if t.id != task.id]
        self.plan.remove(task)

    def stop(self, task: model.Task, desired: TaskState = TaskState.TASK_SHUTDOWN) -> model.Task:
        """Asks for a task's end."""
        return self.write(lifecycle.stop(task, self.now, desired))

    def start(
        self, slot: int, desired: TaskState = TaskState.TASK_RUNNING, start_after: int = 0
    ) -> model.Task:
        """Makes a task for a slot."""
        return self.write(tasks.new_task(self.service, slot, self.new_id(), self.now, desired, start_after))

    def wake_at(self, when: int) -> None:
        """This service must be looked at again at `when`."""
        self.deadlines.append(when)

    def wanted(self, slot: int) -> list[model.Task]:
        """The tasks that occupy a slot, oldest first: one, or two while a start-first update replaces it."""
        return [t for t in self.slots.get(slot, ()) if lifecycle.wanted(t)]

    def lost(self, task: model.Task) -> bool:
        """It cannot stay where it is: its node is gone, Down or drained."""
        if task.status.state == TaskState.TASK_ORPHANED:
            return True
        return bool(task.node_id) and not lifecycle.ended(task) and lifecycle.leaving(self.node(task))

    def halted(self, task: model.Task) -> bool:
        """Nothing of it runs any more, as far as anybody can know."""
        return lifecycle.ended(task) or not task.node_id or lifecycle.down(self.node(task))

    def finished(self, slot: int) -> bool:
        """The slot is empty for good: its last task has ended and, by its policy, isn't started again."""
        last = self.slots[slot][-1]
        if lifecycle.wanted(last) or last.desired_state >= TaskState.TASK_REMOVE:
            return False
        if not tasks.up_to_date(self.service, last):
            return False
        if lifecycle.ended_by_itself(last):
            return not restart.restarts(self.slots[slot], last)
        return not restart.moves(last)

    def counted(self) -> list[int]:
        """The slots that count as replicas: occupied, or empty for good."""
        return [n for n in self.slots if self.slots[n] and (self.wanted(n) or self.finished(n))]


def all_tasks(slots: dict[int, list[model.Task]]) -> Iterable[model.Task]:
    """Every task of every slot."""
    return [task for slot in slots.values() for task in slot]
