"""Tasks as the orchestrator makes and compares them. Pure; used by service.py, update.py and by control's task lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from common import model
from common.model import TaskState
from manager import lifecycle


def task_spec(spec: model.ServiceSpec) -> model.TaskSpec:
    """What a task of this service is made from."""
    if spec.task.networks or not spec.networks:
        return spec.task
    return replace(spec.task, networks=spec.networks)


def new_task(
    service: model.Service,
    slot: int,
    task_id: str,
    now: int,
    desired: TaskState = TaskState.TASK_RUNNING,
    start_after: int = 0,
) -> model.Task:
    """A task NEW for a slot; with `start_after` it is prepared at once and started then."""
    name = service.spec.name
    return model.Task(
        id=task_id,
        created_at=now,
        name=f"{name}.{slot}.{task_id}",
        spec=task_spec(service.spec),
        service_id=service.id,
        slot=slot,
        status=model.TaskStatus(timestamp=now, state=TaskState.TASK_NEW, message="created"),
        desired_state=desired,
        service_name=name,
        spec_version=service.spec_version,
        ports=lifecycle.spec_ports(service.spec),
        start_after=start_after,
        service_labels=service.spec.labels,
    )


def up_to_date(service: model.Service, task: model.Task) -> bool:
    """Whether `task` is what the service's present spec asks for."""
    if task.spec_version == service.spec_version:
        return True
    return task.spec == task_spec(service.spec) and _same_ports(
        lifecycle.spec_ports(service.spec), task.ports
    )


def _same_ports(asked: tuple[model.PortConfig, ...], had: tuple[model.PortConfig, ...]) -> bool:
    """A port without a number fits any number that was found for it."""
    if len(asked) != len(had):
        return False
    return all(
        (a.protocol, a.target_port, a.publish_mode, a.name)
        == (b.protocol, b.target_port, b.publish_mode, b.name)
        and a.published_port in (0, b.published_port)
        for a, b in zip(asked, had, strict=True)
    )


def age(task: model.Task) -> tuple[int, str]:
    """Sorts the tasks of a slot, oldest first."""
    return task.created_at, task.id


def slots_of(tasks: Iterable[model.Task]) -> dict[int, list[model.Task]]:
    """Tasks by slot, oldest first in each."""
    slots: dict[int, list[model.Task]] = {}
    for task in sorted(tasks, key=age):
        slots.setdefault(task.slot, []).append(task)
    return slots
