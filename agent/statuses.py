"""Task statuses on their way to the managers: kept until committed, newest of each task only. Pure.

agent/worker puts them in, agent/session.py sends what `batch` gives and reports what the managers have taken. After a new
connection `restart` makes everything that is not yet committed go out again.
"""

from __future__ import annotations

from collections.abc import Callable

from common import model


class StatusQueue:
    """Statuses by task; `wake` is called when there is something to send."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.wake = wake
        self.noted: Callable[[str, model.TaskStatus], None] = lambda task_id, status: None  # for gossip
        self._sequence = 0
        self._unsent: dict[str, model.TaskStatus] = {}
        self._sent: dict[str, tuple[int, model.TaskStatus]] = {}

    def __len__(self) -> int:
        return len(self._unsent) + len(self._sent)

    def put(self, task_id: str, status: model.TaskStatus) -> None:
        """A new status; it takes the place of an older one of the same task."""
        self._sent.pop(task_id, None)
        self._unsent[task_id] = status
        self.wake()
        self.noted(task_id, status)

    def drop(self, task_id: str) -> None:
        """The task is gone; nobody asks for its status any more."""
        self._unsent.pop(task_id, None)
        self._sent.pop(task_id, None)

    def batch(self) -> model.TaskStatuses | None:
        """All that was not sent yet, under a new sequence number."""
        if not self._unsent:
            return None
        self._sequence += 1
        updates = tuple(model.TaskStatusUpdate(task_id, status) for task_id, status in self._unsent.items())
        self._sent.update((u.task_id, (self._sequence, u.status)) for u in updates)
        self._unsent.clear()
        return model.TaskStatuses(self._sequence, updates)

    def taken(self, sequence: int) -> dict[str, model.TaskStatus]:
        """The managers have committed everything up to `sequence`; answers with what that was."""
        done = {task_id: status for task_id, (sent, status) in self._sent.items() if sent <= sequence}
        for task_id in done:
            del self._sent[task_id]
        return done

    def restart(self) -> None:
        """A new connection: what was sent on the last one and not taken goes out again."""
        for task_id, (_, status) in self._sent.items():
            self._unsent.setdefault(task_id, status)
        self._sent.clear()
        if self._unsent:
            self.wake()
