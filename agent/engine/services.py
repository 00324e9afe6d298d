"""/services: what the swarm is to run. Routes for app.py."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from agent.engine import filters, lookup, network_finding, nicknames
from agent.engine.http import Call, answer, empty, raw_json, routes
from common import apijson, errors, model

AUTH_HEADER: Final = "X-Registry-Auth"
_FILTERS: Final = ("id", "label", "mode", "name", "runtime")
_NO_AUTH: Final = ("", "e30=", "e30")  # base64 of {}
_STATUS_SINCE: Final = (1, 41)
_NAME_ATTEMPTS: Final = 6
_RUNTIMES: Final = ("", "container", "plugin", "attachment")


async def list_services(call: Call) -> web.StreamResponse:
    """GET /services?filters&status."""
    control = call.backend.swarm.control()
    wanted = filters.parse(call.text("filters"), _FILTERS)
    status = call.boolean("status") and call.version >= _STATUS_SINCE
    reply = await call.ask(control.ListServices, model.ListRequest(filters.terms(wanted), status))
    return raw_json(call.encoded.many(reply.services))


async def inspect(call: Call) -> web.StreamResponse:
    """GET /services/{id}?insertDefaults."""
    control = call.backend.swarm.control()
    defaults = call.boolean("insertDefaults")
    reply = await call.ask(control.GetService, model.GetRequest(call.names["id"], defaults))
    return raw_json(call.encoded.one(reply.service, variant=defaults))


async def create(call: Call) -> web.StreamResponse:
    """POST /services/create."""
    body = await call.json()
    call.backend.swarm.control()  # that there is none comes before what is wrong with the spec
    spec = _spec(call, body)
    try:
        reply = await (_create(call, spec) if spec.name else _create_nameless(call, spec))
    except errors.NotFound:
        await _refuse_own_networks(call, spec)
        raise
    made: dict[str, Any] = {"ID": reply.service.id}
    if reply.warnings:
        made["Warnings"] = list(reply.warnings)
    return answer(made, 201)


async def _create(call: Call, spec: model.ServiceSpec) -> model.ServiceReply:
    control = call.backend.swarm.control()
    return await call.ask(control.CreateService, model.CreateServiceRequest(spec))


async def _create_nameless(call: Call, spec: model.ServiceSpec) -> model.ServiceReply:
    """A service without a name gets one that no other has."""
    for attempt in range(_NAME_ATTEMPTS):
        named = replace(spec, name=nicknames.nickname(secrets.randbelow(nicknames.COUNT), attempt))
        try:
            return await _create(call, named)
        except errors.AlreadyExists:
            continue
    raise errors.AlreadyExists("no free name was found for the service: give it one with --name")


async def update(call: Call) -> web.StreamResponse:
    """POST /services/{id}/update?version&rollback&registryAuthFrom."""
    control = call.backend.swarm.control()
    spec = _spec(call, await call.json())
    rollback, source = call.text("rollback"), call.text("registryAuthFrom")
    if rollback not in ("", "none", "previous"):
        raise errors.InvalidArgument(f"unrecognized rollback option {rollback}")
    if source not in ("", "spec", "previous-spec"):
        raise errors.InvalidArgument(f"unsupported registryAuthFrom {source}")
    request = model.UpdateServiceRequest(
        ref=call.names["id"],
        version=call.object_version("service"),
        spec=spec,
        rollback=rollback == "previous",
        auth_from_previous=source == "previous-spec",
    )
    try:
        reply = await call.ask(control.UpdateService, request)
    except errors.NotFound:
        await _refuse_own_networks(call, spec)
        raise
    return answer({"Warnings": list(reply.warnings) or None})


async def _refuse_own_networks(call: Call, spec: model.ServiceSpec) -> None:
    """A network that the managers don't know may be this node's own."""
    own = await network_finding.of_this_node(call)
    for attachment in spec.task.networks or spec.networks:
        found = lookup.matches(own, attachment.target, network_finding.id_of, network_finding.name_of)
        if found:
            raise errors.PermissionDenied(
                f"The network {found[0]['Name']} cannot be used with services. Only networks scoped to the swarm can be "
                "used, such as those created with the overlay driver."
            )


def _spec(call: Call, body: object) -> model.ServiceSpec:
    """The body's specification, without what the client's version can't mean, with the header's credentials."""
    if isinstance(body, dict):
        body = apijson.without_newer(body, call.version)
        _refuse_modes(body)
    spec = apijson.decode(model.ServiceSpec, body)
    if spec.task.runtime not in _RUNTIMES:
        raise errors.InvalidArgument("unsupported runtime")
    if spec.task.container is None and spec.task.runtime in ("", "container"):
        raise errors.InvalidArgument("mismatched Runtime and *Spec fields")
    auth = call.request.headers.get(AUTH_HEADER, "")
    if auth in _NO_AUTH or spec.task.container is None:
        return spec
    return replace(spec, task=replace(spec.task, container=replace(spec.task.container, pull_auth=auth)))


def _refuse_modes(body: Mapping[str, Any]) -> None:
    """More than one mode at once."""
    modes = next((value for key, value in body.items() if key.lower() == "mode"), None)
    if isinstance(modes, dict) and sum(value is not None for value in modes.values()) > 1:
        raise errors.InvalidArgument("must specify only one service mode")


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /services/{id}."""
    control = call.backend.swarm.control()
    await call.ask(control.RemoveService, model.RemoveRequest(call.names["id"]))
    return empty()


ROUTES: Final = routes({
    "GET /services": list_services,
    "POST /services/create": create,
    "GET /services/{id}": inspect,
    "POST /services/{id}/update": update,
    "DELETE /services/{id}": remove,
})  # fmt: skip
