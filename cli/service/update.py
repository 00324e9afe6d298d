"""`shoal service update`."""

from __future__ import annotations

import os
from typing import Any

from cli.command import ONE, Command, Session
from cli.errors import CliError
from cli.flags import Values
from cli.service.change import fetch_service, write_service
from cli.service.edit import edit_spec, replaced
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
        added = attachments(client, flags.every("network-add"))
        existing = template.get("Networks") or []
        kept = replaced(existing, added, removed, lambda network: network["Target"])
        template["Networks"] = sorted(kept, key=lambda network: str(network["Target"]))
        if not kept:
            del template["Networks"]
    container = template["ContainerSpec"]
    for kind, find in (("secret", secrets), ("config", configs)):
        new = find(client, flags.every(f"{kind}-add"))
        if new:
            key = f"{kind.title()}s"
            container[key] = [*(container.get(key) or []), *new]


UPDATE = Command("[OPTIONS] SERVICE", "Update a service", _update, UPDATE_FLAGS, ONE)
