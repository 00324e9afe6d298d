"""/nodes: the machines of the swarm. Routes for app.py."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from agent.engine import filters
from agent.engine.http import Call, empty, raw_json, routes
from common import apijson, errors, model

_FILTERS: Final = ("id", "label", "membership", "name", "node.label", "role")
_WORDS: Final = {"membership": ("accepted", "pending"), "role": ("manager", "worker")}


async def list_nodes(call: Call) -> web.StreamResponse:
    """GET /nodes."""
    control = call.backend.swarm.control()
    wanted = filters.parse(call.text("filters"), _FILTERS)
    wanted = {key: _words(key, values) for key, values in wanted.items()}
    reply = await call.ask(control.ListNodes, model.ListRequest(filters.terms(wanted)))
    return raw_json(call.encoded.many(reply.nodes))


def _words(key: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values of a filter that is of few words, in any case."""
    if key not in _WORDS:
        return values
    for value in values:
        if value.lower() not in _WORDS[key]:
            raise errors.InvalidArgument(f"Invalid {key} filter: '{value}'")
    return tuple(value.lower() for value in values)


async def inspect(call: Call) -> web.StreamResponse:
    """GET /nodes/{id}."""
    control = call.backend.swarm.control()
    reply = await call.ask(control.GetNode, model.GetRequest(call.names["id"]))
    return raw_json(call.encoded.one(reply.node))


async def update(call: Call) -> web.StreamResponse:
    """POST /nodes/{id}/update?version."""
    control = call.backend.swarm.control()
    body = await call.json()
    version = call.object_version("node")
    spec = apijson.decode(model.NodeSpec, body)
    said = {str(key).lower() for key, value in (body or {}).items() if value is not None}
    for key in ("Role", "Availability"):
        if key.lower() not in said:  # an empty word is none: leaving the role out must not demote a manager
            raise errors.InvalidArgument(f'invalid {key}: ""')
    await call.ask(control.UpdateNode, model.UpdateNodeRequest(call.names["id"], version, spec))
    return empty()


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /nodes/{id}?force."""
    control = call.backend.swarm.control()
    await call.ask(control.RemoveNode, model.RemoveRequest(call.names["id"], call.flag("force")))
    return empty()


ROUTES: Final = routes({
    "GET /nodes": list_nodes,
    "GET /nodes/{id}": inspect,
    "POST /nodes/{id}/update": update,
    "DELETE /nodes/{id}": remove,
})  # fmt: skip
