"""What this engine doesn't do yet: lists are empty, look-ups find nothing, changes are refused with 501. For app.py.

Last in app.py's list of modules: a route of the same form elsewhere wins. A part that gets built leaves this module.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from agent.engine import containers, filters
from agent.engine.http import Call, Handler, answer, empty, routes
from common import errors

_VOLUME_FILTERS: Final = ("dangling", "driver", "label", "name")
_STORE_FILTERS: Final = ("id", "label", "name", "names")


async def no_volumes(call: Call) -> web.StreamResponse:
    """GET /volumes?filters."""
    wanted = filters.parse(call.text("filters"), _VOLUME_FILTERS)
    filters.truth(wanted.get("dangling", ()))
    return answer({"Volumes": [], "Warnings": None})


async def no_volume(call: Call) -> web.StreamResponse:
    """GET and DELETE /volumes/{name}: by force, what isn't there is removed."""
    if call.request.method == "DELETE" and call.flag("force"):
        return empty(204)
    raise errors.NotFound(f"get {call.names['name']}: no such volume")


async def list_nothing(call: Call) -> web.StreamResponse:
    """GET /secrets: a manager has none."""
    call.backend.swarm.control()
    filters.parse(call.text("filters"), _STORE_FILTERS)
    return answer([])


def _nothing_of(kind: str) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        call.backend.swarm.control()
        raise errors.NotFound(f"{kind} {call.names['id']} not found")

    return handler


def _refused(what: str, manager: bool = False) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        if manager:
            call.backend.swarm.control()
        raise errors.Unimplemented(f"{what} not supported yet")

    return handler


async def container_action(call: Call) -> web.StreamResponse:
    """What can't be done to a container yet: one that isn't there is told apart."""
    what = _ACTIONS.get(call.names.get("action", "attach/ws"))
    if what is None:
        return answer({"message": "page not found"}, 404)
    await containers.find(call, call.names["id"])
    raise errors.Unimplemented(f"{what} not supported yet")


_ACTIONS: Final = {
    "archive": "copying files from and to containers is",
    "attach/ws": "attaching by WebSocket is",
    "checkpoints": "checkpoints of containers are",
    "changes": "comparing a container with its image is",
    "export": "exporting containers is",
    "stats": "statistics of containers are",
    "update": "updating containers is",
}


async def prune_volumes(call: Call) -> web.StreamResponse:
    """POST /volumes/prune: there are none."""
    return answer({"VolumesDeleted": None, "SpaceReclaimed": 0})


async def prune_build(call: Call) -> web.StreamResponse:
    """POST /build/prune: nothing was built."""
    return answer({"CachesDeleted": None, "SpaceReclaimed": 0})


async def commit(call: Call) -> web.StreamResponse:
    """POST /commit?container."""
    if not call.text("container"):
        raise errors.InvalidArgument('invalid name or ID supplied: ""')
    await containers.find(call, call.text("container"))
    raise errors.Unimplemented("making images of containers is not supported yet")


async def no_plugin(call: Call) -> web.StreamResponse:
    """What is done to a plugin: there is none."""
    raise errors.NotFound(f'plugin "{call.names["name"]}" not found')


_CHECKPOINTS: Final = _refused("checkpoints of containers are")
_PLUGINS: Final = _refused("plugins are")
_SECRETS: Final = _refused("secrets are", manager=True)
_VOLUMES: Final = _refused("named volumes are")
_IMAGES: Final = _refused("this action on images is")
_BUILD: Final = _refused("building images is")
_LOGS: Final = _refused("logs of services and tasks are", manager=True)

ROUTES: Final = routes({
    "GET /volumes": no_volumes,
    "POST /volumes/create": _VOLUMES,
    "POST /volumes/prune": prune_volumes,
    "GET /volumes/{name}": no_volume,
    "DELETE /volumes/{name}": no_volume,
    "GET /secrets": list_nothing,
    "POST /secrets/create": _SECRETS,
    "GET /secrets/{id}": _nothing_of("secret"),
    "DELETE /secrets/{id}": _nothing_of("secret"),
    "POST /secrets/{id}/update": _SECRETS,
    "GET /services/{id}/logs": _LOGS,
    "GET /tasks/{id}/logs": _LOGS,
    "GET /containers/{id:path}/attach/ws": container_action,
    "POST /containers/{id:path}/{action}": container_action,
    "GET /containers/{id:path}/{action}": container_action,
    "PUT /containers/{id:path}/{action}": container_action,
    "GET /images/search": _IMAGES,
    "GET /images/get": _IMAGES,
    "GET /images/{name:path}/get": _IMAGES,
    "GET /images/{name:path}/history": _IMAGES,
    "POST /images/{name:path}/push": _IMAGES,
    "POST /images/prune": _IMAGES,
    "GET /system/df": _refused("the summary of disk use is"),
    "POST /auth": _refused("checking registry credentials is"),
    "POST /build": _BUILD,
    "POST /build/prune": prune_build,
    "POST /commit": commit,
    "POST /session": _BUILD,
    "POST /build/cancel": _BUILD,
    "DELETE /containers/{id}/checkpoints/{name}": _CHECKPOINTS,
    "POST /plugins/pull": _PLUGINS,
    "POST /plugins/create": _PLUGINS,
    "GET /plugins/privileges": _PLUGINS,
    "DELETE /plugins/{name:path}": no_plugin,
    "POST /plugins/{name:path}/enable": no_plugin,
    "POST /plugins/{name:path}/disable": no_plugin,
    "POST /plugins/{name:path}/upgrade": no_plugin,
    "POST /plugins/{name:path}/set": no_plugin,
    "POST /plugins/{name:path}/push": no_plugin,
    "POST /grpc": _BUILD,
})  # fmt: skip
