"""The status queue: nothing is lost and nothing old overtakes, over any order of events."""

from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from agent.statuses import StatusQueue
from common import model


def status(number: int) -> model.TaskStatus:
    return model.TaskStatus(timestamp=number, state=model.TaskState.TASK_RUNNING)


class QueueMachine(RuleBasedStateMachine):
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.queue = StatusQueue()
        self.number = 0
        self.newest: dict[str, model.TaskStatus] = {}
        self.committed: dict[str, model.TaskStatus] = {}
        self.wire: list[model.TaskStatuses] = []

    @rule(task=tasks)
    def put(self, task: str) -> None:
        self.number += 1
        self.newest[task] = status(self.number)
        self.queue.put(task, self.newest[task])

    @rule(target=tasks)
    def new_task(self) -> str:
        return f"t{len(self.newest)}"

    @rule()
    def send(self) -> None:
        if batch := self.queue.batch():
            self.wire.append(batch)

    @rule()
    def commit_oldest(self) -> None:
        if self.wire:
            message = self.wire.pop(0)
            self.committed.update({u.task_id: u.status for u in message.updates})
            self.queue.taken(message.sequence)

    @rule()
    def break_connection(self) -> None:
        self.wire.clear()
        self.queue.restart()

    @invariant()
    def what_is_not_committed_is_kept(self) -> None:
        behind = [t for t, s in self.newest.items() if self.committed.get(t) != s]
        assert len(self.queue) == len(behind)


TestQueue = QueueMachine.TestCase


def test_taken_answers_with_what_was_committed() -> None:
    queue = StatusQueue()
    queue.put("a", status(1))
    batch = queue.batch()
    assert batch is not None
    queue.put("a", status(2))
    assert queue.taken(batch.sequence) == {}
    again = queue.batch()
    assert again is not None
    assert queue.taken(again.sequence) == {"a": status(2)}
    assert len(queue) == 0


def test_a_dropped_task_is_not_sent() -> None:
    woken: list[bool] = []
    queue = StatusQueue(lambda: woken.append(True))
    queue.put("a", status(1))
    queue.drop("a")
    assert queue.batch() is None
    assert woken == [True]
