"""/containers: those of this node, to list, inspect and read. Routes for app.py; shapes in container_shapes.py."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from agent.engine import container_filters, filters, lookup, versions
from agent.engine import container_shapes as shapes
from agent.engine.container_filters import Seen
from agent.engine.http import Call, answer, routes, stream
from agent.engine.moments import timestamp
from agent.engine.telling import around
from agent.runtime.api import ContainerState, LogEntry, Status
from agent.runtime.image import ImageInfo
from common import apijson, errors

_UP: Final = (Status.RUNNING, Status.PAUSED)
RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"
MULTIPLEXED_SINCE: Final = (1, 42)
_STREAM_NUMBER: Final = {"stdout": 1, "stderr": 2}


async def find(call: Call, ref: str) -> ContainerState:
    """The container that `ref` means: id, name, the name that another one's link has for it, or the beginning of an id; raises
    errors.NotFound."""
    everything = await call.backend.runtime.containers()
    found = lookup.matches(
        everything,
        call.backend.singles.linking.find(ref) or ref.removeprefix("/"),
        lambda c: c.id,
        lambda c: c.name.removeprefix("/"),
    )
    if not found:
        raise errors.NotFound(f"No such container: {ref}")
    if len(found) > 1:
        raise errors.InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
    return found[0]


async def list_containers(call: Call) -> web.StreamResponse:
    """GET /containers/json?all&limit&size&filters."""
    wanted = filters.parse(call.text("filters"), container_filters.KNOWN)
    container_filters.check(wanted)
    limit = _limit(call.text("limit"))
    images = {
        tag: image
        for image in await call.backend.runtime.images()
        for tag in (image.id, *image.tags, *image.digests)
    }
    everything = [
        Seen(container, around(call.backend, container), shapes.image_of(container, images))
        for container in await call.backend.runtime.containers()
    ]
    chosen = container_filters.chosen(everything, wanted)
    if not (call.flag("all") or limit or container_filters.all_states(wanted)):
        chosen = [seen for seen in chosen if seen.container.status in _UP or seen.around.restarting]
    now = call.backend.now_ns()
    shown = []
    for seen in chosen[: limit or None]:
        sizes = await _sizes(call, seen.container, seen.image) if call.flag("size") else {}
        summary = shapes.summary(seen.container, seen.around, seen.image, now)
        shown.append({**_fitted(call, seen.container, summary), **sizes})
    return answer(shown)


async def _sizes(call: Call, container: ContainerState, image: ImageInfo | None) -> dict[str, int]:
    """What a container has written, and all that it sees."""
    own = await call.backend.runtime.layer_size(container.id)
    return {"SizeRw": own, "SizeRootFs": own + (image.size if image is not None else 0)}


def _limit(text: str) -> int:
    """How many of the newest; 0 or less for no limit."""
    if not text:
        return 0
    try:
        return max(0, int(text))
    except ValueError as exc:
        raise errors.InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax') from exc


async def inspect(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/json?size."""
    container = await find(call, call.names["id"])
    image = await call.backend.runtime.image(container.image)
    folder = call.backend.runtime.folder(container.id)
    execs = call.backend.execs.of(container.id)
    shown = shapes.inspection(container, image, around(call.backend, container), folder, execs)
    sizes = await _sizes(call, container, image) if call.flag("size") else {}
    return answer({**_fitted(call, container, shown), **sizes})


def _fitted(call: Call, container: ContainerState, shown: dict[str, Any]) -> dict[str, Any]:
    return versions.container(shown, call.version, container.id[:12], container.name.removeprefix("/"))


async def logs(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/logs?stdout&stderr&follow&tail&since&until&timestamps&details."""
    streams = {name for name in ("stdout", "stderr") if call.flag(name)}
    if not streams:
        raise errors.InvalidArgument("Bad parameters: you must choose at least one stream")
    container = await find(call, call.names["id"])
    tail = call.text("tail", "all")
    entries = call.backend.runtime.logs(
        container.id,
        follow=call.flag("follow"),
        tail=_count(tail, -1),
        since=timestamp(call.text("since")),
        until=timestamp(call.text("until")),
    )
    tty = container.config is not None and container.config.tty
    framed = not tty
    kind = MULTIPLEXED if framed and call.version >= MULTIPLEXED_SINCE else RAW
    response = await stream(call, kind)
    timestamps, space = call.flag("timestamps"), b" " if call.flag("details") else b""
    async for entry in _chosen(entries, streams):
        text = f"{apijson.format_time(entry.at)} ".encode() if timestamps else b""
        data = text + space + entry.data  # labels would stand before the space
        await response.write(frame(entry.stream, data) if framed else data)
    await response.write_eof()
    return response


async def _chosen(entries: AsyncIterator[LogEntry], streams: set[str]) -> AsyncIterator[LogEntry]:
    async for entry in entries:
        if entry.stream in streams:
            yield entry


def _count(text: str, otherwise: int) -> int:
    """A small number, or what it means to say none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else otherwise


def frame(name: str, data: bytes) -> bytes:
    """One piece of output in Docker's multiplexed form."""
    return struct.pack(">BxxxI", _STREAM_NUMBER[name], len(data)) + data


ROUTES: Final = routes({
    "GET /containers/json": list_containers,
    "GET /containers/{id:path}/json": inspect,
    "GET /containers/{id:path}/logs": logs,
})  # fmt: skip
