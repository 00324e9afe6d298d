"""/images: this node's images. Routes for app.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from agent.engine import filters, moments, telling
from agent.engine.http import Call, Lines, answer, empty, routes
from agent.engine.services import AUTH_HEADER
from agent.runtime import reference
from agent.runtime.image import HealthCheck, ImageConfig, ImageInfo, PullEvent, RegistryAuth
from agent.worker import auth
from common import apijson, errors

_FILTERS: Final = ("before", "dangling", "label", "reference", "since", "until")
_VIRTUAL_SIZE_UNTIL: Final = (1, 44)
_DESCRIPTOR_SINCE: Final = (1, 48)
_CONTAINERS_OWN_UNTIL: Final = (1, 50)
_CONTAINERS_OWN: Final = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
)  # fmt: skip
_EVER: Final = 1 << 63


def registry_auth(call: Call) -> RegistryAuth | None:
    """The credentials of X-Registry-Auth; what can't be read is passed over, as in Docker: most images need none."""
    try:
        return auth.registry_auth(call.request.headers.get(AUTH_HEADER, ""))
    except errors.InvalidArgument:
        return None


def created_ns(image: ImageInfo) -> int:
    """When the image was made, as it says itself; 0 when it doesn't."""
    try:
        return apijson.parse_time(image.created)
    except ValueError:
        return 0


# ---- reading


async def list_images(call: Call) -> web.StreamResponse:
    """GET /images/json."""
    wanted = filters.parse(call.text("filters"), _FILTERS)
    since, before = await _bounds(call, wanted)
    images = [
        image
        for image in await call.backend.runtime.images()
        if _meets(image, wanted) and since < created_ns(image) < before
    ]
    images.sort(key=lambda image: (-created_ns(image), image.id))
    return answer([_summary(image, call.version) for image in images])


async def _bounds(call: Call, wanted: filters.Filters) -> tuple[int, int]:
    """Only what was made after the one and before the other, by `since`, `before` (images) and `until` (a time)."""
    since, before = -1, _EVER
    for name in wanted.get("since", ()):
        since = max(since, created_ns(await named(call, name)))
    for name in wanted.get("before", ()):
        before = min(before, created_ns(await named(call, name)))
    for text in wanted.get("until", ()):
        before = min(before, moments.moment(text, call.backend.now_ns()))
    return since, before


def _meets(image: ImageInfo, wanted: filters.Filters) -> bool:
    if not filters.labels_match(image.config.labels, wanted.get("label", ())):
        return False
    dangling = filters.truth(wanted.get("dangling", ()))
    if dangling is not None and dangling is bool(image.tags):
        return False
    references = wanted.get("reference", ())
    return not references or any(_named(image, pattern) for pattern in references)


def _named(image: ImageInfo, pattern: str) -> bool:
    """Whether one of the image's names is `pattern`: a repository, or repository and tag."""
    names = {*image.tags, *(tag.rpartition(":")[0] for tag in image.tags)}
    return pattern in names or (
        pattern.endswith("*") and any(name.startswith(pattern[:-1]) for name in names)
    )


def _summary(image: ImageInfo, version: tuple[int, ...]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Containers": -1,
        "Created": created_ns(image) // 1_000_000_000,
        "Id": image.id,
        "Labels": dict(image.config.labels) or None,
        "ParentId": "",
        "RepoDigests": list(image.digests),
        "RepoTags": list(image.tags),
        "SharedSize": -1,
        "Size": image.size,
    }
    if version < _VIRTUAL_SIZE_UNTIL:
        shown["VirtualSize"] = image.size
    if version >= _DESCRIPTOR_SINCE:
        shown["Descriptor"] = _descriptor(image)
    return shown


def _descriptor(image: ImageInfo) -> dict[str, Any]:
    target = image.target
    return {"mediaType": target.media_type, "digest": target.digest, "size": target.size}


async def named(call: Call, name: str) -> ImageInfo:
    """The image that a user means; raises errors.NotFound, or errors.InvalidArgument for what can be no name."""
    image = await call.backend.runtime.image(name)
    if image is None:
        if not reference.looks_like_id(name):
            reference.parse(name)
        raise errors.NotFound(
            f"No such image: {name if ':' in name.rpartition('/')[2] else f'{name}:latest'}"
        )
    return image


async def inspect(call: Call) -> web.StreamResponse:
    """GET /images/{name}/json."""
    try:
        image = await named(call, call.names["name"])
    except (errors.NotFound, errors.InvalidArgument) as exc:
        raise type(exc)(f"no such image: {call.names['name']}: {exc.message}") from exc
    shown: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": "",
        "Comment": str(image.raw.get("comment") or ""),
        "Created": image.created,
        "Container": "",
        "ContainerConfig": _built_by(),
        "DockerVersion": "",
        "Author": str(image.raw.get("author") or ""),
        "Config": config(image, call.version),
        "Architecture": image.platform.architecture,
        **({"Variant": image.platform.variant} if image.platform.variant else {}),
        "Os": image.platform.os,
        "Size": image.size,
        **({"VirtualSize": image.size} if call.version < _VIRTUAL_SIZE_UNTIL else {}),
        "GraphDriver": {"Data": None, "Name": "overlayfs"},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": apijson.ZERO_TIME},
        "Descriptor": _descriptor(image),
    }
    return answer(shown)


def _built_by() -> dict[str, Any]:
    """Of the container that an image was made from, which no pulled image tells of; docker-compose 1 reads it, whatever
    version of the API it speaks."""
    return _config(ImageConfig())


def config(image: ImageInfo, version: tuple[int, ...]) -> dict[str, Any]:
    """The image's configuration; old clients also look for what only containers have."""
    shown = _config(image.config)
    if version >= _CONTAINERS_OWN_UNTIL:
        return {key: value for key, value in shown.items() if key not in _CONTAINERS_OWN}
    return shown


def _config(own: ImageConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Hostname": "",
        "Domainname": "",
        "User": own.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        **({"ExposedPorts": {port: {} for port in own.exposed_ports}} if own.exposed_ports else {}),
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": list(own.env) or None,
        "Cmd": list(own.cmd) or None,
        "Image": "",
        "Volumes": {path: {} for path in own.volumes} or None,
        "WorkingDir": own.workdir,
        "Entrypoint": list(own.entrypoint) or None,
        "OnBuild": None,
        "Labels": dict(own.labels) or None,
    }
    if own.stop_signal:
        shown["StopSignal"] = own.stop_signal
    if own.healthcheck is not None:
        shown["Healthcheck"] = _healthcheck(own.healthcheck)
    return shown


def _healthcheck(check: HealthCheck) -> Mapping[str, Any]:
    times = {
        "Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period,
        "StartInterval": check.start_interval, "Retries": check.retries,
    }  # fmt: skip
    return {"Test": list(check.test), **{name: value for name, value in times.items() if value}}


# ---- changing


def _progress(event: PullEvent) -> dict[str, Any]:
    line: dict[str, Any] = {"status": event.status}
    if event.total or event.current:
        line["progressDetail"] = {"current": event.current, "total": event.total}
    elif event.id and not event.status.startswith("Pulling from"):
        line["progressDetail"] = {}
    if event.id:
        line["id"] = event.id
    return line


async def create(call: Call) -> web.StreamResponse:
    """POST /images/create?fromImage&tag: pulls, with the progress as JSON lines."""
    name, tag = call.text("fromImage"), call.text("tag")
    if not name:
        raise errors.Unimplemented("importing images is not supported: use load or pull")
    if tag:
        name += ("@" if ":" in tag else ":") + tag
    wanted = reference.parse(name)
    if not tag and not wanted.tag and not wanted.digest:
        raise errors.Unimplemented("pulling all tags of a repository is not supported: name one")
    credentials = registry_auth(call)
    lines = Lines(call)

    async def work() -> None:
        await call.backend.runtime.pull(name, credentials, lambda event: lines.put(_progress(event)))
        telling.image(call.backend, "pull", wanted.familiar, replace(wanted, tag="", digest="").familiar)

    return await lines.run(work)


async def load(call: Call) -> web.StreamResponse:
    """POST /images/load?quiet: takes what `docker save` writes."""
    quiet = call.flag("quiet")
    lines = Lines(call)

    async def work() -> None:
        def report(event: PullEvent) -> None:
            if not quiet:
                lines.put(_progress(event))

        for name in await call.backend.runtime.load(call.pieces(), report):
            what = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
            lines.put({"stream": f"{what}: {name}\n"})
            telling.image(call.backend, "load", name, name)

    return await lines.run(work)


async def tag(call: Call) -> web.StreamResponse:
    """POST /images/{name}/tag?repo&tag."""
    image = await named(call, call.names["name"])
    target = reference.parse(call.text("repo"))
    if target.digest:
        raise errors.InvalidArgument("refusing to create a tag with a digest reference")
    target = replace(target, tag=call.text("tag") or target.tag or "latest")
    await call.backend.runtime.tag_image(image.tags[0] if image.tags else image.id, target.familiar)
    telling.image(call.backend, "tag", image.id, target.familiar)
    return empty(201)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /images/{name}?force."""
    image = await named(call, call.names["name"])
    removed = await call.backend.runtime.remove_image(call.names["name"], call.flag("force"))
    for item in removed:
        if item.untagged or item.deleted == image.id:
            telling.image(call.backend, "untag" if item.untagged else "delete", image.id, image.id)
    return answer([
        {"Untagged": item.untagged} if item.untagged else {"Deleted": item.deleted} for item in removed
    ])  # fmt: skip


ROUTES: Final = routes({
    "GET /images/json": list_images,
    "POST /images/create": create,
    "POST /images/load": load,
    "GET /images/{name:path}/json": inspect,
    "POST /images/{name:path}/tag": tag,
    "DELETE /images/{name:path}": remove,
})  # fmt: skip
