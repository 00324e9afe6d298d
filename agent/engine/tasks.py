"""/tasks: what runs or ran where. Routes for app.py."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from agent.engine import filters
from agent.engine.http import Call, raw_json, routes
from common import apijson, errors, model

# `_up-to-date` is the progress bars' own: tasks of the service's newest specification.
_FILTERS: Final = ("_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service")
_STATES: Final = frozenset(apijson.word(state) for state in model.TaskState)


async def list_tasks(call: Call) -> web.StreamResponse:
    """GET /tasks."""
    control = call.backend.swarm.control()
    wanted = filters.parse(call.text("filters"), _FILTERS)
    for state in wanted.get("desired-state", ()):
        if state.lower() not in _STATES:
            raise errors.InvalidArgument(f"Invalid desired-state filter: '{state}'")
    if states := wanted.get("desired-state"):
        wanted = {**wanted, "desired-state": tuple(state.lower() for state in states)}
    reply = await call.ask(control.ListTasks, model.ListRequest(filters.terms(wanted)))
    return raw_json(call.encoded.many(reply.tasks))


async def inspect(call: Call) -> web.StreamResponse:
    """GET /tasks/{id}."""
    control = call.backend.swarm.control()
    reply = await call.ask(control.GetTask, model.GetRequest(call.names["id"]))
    return raw_json(call.encoded.one(reply.task))


ROUTES: Final = routes({
    "GET /tasks": list_tasks,
    "GET /tasks/{id}": inspect,
})  # fmt: skip
