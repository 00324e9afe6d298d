"""/configs: named pieces of data that services get as files. Routes for app.py."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from agent.engine import filters
from agent.engine.http import Call, answer, empty, raw_json, routes
from common import apijson, errors, model

_FILTERS: Final = ("id", "label", "name", "names")
_TEMPLATING_SINCE: Final = (1, 37)


async def list_configs(call: Call) -> web.StreamResponse:
    """GET /configs. Encoded each time: data of many configs would fill the cache of encoded objects."""
    control = call.backend.swarm.control()
    wanted = filters.parse(call.text("filters"), _FILTERS)
    reply = await call.ask(control.ListConfigs, model.ListRequest(filters.terms(wanted)))
    return raw_json(b"[" + b",".join(apijson.dumps(config) for config in reply.configs) + b"]")


async def inspect(call: Call) -> web.StreamResponse:
    """GET /configs/{id}."""
    control = call.backend.swarm.control()
    reply = await call.ask(control.GetConfig, model.GetRequest(call.names["id"]))
    return raw_json(apijson.dumps(reply.config))


async def create(call: Call) -> web.StreamResponse:
    """POST /configs/create."""
    control = call.backend.swarm.control()
    spec = apijson.decode(model.ConfigSpec, await call.json())
    if spec.templating is not None and call.version < _TEMPLATING_SINCE:
        asked = ".".join(map(str, call.version))
        raise errors.InvalidArgument(
            f"config templating is not supported on the specified API version: {asked}"
        )
    reply = await call.ask(control.CreateConfig, model.CreateConfigRequest(spec))
    return answer({"ID": reply.config.id}, 201)


async def update(call: Call) -> web.StreamResponse:
    """POST /configs/{id}/update?version."""
    control = call.backend.swarm.control()
    spec = apijson.decode(model.ConfigSpec, await call.json())
    version = call.object_version("config")
    await call.ask(control.UpdateConfig, model.UpdateConfigRequest(call.names["id"], version, spec))
    return empty()


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /configs/{id}."""
    control = call.backend.swarm.control()
    await call.ask(control.RemoveConfig, model.RemoveRequest(call.names["id"]))
    return empty(204)


ROUTES: Final = routes({
    "GET /configs": list_configs,
    "POST /configs/create": create,
    "GET /configs/{id}": inspect,
    "POST /configs/{id}/update": update,
    "DELETE /configs/{id}": remove,
})  # fmt: skip
