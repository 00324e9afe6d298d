"""Tasks in the Control API. Mixed into service.Control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager.control import lookup, validation
from manager.control.base import ControlBase
from manager.store.view import ReadView

_STATES: Final = {state.name.removeprefix("TASK_").lower(): state for state in model.TaskState}


def _name(task: model.Task) -> str:
    return task.name or f"{task.service_name}.{task.slot or task.node_id}.{task.id}"


_TESTS: Final[Mapping[str, Callable[[model.Task, Sequence[str]], bool]]] = {
    "id": lambda task, values: lookup.begins(task.id, values),
    "name": lambda task, values: lookup.begins(_name(task), values),
    "label": lambda task, values: lookup.labelled(task.labels, values),
    "service": lambda task, values: task.service_id in values,
    "node": lambda task, values: task.node_id in values,
    "runtime": lambda task, values: "container" in values,
    "desired-state": lambda task, values: any(_STATES[v] is task.desired_state for v in values),
}


class TaskMethods(ControlBase):
    """ListTasks, GetTask."""

    async def list_tasks(self, request: model.ListRequest, caller: Caller) -> model.TasksReply:
        validation.filters(request.filters, (*_TESTS, "_up-to-date"))
        view = await self.read()
        terms = dict(lookup.grouped(request.filters))
        current = terms.pop("_up-to-date", None)
        for state in terms.get("desired-state", ()):
            if state not in _STATES:
                raise errors.InvalidArgument(f"Invalid desired-state filter: '{state}'")
        if "service" in terms:
            terms["service"] = [lookup.service(view, ref).id for ref in terms["service"]]
        if "node" in terms:
            terms["node"] = [lookup.node(view, ref).id for ref in terms["node"]]
        chosen = lookup.select(_candidates(view, terms), terms, _TESTS)
        chosen = [task for task in chosen if task.spec.attachment is None]
        if current:
            chosen = [task for task in chosen if _up_to_date(view, task)]
        return model.TasksReply(tuple(with_networks(view, task) for task in chosen))

    async def get_task(self, request: model.GetRequest, caller: Caller) -> model.TaskReply:
        view = await self.read()
        return model.TaskReply(with_networks(view, lookup.task(view, request.ref)))


def _candidates(view: ReadView, terms: lookup.Terms) -> Iterable[model.Task]:
    """Fewer tasks to look at, by the indexes: lists of one service are polled five times a second."""
    if "service" in terms:
        return [task for key in dict.fromkeys(terms["service"]) for task in view.tasks.by_service(key)]
    if "node" in terms:
        return [task for key in dict.fromkeys(terms["node"]) for task in view.tasks.by_node(key)]
    return view.tasks.all()


def _up_to_date(view: ReadView, task: model.Task) -> bool:
    service = view.services.get(task.service_id)
    return service is not None and task.spec_version == service.spec_version


def with_networks(view: ReadView, task: model.Task) -> model.Task:
    """The task with the networks that its attachments name, as the API shows it."""
    if not task.networks:
        return task
    attached = tuple(replace(a, network=view.networks.get(a.network_id)) for a in task.networks)
    return replace(task, networks=attached)
