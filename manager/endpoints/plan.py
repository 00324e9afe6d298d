"""The life of a task's endpoint in the balancers, apart from the task's own. Pure; used by reconcile.py.

    NONE -> SERVING        the task runs, is healthy, and is to go on
    SERVING -> WITHDRAWN   it is to stop: out of every balancer, new connections go elsewhere
    WITHDRAWN -> DRAINED   every node that takes part has acknowledged that, or is Down, or 3 s have passed
    SERVING, WITHDRAWN -> DRAINED   at once when the task has ended or its node is Down: nothing is left to protect

An agent stops a task only while its endpoint is NONE or DRAINED.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from common import model
from common.model import EndpointState, TaskState
from manager import lifecycle
from manager.store.view import THIS_INDEX, ReadView

PATIENCE: Final = 3 * lifecycle.SECOND


class Acknowledged(Protocol):
    """What the agents have acknowledged."""

    def index(self, node_id: str) -> int:
        """The last acknowledged index of a node."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next state of an endpoint, the time to look again, and the nodes that were not waited for any longer."""

    state: EndpointState
    wake: int | None = None
    overdue: tuple[str, ...] = ()


def next_step(
    task: model.Task, view: ReadView, now: int, participants: Collection[str], acks: Acknowledged
) -> Step:
    """Where the task's endpoint stands next."""
    over = lifecycle.ended(task) or lifecycle.down(view.nodes.get(task.node_id))
    if task.endpoint == EndpointState.ENDPOINT_NONE:
        ready = not over and lifecycle.serving(task) and lifecycle.wanted(task) and _offered(task)
        return Step(EndpointState.ENDPOINT_SERVING if ready else task.endpoint)
    if task.endpoint == EndpointState.ENDPOINT_DRAINED:
        return Step(task.endpoint)
    if over:
        return Step(EndpointState.ENDPOINT_DRAINED)
    if task.endpoint == EndpointState.ENDPOINT_SERVING:
        leaves = not lifecycle.wanted(task) or task.status.state != TaskState.TASK_RUNNING
        return Step(EndpointState.ENDPOINT_WITHDRAWN if leaves else task.endpoint)
    return _withdrawn(task, view, now, participants, acks)


def _withdrawn(
    task: model.Task, view: ReadView, now: int, participants: Iterable[str], acks: Acknowledged
) -> Step:
    waiting = [
        node_id
        for node_id in participants
        if acks.index(node_id) < task.endpoint_index and not lifecycle.down(view.nodes.get(node_id))
    ]
    if not waiting:
        return Step(EndpointState.ENDPOINT_DRAINED)
    deadline = task.endpoint_since + PATIENCE
    if lifecycle.due(deadline, now, PATIENCE):
        return Step(EndpointState.ENDPOINT_DRAINED, overdue=tuple(sorted(waiting)))
    return Step(task.endpoint, wake=deadline)


def moved(task: model.Task, state: EndpointState, now: int) -> model.Task:
    """The task with its endpoint in another state."""
    return replace(task, endpoint=state, endpoint_index=THIS_INDEX, endpoint_since=now)


def _offered(task: model.Task) -> bool:
    return any(attachment.addresses for attachment in task.networks)


def counts(steps: Mapping[EndpointState, int]) -> str:
    """How many endpoints went into which state, in words."""
    words = {
        EndpointState.ENDPOINT_SERVING: "serving",
        EndpointState.ENDPOINT_WITHDRAWN: "withdrawn",
        EndpointState.ENDPOINT_DRAINED: "drained",
    }
    return ", ".join(f"{steps[state]} {word}" for state, word in words.items() if steps.get(state))
