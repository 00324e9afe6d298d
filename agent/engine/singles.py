"""/containers: what is done to one: create, start, stop, kill, restart, wait, resize, remove. Routes for app.py.

Containers of tasks belong to the worker: they can be waited for and signalled, but not started, stopped or removed.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from agent.engine import container_requests, container_shapes, filters, moments, telling
from agent.engine.containers import find
from agent.engine.happenings import CONTAINER
from agent.engine.http import Call, answer, empty, finish, routes, stream
from agent.engine.nicknames import COUNT, nickname
from agent.runtime import reference, signals
from agent.runtime.api import ContainerState, ExitStatus, Status, WaitCondition
from agent.runtime.image import ImageInfo
from agent.single.record import HOST, JOINED, Link, SingleRecord
from common import apijson, errors, ids

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CONDITIONS: Final[Mapping[str, WaitCondition]] = {
    "": "not-running", "not-running": "not-running", "next-exit": "next-exit", "removed": "removed",
}  # fmt: skip
_RUNNING: Final = (Status.RUNNING, Status.PAUSED)
_PRUNE_FILTERS: Final = ("label", "label!", "until")
_EVER: Final = 1 << 63
_OLD_MAC: Final = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
_NOTHING: Final = 7  # bytes of a body that say nothing, as Docker counts


async def create(call: Call) -> web.StreamResponse:
    """POST /containers/create?name."""
    name = call.text("name").removeprefix("/")
    if name:
        _check_name(name)
    taken = {c.name for c in await call.backend.runtime.containers()}
    body = await call.fields("container.CreateRequest")
    container_id = ids.new_container_id()
    node = call.backend.host.info()
    chosen = name or _nickname(taken)
    macs = call.version >= container_requests.OWN_MACS
    made = container_requests.request(body, chosen, container_id, node.hostname, node.cpus, macs)
    made = await _with_links(call, await _with_joined(call, made))
    await asyncio.to_thread(_make_folders, made.folders)
    image = await call.backend.runtime.image(made.config.image)
    if image is None:
        reference.parse(made.config.image)
    else:
        _refuse_platform(image, made.config.image, call.text("platform"))
    of_image = image.config.exposed_ports if image is not None else ()
    labels = {**(image.config.labels if image is not None else {}), **made.config.labels}
    record = replace(made.record, exposed=tuple(sorted({*made.record.exposed, *of_image})))
    here = call.backend.singles.wiring.host_address(record)
    hosts = tuple(_host(line, here) for line in made.config.extra_hosts)
    config = replace(made.config, extra_hosts=hosts, labels=labels)
    await finish(call.backend.singles.create(config, record))
    warnings = [_OLD_MAC] if macs and body.text("MacAddress") else []
    return answer({"Id": container_id, "Warnings": warnings}, 201)


def _refuse_platform(image: ImageInfo, name: str, wanted: str) -> None:
    """An image for another kind of machine than `--platform` asks for isn't there."""
    if not wanted:
        return
    actual = f"{image.platform.os}/{image.platform.architecture}"
    system, slash, machine = wanted.lower().partition("/")
    if not slash and system != image.platform.os:
        raise errors.InvalidArgument(f'"{wanted}": unknown operating system or architecture')
    if (system, machine.partition("/")[0] or image.platform.architecture) != (
        image.platform.os, image.platform.architecture,
    ):  # fmt: skip
        raise errors.NotFound(
            f"No such image: image with reference {name} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {actual}"
        )


async def _with_joined(call: Call, made: container_requests.Request) -> container_requests.Request:
    """Who is in another container's network has its name, too."""
    mode = made.record.network_mode
    if not mode.startswith(JOINED):
        return made
    try:
        other = await find(call, mode.removeprefix(JOINED))
    except errors.NotFound:  # it may be there when this one starts
        return made
    name = (other.config.hostname if other.config else "") or other.id[:12]
    domain = other.config.domainname if other.config else ""
    config = replace(made.config, hostname=name, domainname=domain)
    return replace(made, config=config, record=replace(made.record, network_mode=JOINED + other.id))


async def _with_links(call: Call, made: container_requests.Request) -> container_requests.Request:
    """Who they are that it is linked to on the default bridge. Of two by one name the first counts, as in Docker."""
    found: dict[str, Link] = {}
    for name, alias in made.links:
        try:
            other = await _of_network(call, await find(call, name))
        except errors.NotFound as exc:  # as a 404 it would say that the image isn't here
            raise errors.InvalidArgument(f"could not get container for {name}: {exc.message}") from exc
        if other.config is not None and other.config.host_network:
            container_requests.refuse_linked(HOST)
        found.setdefault(alias, Link(alias, other.id, other.name.removeprefix("/")))
    return replace(made, record=replace(made.record, links=tuple(found.values())))


async def _of_network(call: Call, container: ContainerState) -> ContainerState:
    """The container whose network another one is in."""
    record = call.backend.singles.record(container.id)
    if record is None or not record.network_mode.startswith(JOINED):
        return container
    return await _of_network(call, await find(call, record.network_mode.removeprefix(JOINED)))


def _host(line: str, here: str) -> str:
    """A line of --add-host; host-gateway stands for this node, as its container reaches it."""
    name, colon, address = line.partition(":")
    if colon and address == "host-gateway":
        if not here:
            raise errors.InvalidArgument(
                "unable to derive the IP value for host-gateway: the container is on no bridge"
            )
        return f"{name}:{here}"
    return line


def _check_name(name: str, shown: str = "") -> None:
    """`shown` stands before the name where it is refused."""
    if not _NAME.fullmatch(name):
        raise errors.InvalidArgument(
            f"Invalid container name ({shown}{name}), only {_NAME.pattern.removesuffix('+')} are allowed"
        )


def _nickname(taken: Iterable[str]) -> str:
    known = set(taken)
    number = secrets.randbelow(COUNT)
    return next(name for attempt in range(len(known) + 1) if (name := nickname(number, attempt)) not in known)


def _make_folders(folders: Iterable[str]) -> None:
    for folder in folders:
        if not os.path.exists(folder):
            try:
                os.makedirs(folder, exist_ok=True)  # another request may be at it, too
            except OSError as exc:
                why = f"mkdir {exc.filename}: {(exc.strerror or str(exc)).lower()}"
                raise errors.ShoalError(f"error while creating mount source path '{folder}': {why}") from exc


def _single(container: ContainerState, what: str) -> None:
    if container_shapes.TASK_LABEL in container.labels:
        raise errors.Unimplemented(
            f"{what} containers of tasks is not supported: remove, scale or update their service"
        )


async def start(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/start: 304 for one that runs."""
    if (call.request.content_length or 0) > _NOTHING:
        raise errors.InvalidArgument(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    container = await find(call, call.names["id"])
    _single(container, "starting")
    return empty(204 if await finish(call.backend.singles.start(container.id)) else 304)


async def stop(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/stop?t&signal: 304 for one that doesn't run."""
    grace, signal = _grace(call), call.text("signal")
    container = await find(call, call.names["id"])
    _single(container, "stopping")
    if not await finish(call.backend.singles.stop(container.id, signal, grace)):
        return empty(304)
    telling.container(call.backend, container, "stop")
    return empty(204)


async def restart(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/restart?t&signal."""
    grace, signal = _grace(call), call.text("signal")
    container = await find(call, call.names["id"])
    _single(container, "restarting")
    try:
        await finish(call.backend.singles.restart(container.id, signal, grace))
    except errors.ShoalError as exc:
        raise type(exc)(f"Cannot restart container {call.names['id']}: {exc.message}") from exc
    telling.container(call.backend, container, "restart")
    return empty(204)


def _grace(call: Call) -> float | None:
    """`t`: seconds until SIGKILL; negative means that there is no end to the patience."""
    text = call.text("t")
    if not text:
        return None
    try:
        seconds = int(text)
    except ValueError as exc:
        raise errors.InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax') from exc
    return float(seconds) if seconds >= 0 else float(1 << 30)


async def kill(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/kill?signal."""
    signals.parse(call.text("signal") or "SIGKILL")
    try:
        container = await find(call, call.names["id"])
    except errors.NotFound as exc:
        raise errors.NotFound(f"cannot kill container: {call.names['id']}: {exc.message}") from exc
    signal = call.text("signal") or "SIGKILL"
    await finish(call.backend.singles.kill(container.id, signal, call.names["id"]))
    return empty(204)


async def pause(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/pause."""
    container = await find(call, call.names["id"])
    _single(container, "pausing")
    if container.status is Status.PAUSED:
        raise errors.Conflict(f"Container {container.id} is already paused")
    if container.status is not Status.RUNNING:
        raise errors.Conflict(f"Container {container.id} is not running")
    await finish(call.backend.runtime.pause(container.id))
    telling.container(call.backend, container, "pause")
    return empty(204)


async def unpause(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/unpause."""
    container = await find(call, call.names["id"])
    if container.status is not Status.PAUSED:
        raise errors.Conflict(f"Container {container.id} is not paused")
    await finish(call.backend.runtime.resume(container.id))
    telling.container(call.backend, container, "unpause")
    return empty(204)


async def rename(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/rename?name."""
    asked = call.text("name")
    name = asked.removeprefix("/")
    if not asked:
        raise errors.InvalidArgument("Neither old nor new names may be empty")
    container = await find(call, call.names["id"])
    _single(container, "renaming")
    if name == container.name:
        raise errors.InvalidArgument("Renaming a container with the same name as its current name")
    try:
        _check_name(name, "/")
        await finish(call.backend.singles.rename(container.id, name))
    except (errors.InvalidArgument, errors.Conflict) as exc:
        raise type(exc)(f"Error when allocating new name: {exc.message}") from exc
    renamed = replace(container, name=name)
    telling.container(call.backend, renamed, "rename", oldName=f"/{container.name.removeprefix('/')}")
    return empty(204)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /containers/{id}?force&v&link; with `link` only a name that another one has for it."""
    container = await find(call, call.names["id"])
    if call.flag("link"):
        await finish(call.backend.singles.linking.cut(call.names["id"]))
        return empty(204)
    force = call.flag("force")
    restarting = call.backend.singles.restarts.waits(container.id)
    if (container.status in _RUNNING or restarting) and not force:
        raise errors.Conflict(
            f"You cannot remove a {'restarting' if restarting else 'running'} container {container.id}. "
            "Stop the container before attempting removal or force remove"
        )
    _single(container, "removing")
    await finish(call.backend.singles.remove(container.id, force))
    return empty(204)


async def prune(call: Call) -> web.StreamResponse:
    """POST /containers/prune: single containers that don't run."""
    wanted = filters.parse(call.text("filters"), _PRUNE_FILTERS)
    until = wanted.get("until", ())
    if len(until) > 1:
        raise errors.InvalidArgument("more than one until filter specified")
    before = moments.moment(until[0], call.backend.now_ns()) if until else _EVER
    removed: list[str] = []
    for container in await call.backend.runtime.containers():
        if container.status in _RUNNING or container_shapes.TASK_LABEL in container.labels:
            continue
        labels = container.labels
        if container.created_at > before or not filters.labels_match(labels, wanted.get("label", ())):
            continue
        if any(filters.labels_match(labels, (term,)) for term in wanted.get("label!", ())):
            continue
        try:
            await finish(call.backend.singles.remove(container.id))
        except errors.Conflict:  # it is being started, or waits to be
            continue
        removed.append(container.id)
    telling.pruned(call.backend, CONTAINER)
    return answer({"ContainersDeleted": removed or None, "SpaceReclaimed": 0})


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/wait?condition: headers at once, so that a client may wait before it starts."""
    condition = _CONDITIONS.get(call.text("condition"))
    if condition is None:
        raise errors.InvalidArgument(f'invalid condition: "{call.text("condition")}"')
    container = await find(call, call.names["id"])
    restarting = call.backend.singles.restarts.waits(container.id)
    if condition == "not-running" and container.status not in _RUNNING and not restarting:
        return answer(_ended_before(container, call.backend.singles.record(container.id)))
    waiting = asyncio.ensure_future(call.backend.singles.ended(container.id, condition))
    await asyncio.sleep(0)  # it stands in the line before the client hears of it
    try:
        response = await stream(call)
        await response.write(b"")
        shown = _ended(await waiting)
    except errors.NotFound:  # it went without having run
        shown = _ended(ExitStatus(0))
    except errors.ShoalError as exc:
        shown = {"Error": {"Message": exc.message}, "StatusCode": -1}
    finally:
        waiting.cancel()
    await response.write(apijson.dump_json(shown) + b"\n")
    await response.write_eof()
    return response


def _ended(exit: ExitStatus) -> dict[str, Any]:
    return {"StatusCode": exit.code}


def _ended_before(container: ContainerState, record: SingleRecord | None) -> dict[str, Any]:
    """A start that has failed since counts as an end, with its text."""
    shown: dict[str, Any] = {"StatusCode": container_shapes.exit_code(container, record)}
    if record is not None and record.error:
        shown["Error"] = {"Message": record.error}
    return shown


async def resize(call: Call) -> web.StreamResponse:
    """POST /containers/{id}/resize?h&w."""
    height, width = size(call)
    container = await find(call, call.names["id"])
    if container.status not in _RUNNING:
        raise errors.Conflict(f"Container {container.id} is not running")
    await call.backend.runtime.resize(container.id, width, height)
    telling.container(call.backend, container, "resize", height=str(height), width=str(width))
    return empty(200)


def size(call: Call) -> tuple[int, int]:
    """(lines, columns) of a client's terminal."""
    found = []
    for name in ("h", "w"):
        text = call.text(name)
        if not text.isascii() or not text.isdecimal() or len(text) > 5:
            what = "height" if name == "h" else "width"
            raise errors.InvalidArgument(f'invalid resize {what} "{text}": invalid syntax')
        found.append(int(text))
    return found[0], found[1]


ROUTES: Final = routes({
    "POST /containers/create": create,
    "POST /containers/prune": prune,
    "POST /containers/{id:path}/start": start,
    "POST /containers/{id:path}/stop": stop,
    "POST /containers/{id:path}/restart": restart,
    "POST /containers/{id:path}/kill": kill,
    "POST /containers/{id:path}/pause": pause,
    "POST /containers/{id:path}/rename": rename,
    "POST /containers/{id:path}/unpause": unpause,
    "POST /containers/{id:path}/wait": wait,
    "POST /containers/{id:path}/resize": resize,
    "DELETE /containers/{id:path}": remove,
})  # fmt: skip
