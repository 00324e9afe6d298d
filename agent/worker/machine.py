"""A task's life on its node, as two tables. Pure; agent/worker/supervisor.py carries the actions out.

`next_action` says what is to be done now, from the task's state and what the managers want; `finished` and `failed` say
which state an action's end leads to. States only grow, and a terminal one is final: a restart is another task.

Rules in prose:
- An image is fetched while the task is PREPARING; it then stays READY for as long as the managers want READY.
- A task starts (STARTING -> RUNNING) only when every node that takes part has its endpoint in its kernel, or 2 s after
  it began to wait for that.
- What goes wrong before STARTING is REJECTED: this node cannot run the task. What goes wrong later is FAILED.
- A running task that is to stop runs on while its endpoint is SERVING or WITHDRAWN, so that no connection is lost; it
  is stopped once the endpoint is DRAINED, or when it never served (NONE). One that does not run yet stops at once.
- A task that ran when the machine went down runs again, as the same task, unless the managers have said otherwise.
- A terminal task keeps its container, for logs and history, until it is to be removed.
- A removed task stays known, with its last state, until it is no longer assigned to this node: a manager that is away
  must not find it begun anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from common.model import EndpointState, TaskState

PEERS_DEADLINE: Final = 2.0  # seconds that STARTING waits for the other nodes


class Action(Enum):
    """What a task's supervisor does next. Each may be repeated and may be broken off."""

    ACCEPT = auto()  # take the task on
    BEGIN = auto()  # say that preparing begins
    PREPARE = auto()  # fetch the image, make the container
    WAIT = auto()  # nothing until the managers want something else
    LAUNCH = auto()  # say that starting begins
    BUILD = auto()  # attach the network, make the container
    AWAIT_PEERS = auto()  # nothing until the endpoint is known everywhere, or the deadline
    START = auto()  # start the process
    REVIVE = auto()  # the machine went down under it: build and start it once more
    WATCH = auto()  # the process runs: wait for its end
    STOP = auto()  # signal, grace, kill
    RELEASE = auto()  # it has ended: give its network back
    REMOVE = auto()  # delete the container and all that belongs to it
    FORGET = auto()  # the managers don't name it any more: neither do we


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision depends on."""

    state: TaskState  # as last reported by this node
    desired: TaskState
    endpoint: EndpointState
    may_start: bool  # its peers are ready, or the deadline has passed
    built: bool = False  # network and container are there
    released: bool = False  # its network was given back
    lost: bool = False  # it ran when the machine went down
    removed: bool = False  # its container was deleted
    gone: bool = False  # it is not assigned to this node any more


@dataclass(frozen=True, slots=True)
class Outcome:
    """A state to report, in Docker's words."""

    state: TaskState
    message: str


S = TaskState
_TERMINAL_FROM: Final = S.TASK_COMPLETE
# Towards a running process.
_FORWARD: Final[Mapping[TaskState, Action]] = {
    S.TASK_NEW: Action.ACCEPT,
    S.TASK_PENDING: Action.ACCEPT,
    S.TASK_ASSIGNED: Action.ACCEPT,
    S.TASK_ACCEPTED: Action.BEGIN,
    S.TASK_PREPARING: Action.PREPARE,
    S.TASK_READY: Action.LAUNCH,
    S.TASK_STARTING: Action.START,
    S.TASK_RUNNING: Action.WATCH,
}
_FINISHED: Final[Mapping[Action, Outcome]] = {
    Action.ACCEPT: Outcome(S.TASK_ACCEPTED, "accepted"),
    Action.BEGIN: Outcome(S.TASK_PREPARING, "preparing"),
    Action.PREPARE: Outcome(S.TASK_READY, "prepared"),
    Action.LAUNCH: Outcome(S.TASK_STARTING, "starting"),
    Action.START: Outcome(S.TASK_RUNNING, "started"),
    Action.REVIVE: Outcome(S.TASK_RUNNING, "started"),
    Action.WATCH: Outcome(S.TASK_COMPLETE, "finished"),
    Action.STOP: Outcome(S.TASK_SHUTDOWN, "shutdown"),
}
_DRAINING: Final = (EndpointState.ENDPOINT_SERVING, EndpointState.ENDPOINT_WITHDRAWN)


def is_terminal(state: TaskState) -> bool:
    """Whether the task has ended and will not run again."""
    return state >= _TERMINAL_FROM


def next_action(now: Situation) -> Action:
    """What is to be done in this situation."""
    if is_terminal(now.state):
        if now.desired >= S.TASK_REMOVE:
            return _after_removal(now) if now.removed else Action.REMOVE
        return Action.WAIT if now.released else Action.RELEASE
    if now.desired >= S.TASK_SHUTDOWN:
        if now.state == S.TASK_RUNNING and now.endpoint in _DRAINING and not now.lost:
            return Action.WATCH
        return Action.STOP
    if now.state == S.TASK_READY and now.desired <= S.TASK_READY:
        return Action.WAIT
    if now.state == S.TASK_STARTING and not now.built:
        return Action.BUILD
    if now.state == S.TASK_STARTING and not now.may_start:
        return Action.AWAIT_PEERS
    if now.state == S.TASK_RUNNING and now.lost:
        return Action.REVIVE
    return _FORWARD[now.state]


def _after_removal(now: Situation) -> Action:
    return Action.FORGET if now.gone else Action.WAIT


def finished(action: Action) -> Outcome | None:
    """The state after `action` went well; None for one that changes none."""
    return _FINISHED.get(action)


def failed(state: TaskState, message: str) -> Outcome:
    """The state after something went wrong in `state`, whose message stays, as Docker has it."""
    if state < S.TASK_STARTING:
        return Outcome(S.TASK_REJECTED, message)
    return Outcome(S.TASK_FAILED, message)


def exit_error(code: int, oom_killed: bool = False) -> str:
    """Docker's text for a process that ended with `code`."""
    return f"task: non-zero exit ({code})" + (": OOM killed" if oom_killed else "")
