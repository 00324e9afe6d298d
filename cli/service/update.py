"""`shoal service update`."""

from __future__ import annotations

import os
from typing import Any

from cli.command import ONE, Command, Session
from cli.errors import CliError
from cli.flags import Values
from cli.service.change import fetch_service, write_service
from cli.service.edit import edit_spec
from cli.service.flags import UPDATE_FLAGS
from cli.service.resolve import attachments, configs, network_id, pin_image, secrets

_WITH_ROLLBACK = ("rollback", "detach", "quiet")


def _update(session: Session, flags: Values, names: list[str]) -> int:
    service = fetch_service(session, names[0])
    spec = service["Spec"]
    query = {"registryAuthFrom": "spec"}
    warning = ""
    headers: dict[str, str] = {}
    if flags.on("rollback"):
        if flags.changed(*(flag.name for flag in UPDATE_FLAGS if flag.name not in _WITH_ROLLBACK)):
            raise CliError("other flags may not be combined with --rollback")
        query["rollback"] = "previous"
    else:
        edit_spec(spec, flags)
        _attach(session, spec["TaskTemplate"], flags)
        auth = ""
        if flags.on("with-registry-auth"):
            from cli.registry_auth import encoded_auth

            auth = encoded_auth(spec["TaskTemplate"]["ContainerSpec"]["Image"], os.environ)
            headers["X-Registry-Auth"] = auth
            query.pop("registryAuthFrom")
        ask = flags.changed("image") and not flags.on("no-resolve-image")
        warning = pin_image(session.client, spec["TaskTemplate"], ask, auth)
    for text in [*write_service(session, service, query, headers), *([warning] if warning else [])]:
        session.warn(text)
    session.say(names[0])
    if flags.on("detach"):
        return 0
    from cli.service.watch import watch_service

    return watch_service(session, names[0], flags.on("quiet"))


def _attach(session: Session, template: dict[str, Any], flags: Values) -> None:
    """Networks, secrets and configs: what's given by name is looked up."""
    client = session.client
    if flags.changed("network-add", "network-rm"):
        removed = [network_id(client, name) for name in flags.every("network-rm")]
        added = [
            (request.name, found)
            for request in flags.every("network-add")
            for found in attachments(client, [request])
        ]
        template["Networks"] = _attached(template.get("Networks") or [], added, removed)
        if not template["Networks"]:
            del template["Networks"]
    container = template["ContainerSpec"]
    for kind, find in (("secret", secrets), ("config", configs)):
        new = find(client, flags.every(f"{kind}-add"))
        if new:
            key = f"{kind.title()}s"
            container[key] = [*(container.get(key) or []), *new]


def _attached(
    existing: list[dict[str, Any]], added: list[tuple[str, dict[str, Any]]], removed: list[str]
) -> list[dict[str, Any]]:
    """The networks that stay and those that come, none twice; `added` are names and attachments."""
    kept = {str(network["Target"]): network for network in existing if network["Target"] not in removed}
    for name, network in added:
        if network["Target"] in kept:
            raise CliError(f"service is already attached to network {name}")
        kept[network["Target"]] = network
    return [kept[target] for target in sorted(kept)]


UPDATE = Command("[OPTIONS] SERVICE", "Update a service", _update, UPDATE_FLAGS, ONE)
