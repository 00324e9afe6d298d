"""Nodes as the scheduler sees them: what runs there, what is reserved, what failed of late. Pure; used by place.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.store.view import ReadView

FAILURE_MEMORY: Final = 300 * lifecycle.SECOND
HostPort = tuple[model.PortProtocol, int]
DYNAMIC: Final = range(49153, 65536)  # where Docker looks for a host-mode port that has no number


@dataclass(slots=True)
class NodeInfo:
    """One node with its load."""

    node: model.Node
    tasks: int = 0  # that run or are to run
    by_service: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, int]] = field(
        default_factory=Counter
    )  # (service, spec version): recent ones
    cpus: int = 0
    memory: int = 0
    generic: Counter[str] = field(default_factory=Counter)
    ports: set[HostPort] = field(default_factory=set)

    def add(self, task: model.Task) -> None:
        """Counts a task that is placed here."""
        if lifecycle.wanted(task):
            self.tasks += 1
            self.by_service[task.service_id] += 1
        asked = reservations(task)
        self.cpus += asked.nano_cpus
        self.memory += asked.memory_bytes
        self.generic.update(generic_amounts(asked.generic))
        self.ports.update(host_ports(task))

    def fits(self, task: model.Task) -> bool:
        """Whether the node has the resources that a task reserves."""
        asked, has = reservations(task), self.node.description.resources
        if asked.nano_cpus and self.cpus + asked.nano_cpus > has.nano_cpus:
            return False
        if asked.memory_bytes and self.memory + asked.memory_bytes > has.memory_bytes:
            return False
        if not asked.generic:
            return True
        there = generic_amounts(has.generic)
        return all(self.generic[k] + n <= there[k] for k, n in generic_amounts(asked.generic).items())


_NOTHING: Final = model.Resources()


def reservations(task: model.Task) -> model.Resources:
    """What a task reserves."""
    asked = task.spec.resources
    return asked.reservations if asked is not None and asked.reservations is not None else _NOTHING


def generic_amounts(resources: Iterable[model.GenericResource]) -> Counter[str]:
    """Amounts by kind; a named resource counts as one."""
    amounts: Counter[str] = Counter()
    for resource in resources:
        if resource.discrete is not None:
            amounts[resource.discrete.kind] += resource.discrete.value
        elif resource.named is not None:
            amounts[resource.named.kind] += 1
    return amounts


def host_ports(task: model.Task) -> set[HostPort]:
    """Ports that a task publishes on its own node, where it asks for certain ones."""
    return {
        (p.protocol or model.PortProtocol.TCP, p.published_port)
        for p in lifecycle.host_ports(task.ports)
        if p.published_port
    }


def with_numbers(task: model.Task, info: NodeInfo, meshed: Collection[HostPort]) -> model.Task:
    """The task as it is placed here: its host-mode ports without a number get one that neither the node nor the mesh uses."""
    if all(port.published_port for port in lifecycle.host_ports(task.ports)):
        return task
    used = {*info.ports, *meshed, *host_ports(task)}
    given = []
    for port in task.ports:
        if port.publish_mode == model.PublishMode.HOST and not port.published_port:
            protocol = port.protocol or model.PortProtocol.TCP
            number = next(n for n in DYNAMIC if (protocol, n) not in used)
            used.add((protocol, number))
            port = replace(port, published_port=number)
        given.append(port)
    return replace(task, ports=tuple(given))


def load(view: ReadView, now: int) -> dict[str, NodeInfo]:
    """All nodes with what is on them."""
    found: dict[str, NodeInfo] = {}
    for node in view.nodes.all():
        info = found[node.id] = NodeInfo(node)
        for task in view.tasks.by_node(node.id):
            if not lifecycle.ended(task):
                info.add(task)
            elif _failed_lately(task, now):
                info.failures[task.service_id, task.spec_version] += 1
    return found


def _failed_lately(task: model.Task, now: int) -> bool:
    failed = task.status.state in (TaskState.TASK_FAILED, TaskState.TASK_REJECTED)
    return failed and now - task.status.timestamp < FAILURE_MEMORY
