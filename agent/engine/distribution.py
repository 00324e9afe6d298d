"""/distribution: what a registry says of an image, so that the CLI pins its digest. Routes for app.py."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from agent.engine.http import Call, answer, routes
from agent.engine.images import registry_auth
from agent.runtime.image import Platform


async def inspect(call: Call) -> web.StreamResponse:
    """GET /distribution/{name}/json."""
    found = await call.backend.runtime.distribution(call.names["name"], registry_auth(call))
    descriptor = found.descriptor
    return answer({
        "Descriptor": {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        },
        "Platforms": [_platform(platform) for platform in found.platforms],
    })  # fmt: skip


def _platform(platform: Platform) -> dict[str, Any]:
    shown = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        shown["os.version"] = platform.os_version
    if platform.variant:
        shown["variant"] = platform.variant
    return shown


ROUTES: Final = routes({"GET /distribution/{name:path}/json": inspect})
