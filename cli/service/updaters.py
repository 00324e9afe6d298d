"""What the progress of each kind of service looks like, from its tasks. Pure but for drawing; used by `cli.service.watch`.

Replicated: a line for each slot; global: a line for each node; jobs: completed and active tasks. More than twenty
lines aren't drawn.
"""

from __future__ import annotations

from typing import Any, Protocol

from cli.errors import CliError
from cli.output.progress import Display, Progress

_STATES = (
    "new",
    "allocated",
    "pending",
    "assigned",
    "accepted",
    "preparing",
    "ready",
    "starting",
    "running",
    "complete",
    "shutdown",
    "failed",
    "rejected",
)
_RANK = {state: index + 1 for index, state in enumerate(_STATES)}
_RUNNING = _RANK["running"]
_STATE_WIDTH = 9
_MOST_BARS = 20
_LONGEST_ERROR = 75

Task = dict[str, Any]


class Updater(Protocol):
    def update(self, service: dict[str, Any], tasks: list[Task], active: set[str], rollback: bool) -> bool:
        """Draw; True if the service is what it should be."""


def updater_for(service: dict[str, Any], display: Display) -> Updater:
    mode = service["Spec"].get("Mode") or {}
    if mode.get("Replicated") is not None:
        return _Replicated(display)
    if mode.get("Global") is not None:
        return _Global(display)
    if mode.get("ReplicatedJob") is not None:
        return _ReplicatedJob(display, mode["ReplicatedJob"], _iteration(service))
    if mode.get("GlobalJob") is not None:
        return _GlobalJob(display, _iteration(service))
    raise CliError("unrecognized service mode")


def _iteration(service: dict[str, Any]) -> int:
    return int(((service.get("JobStatus") or {}).get("JobIteration") or {}).get("Index", 0))


def _state(task: Task) -> str:
    return str((task.get("Status") or {}).get("State", ""))


def _terminal(state: str) -> bool:
    return _RANK.get(state, 0) > _RUNNING


def _error(task: Task) -> str:
    text = str((task.get("Status") or {}).get("Err") or "").split("\n")[0]
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def _draw_task(display: Display, ident: str, task: Task, rollback: bool) -> None:
    state = _state(task)
    error = _error(task)
    if error:
        display.show(Progress(ident, error))
    elif not _terminal(str(task.get("DesiredState", ""))) and not _terminal(state):
        done = _RUNNING - _RANK.get(state, 0) if rollback else _RANK.get(state, 0)
        display.show(Progress(ident, f"{state:<{_STATE_WIDTH}}", done, _RUNNING))


def _draw_overall(display: Display, running: int, wanted: int, rollback: bool) -> None:
    prefix = "rolling back update: " if rollback else ""
    display.show(Progress("overall progress", f"{prefix}{running} out of {wanted} tasks"))


def _current_tasks(tasks: list[Task], key: str, active: set[str] | None) -> dict[Any, Task]:
    """One task for each slot or node: the one that's meant to run, and furthest back if two are."""
    found: dict[Any, Task] = {}
    for task in tasks:
        desired, state = _RANK.get(str(task.get("DesiredState", "")), 0), _RANK.get(_state(task), 0)
        if not desired or not state:
            continue
        place = task.get(key) or ("" if key == "NodeID" else 0)
        existing = found.get(place)
        if existing is not None:
            rank = (_RANK[existing["DesiredState"]], _RANK[_state(existing)])
            if rank[0] < desired or (rank[0] == desired and rank[1] <= state):
                continue
        if active is not None and task.get("NodeID") and task["NodeID"] not in active:
            continue
        found[place] = task
    return found


class _Replicated:
    def __init__(self, display: Display) -> None:
        self._display = display
        self._lines: dict[int, int] = {}
        self._begun = False
        self._done = False

    def update(self, service: dict[str, Any], tasks: list[Task], active: set[str], rollback: bool) -> bool:
        wanted = service["Spec"]["Mode"]["Replicated"].get("Replicas")
        if wanted is None:
            raise CliError("no replica count")
        if not self._begun:
            self._begun = True
            _draw_overall(self._display, 0, wanted, rollback)
            if wanted <= _MOST_BARS:
                for line in range(1, wanted + 1):
                    self._display.show(Progress(f"{line}/{wanted}", " "))
        current = _current_tasks(tasks, "Slot", active)
        if self._done and any(_state(task) != "running" for task in current.values()):
            self._done = False
        running = 0
        for slot, task in sorted(current.items()):
            line = self._lines.setdefault(slot, len(self._lines) + 1)
            if not _terminal(str(task.get("DesiredState", ""))) and _state(task) == "running":
                running += 1
            if not self._done and wanted <= _MOST_BARS and line <= wanted:
                _draw_task(self._display, f"{line}/{wanted}", task, rollback)
        if not self._done:
            _draw_overall(self._display, running, wanted, rollback)
            self._done = running == wanted
        return bool(running == wanted)


class _Global:
    def __init__(self, display: Display) -> None:
        self._display = display
        self._begun = False
        self._done = False

    def update(self, service: dict[str, Any], tasks: list[Task], active: set[str], rollback: bool) -> bool:
        current = _current_tasks(tasks, "NodeID", None)
        wanted = len(current)
        if not self._begun:
            if not wanted:
                self._display.show(Progress("overall progress", "waiting for new tasks"))
                return False
            self._begun = True
            _draw_overall(self._display, 0, wanted, rollback)
        if self._done and any(_state(task) != "running" for task in current.values()):
            self._done = False
        running = 0
        for node, task in sorted(current.items()):
            if node not in active:
                continue
            if not _terminal(str(task.get("DesiredState", ""))) and _state(task) == "running":
                running += 1
            if not self._done and wanted <= _MOST_BARS:
                _draw_task(self._display, str(node)[:12], task, rollback)
        if not self._done:
            _draw_overall(self._display, running, wanted, rollback)
            self._done = running == wanted
        return running == wanted


def _of_iteration(tasks: list[Task], iteration: int) -> list[Task]:
    return [task for task in tasks if (task.get("JobIteration") or {}).get("Index", 0) == iteration]


class _ReplicatedJob:
    def __init__(self, display: Display, mode: dict[str, Any], iteration: int) -> None:
        self._display = display
        self._total = int(mode.get("TotalCompletions") or 0)
        self._concurrent = int(mode.get("MaxConcurrent") or 0)
        self._iteration = iteration
        self._begun = False

    def update(self, service: dict[str, Any], tasks: list[Task], active: set[str], rollback: bool) -> bool:
        if not self._begun:
            self._begun = True
            self._overall(0, 0)
            if self._total <= _MOST_BARS:
                for line in range(1, self._total + 1):
                    self._display.show(Progress(f"{line}/{self._total}", " "))
        current = _current_tasks(_of_iteration(tasks, self._iteration), "Slot", None)
        running = sum(1 for task in current.values() if not _terminal(_state(task)))
        complete = sum(1 for task in current.values() if _state(task) == "complete")
        self._overall(running, complete)
        if self._total <= _MOST_BARS:
            for slot, task in sorted(current.items()):
                self._line(int(slot), task)
        return complete == self._total

    def _line(self, line: int, task: Task) -> None:
        ident = f"{line}/{self._total}"
        rank = _RANK.get(_state(task), 0)
        if _error(task):
            self._display.show(Progress(ident, _error(task)))
        elif rank <= _RANK["complete"]:
            done = _RANK["complete"]
            self._display.show(Progress(ident, f"{_state(task):<{_STATE_WIDTH}}", rank, done))

    def _overall(self, running: int, complete: int) -> None:
        text = f"{complete} out of {self._total} complete"
        self._display.show(Progress("job progress", text, complete, self._total))
        wanted = min(self._total - complete, self._concurrent)
        self._display.show(Progress("active tasks", f"{running} out of {wanted} tasks"))


class _GlobalJob:
    def __init__(self, display: Display, iteration: int) -> None:
        self._display = display
        self._iteration = iteration

    def update(self, service: dict[str, Any], tasks: list[Task], active: set[str], rollback: bool) -> bool:
        current = _current_tasks(_of_iteration(tasks, self._iteration), "NodeID", None)
        if not current:
            return False
        complete = sum(1 for task in current.values() if _state(task) == "complete")
        text = f"{complete} out of {len(current)} complete"
        self._display.show(Progress("job progress", text, complete, len(current)))
        if len(current) <= _MOST_BARS:
            for node, task in sorted(current.items()):
                if _error(task):
                    self._display.show(Progress(str(node)[:12], _error(task)))
                else:
                    rank = _RANK.get(_state(task), 0)
                    self._display.show(
                        Progress(str(node)[:12], f"{_state(task):<{_STATE_WIDTH}}", rank, _RANK["complete"])
                    )
        return complete == len(current)
