"""/images: this node's images. Routes for app.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from agent.engine import filters, telling
from agent.engine.http import Call, Lines, answer, empty, routes
from agent.engine.services import AUTH_HEADER
from agent.runtime import reference
from agent.runtime.image import HealthCheck, ImageConfig, ImageInfo, PullEvent, RegistryAuth
from agent.worker import auth
from common import apijson, errors

_FILTERS: Final = ("before", "dangling", "label", "reference", "since", "until")
_VIRTUAL_SIZE_UNTIL: Final = (1, 44)


def registry_auth(call: Call) -> RegistryAuth | None:
    """The credentials of X-Registry-Auth."""
    return auth.registry_auth(call.request.headers.get(AUTH_HEADER, ""))


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
    images = [image for image in await call.backend.runtime.images() if _meets(image, wanted)]
    images.sort(key=lambda image: (-created_ns(image), image.id))
    old = call.version < _VIRTUAL_SIZE_UNTIL
    return answer([_summary(image, old) for image in images])


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


def _summary(image: ImageInfo, with_virtual_size: bool) -> dict[str, Any]:
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
    return {**shown, "VirtualSize": image.size} if with_virtual_size else shown


async def _found(call: Call) -> ImageInfo:
    name = call.names["name"]
    image = await call.backend.runtime.image(name)
    if image is None:
        tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        raise errors.NotFound(f"no such image: {name}: No such image: {tagged}")
    return image


async def inspect(call: Call) -> web.StreamResponse:
    """GET /images/{name}/json."""
    image = await _found(call)
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
        "Config": config(image),
        "Architecture": image.platform.architecture,
        **({"Variant": image.platform.variant} if image.platform.variant else {}),
        "Os": image.platform.os,
        "Size": image.size,
        **({"VirtualSize": image.size} if call.version < _VIRTUAL_SIZE_UNTIL else {}),
        "GraphDriver": {"Data": None, "Name": "overlayfs"},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": apijson.ZERO_TIME},
        "Descriptor": {
            "mediaType": image.target.media_type,
            "digest": image.target.digest,
            "size": image.target.size,
        },
    }
    return answer(shown)


def _built_by() -> dict[str, Any]:
    """Of the container that an image was made from, which no pulled image tells of; docker-compose 1 reads it, whatever
    version of the API it speaks."""
    return _config(ImageConfig())


def config(image: ImageInfo) -> dict[str, Any]:
    """The image's configuration as container and image inspection show it."""
    return _config(image.config)


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
    image = await _found(call)
    target = reference.parse(call.text("repo"))
    if target.digest:
        raise errors.InvalidArgument("refusing to create a tag with a digest reference")
    target = replace(target, tag=call.text("tag") or target.tag or "latest")
    await call.backend.runtime.tag_image(image.tags[0] if image.tags else image.id, target.familiar)
    telling.image(call.backend, "tag", image.id, target.familiar)
    return empty(201)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /images/{name}?force."""
    image = await _found(call)
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
