"""What there is to be in this kernel: the assignments, whoever has a namespace, and what is this node's own. For manager.py.

Pure but for what it keeps; plan.py makes facts of it. What is attached here outlives its assignment: a container of a task that
the managers have dropped keeps its network until it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from agent.network import names, plan
from agent.network.bridges import Local
from agent.network.facts import KernelView
from agent.network.own import Own
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import model

_CONTAINER_ID: Final = 64  # digits; a task's id has fewer


class Wanted:
    """`attached` are the tasks and single containers with a namespace, and tasks' addresses on docker_gwbridge."""

    def __init__(self) -> None:
        self.state = NodeState()
        self.own = Own()
        self.attached: dict[str, str] = {}
        self._remembered: dict[str, model.TaskAssignment] = {}  # of tasks that are attached

    # ---- changes

    def adopt(self, id: str) -> bool:
        """An earlier process has left a namespace of this name; whether it is a task's."""
        if len(id) == _CONTAINER_ID:
            self.own.present.add(id)
        self.attached[id] = ""
        return id not in self.own.present

    def assign(self, state: NodeState) -> None:
        """The managers say something else."""
        for task in self.attached:
            if task in state.tasks:
                self._remembered[task] = state.tasks[task]
        self.state = state
        self.own.remember(state.tasks)

    def wire(self, local: Local) -> None:
        """Single containers and bridges are others than before."""
        self.own.tell(local, self.state.tasks)

    def attach(self, id: str, assignment: model.TaskAssignment, gateway_address: str) -> None:
        """It has a namespace from now on."""
        self.attached[id] = gateway_address
        if not self.is_single(id):
            self._remembered[id] = assignment

    def detach(self, id: str) -> list[str]:
        """Its namespace is to go; answers with the addresses of this machine's bridges that it had."""
        wired = self.own.wired(id)
        self.own.present.discard(id)
        self._remembered.pop(id, None)
        addresses = (self.attached.pop(id, ""), *(leg.address for leg in wired.bridges))
        return [address for address in addresses if address]

    def leave(self) -> None:
        """The node has left its swarm; single containers stay."""
        self.state = NodeState()
        self.attached = {id: address for id, address in self.attached.items() if self.is_single(id)}
        self._remembered.clear()
        self.own.forget_places()

    # ---- questions

    @property
    def idle(self) -> bool:
        """Whether nothing is to be there: no swarm, no container, no bridge."""
        return not self.state.node_id and self.own.idle()

    @property
    def needs_gateway_bridge(self) -> bool:
        return bool(self.state.node_id or self.own.local.gateway_addresses())

    @property
    def vtep(self) -> str:
        """The address that the managers know this node's tunnels by; empty where they know none."""
        me = self.state.nodes.get(self.state.node_id)
        return me.vtep if me is not None else ""

    def is_single(self, id: str) -> bool:
        """Whether a single container has a namespace, or is about to get one."""
        return id in self.own.present

    def assignment(self, id: str) -> model.TaskAssignment | None:
        """Of a task, or of a single container as if it were one."""
        return self.own.assignment(id) or self.state.tasks.get(id)

    def gateway_addresses(self) -> Mapping[str, str]:
        """Addresses on docker_gwbridge, by task and container."""
        of_tasks = {id: address for id, address in self.attached.items() if address}
        return {**of_tasks, **self.own.local.gateway_addresses()}

    def namespaces(self) -> Sequence[str]:
        """Of all that is attached, in order."""
        return [names.task_namespace(id) for id in sorted(self.attached)]

    def is_stray(self, namespace: str) -> bool:
        """A namespace of a task that isn't attached: one that could not be removed when it was to go."""
        task = names.task_of(namespace)
        return task is not None and task not in self.attached

    def known(self) -> NodeState:
        """The state, with single containers, and tasks that the managers have dropped but whose containers are here."""
        gone = {task: a for task, a in self._remembered.items() if task not in self.state.tasks}
        singles = self.own.assignments()
        if not gone and not singles:
            return self.state
        return replace(self.state, tasks={**singles, **self.state.tasks, **gone})

    def view(self, underlay: Underlay) -> KernelView:
        """All of it as facts."""
        view = plan.desired(self.known(), dict(self.attached), underlay)
        return self.own.laid_over(view, self.state, underlay)
