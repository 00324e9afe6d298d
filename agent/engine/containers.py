"""/containers: those of this node, to list, inspect and read. Routes for app.py; shapes in container_shapes.py."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from aiohttp import web

from agent.engine import container_shapes as shapes
from agent.engine import filters, lookup
from agent.engine.http import Call, answer, routes, stream
from agent.runtime.api import ContainerState, LogEntry, Status
from common import apijson, errors

_FILTERS: Final = (
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"
MULTIPLEXED_SINCE: Final = (1, 42)
_STREAM_NUMBER: Final = {"stdout": 1, "stderr": 2}


async def find(call: Call, ref: str) -> ContainerState:
    """The container that `ref` means: id, name, or the beginning of an id; raises errors.NotFound."""
    everything = await call.backend.runtime.containers()
    found = lookup.matches(
        everything, ref.removeprefix("/"), lambda c: c.id, lambda c: c.name.removeprefix("/")
    )
    if not found:
        raise errors.NotFound(f"No such container: {ref}")
    if len(found) > 1:
        raise errors.InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
    return found[0]


async def list_containers(call: Call) -> web.StreamResponse:
    """GET /containers/json?all&limit&filters."""
    wanted = filters.parse(call.text("filters"), _FILTERS)
    limit = _count(call.text("limit"), 0)
    everything = await call.backend.runtime.containers()
    around = {c.id: _around(call, c) for c in everything}
    chosen = [c for c in everything if _meets(c, around[c.id], wanted)]
    if not (call.flag("all") or limit or "status" in wanted or "exited" in wanted):
        waits = call.backend.singles.restarts.waits
        chosen = [c for c in chosen if c.status in (Status.RUNNING, Status.PAUSED) or waits(c.id)]
    chosen.sort(key=lambda c: (-c.created_at, c.id))
    images = {
        tag: image
        for image in await call.backend.runtime.images()
        for tag in (image.id, *image.tags, *image.digests)
    }
    now = call.backend.now_ns()
    return answer([shapes.summary(c, around[c.id], images, now) for c in chosen[: limit or None]])


def _around(call: Call, container: ContainerState) -> shapes.Around:
    backend = call.backend
    single = backend.singles.record(container.id)
    own = {network.id: network for network in backend.singles.networks.all()}
    restarting = container.status is Status.STOPPED and backend.singles.restarts.waits(container.id)
    return shapes.Around(backend.swarm.state(), single, own, backend.host.info().id, restarting)


def _meets(container: ContainerState, around: shapes.Around, wanted: filters.Filters) -> bool:
    code = shapes.exit_code(container, around.single)
    tests = {
        "id": lambda values: any(container.id.startswith(value) for value in values),
        "name": lambda values: any(value.removeprefix("/") in container.name for value in values),
        "label": lambda values: filters.labels_match(container.labels, values),
        "status": lambda values: str(container.status) in values,
        "ancestor": lambda values: any(shapes.same_image(container.image, value) for value in values),
        "exited": lambda values: container.exit is not None and str(code) in values,
        "network": lambda values: _in_one_of(values, shapes.networks(container, around)),
        "is-task": lambda values: filters.truth(values) is (shapes.TASK_LABEL in container.labels),
    }
    for key in wanted:
        if key not in tests:
            raise errors.Unimplemented(f"filtering containers by {key} is not supported yet")
    return all(tests[key](values) for key, values in wanted.items())


def _in_one_of(names: Iterable[str], networks: Mapping[str, Any]) -> bool:
    """Whether one of these names, or the beginning of an id, is of a network that the container is in."""
    return any(
        name == known or (name and shown["NetworkID"].startswith(name))
        for name in names
        for known, shown in networks.items()
    )


async def inspect(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/json."""
    container = await find(call, call.names["id"])
    image = await call.backend.runtime.image(container.image)
    folder = call.backend.runtime.folder(container.id)
    execs = call.backend.execs.of(container.id)
    return answer(shapes.inspection(container, image, _around(call, container), folder, execs))


async def logs(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/logs?stdout&stderr&follow&tail&since&until&timestamps."""
    container = await find(call, call.names["id"])
    streams = {name for name in ("stdout", "stderr") if call.flag(name)}
    if not streams:
        raise errors.InvalidArgument("Bad parameters: you must choose at least one stream")
    tail = call.text("tail", "all")
    entries = call.backend.runtime.logs(
        container.id,
        follow=call.flag("follow"),
        tail=_count(tail, -1),
        since=_moment(call.text("since")),
        until=_moment(call.text("until")),
    )
    tty = container.config is not None and container.config.tty
    framed = not tty
    kind = MULTIPLEXED if framed and call.version >= MULTIPLEXED_SINCE else RAW
    response = await stream(call, kind)
    timestamps = call.flag("timestamps")
    async for entry in _chosen(entries, streams):
        text = f"{apijson.format_time(entry.at)} ".encode() if timestamps else b""
        data = text + entry.data
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


def _moment(text: str) -> int:
    """Nanoseconds of a Unix time with up to nine decimals, or of an RFC 3339 time; 0 for nothing."""
    if not text or text == "0":
        return 0
    seconds, _, fraction = text.partition(".")
    if seconds.isdecimal() and (not fraction or fraction.isdecimal()):
        return int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    try:
        return apijson.parse_time(text)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid time: {text}") from exc


ROUTES: Final = routes({
    "GET /containers/json": list_containers,
    "GET /containers/{id}/json": inspect,
    "GET /containers/{id}/logs": logs,
})  # fmt: skip
