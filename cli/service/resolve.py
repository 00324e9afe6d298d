"""What must be asked of the daemon for a service spec: ids of networks, secrets and configs, and image digests.

Called by `cli.service.create` and `cli.service.update`.
"""

from __future__ import annotations

from typing import Any

from cli.client import Client
from cli.errors import ApiError, CliError
from cli.values.attachments import FileRequest, NetworkRequest
from cli.values.images import pinned, with_default_tag

_UNKNOWN_DIGEST = (
    "image {0} could not be accessed on a registry to record\n"
    "its digest. Each node will access {0} independently,\n"
    "possibly leading to different nodes running different\n"
    "versions of the image.\n"
)


def network_id(client: Client, name: str) -> str:
    if not name.strip():
        raise CliError("invalid network name or ID: value is empty")
    return str(client.get(f"/networks/{name}", {"scope": "swarm"})["Id"])


def attachments(client: Client, requests: list[NetworkRequest]) -> list[dict[str, Any]]:
    found = [request.attachment(network_id(client, request.name)) for request in requests]
    return sorted(found, key=lambda attachment: attachment["Target"])


def secrets(client: Client, requests: list[FileRequest]) -> list[dict[str, Any]]:
    return _files(client, requests, "secret")


def configs(client: Client, requests: list[FileRequest]) -> list[dict[str, Any]]:
    return _files(client, requests, "config")


def _files(client: Client, requests: list[FileRequest], kind: str) -> list[dict[str, Any]]:
    if not requests:
        return []
    targets: set[str] = set()
    for request in requests:
        if request.target in targets:
            raise CliError(f"duplicate {kind} target for {request.source} not allowed")
        targets.add(request.target)
    named = {"name": {request.source: True for request in requests}}
    known = {found["Spec"]["Name"]: found["ID"] for found in client.get(f"/{kind}s", filters=named)}
    title = kind.title()
    references = []
    for request in requests:
        if request.source not in known:
            raise CliError(f"{kind} not found: {request.source}")
        references.append(
            {"File": request.file, f"{title}ID": known[request.source], f"{title}Name": request.source}
        )
    return references


def pin_image(client: Client, template: dict[str, Any], query: bool, auth: str) -> str:
    """Give the image its tag and, if the registry tells, its digest and platforms; a warning if it doesn't."""
    container = template["ContainerSpec"]
    image = container["Image"] = with_default_tag(container["Image"])
    if not query or not client.at_least("1.30"):
        return ""
    headers = {"X-Registry-Auth": auth} if auth else {}
    try:
        found = client.get_with(f"/distribution/{image}/json", headers)
        container["Image"] = pinned(image, found["Descriptor"]["digest"])
    except (ApiError, ValueError, KeyError):
        return _UNKNOWN_DIGEST.format(image)
    platforms = [_platform(platform) for platform in found.get("Platforms") or []]
    if platforms:
        template.setdefault("Placement", {})["Platforms"] = platforms
    return ""


def _platform(platform: dict[str, str]) -> dict[str, str]:
    architecture = platform.get("architecture", "")
    found = {} if not architecture or architecture.lower() == "arm" else {"Architecture": architecture}
    return {**found, **({"OS": platform["os"]} if platform.get("os") else {})}
