"""`shoal service create`."""

from __future__ import annotations

import os

from cli.command import SOME, Command, Session
from cli.flags import Values
from cli.service.flags import CREATE_FLAGS
from cli.service.resolve import attachments, configs, pin_image, secrets
from cli.service.spec import service_spec


def _create(session: Session, flags: Values, words: list[str]) -> int:
    client = session.client
    image, arguments = words[0], words[1:]
    spec = service_spec(flags, image, arguments, os.environ)
    template = spec["TaskTemplate"]
    networks = attachments(client, flags.every("network"))
    if networks:
        template["Networks"] = networks
    container = template["ContainerSpec"]
    for key, found in (
        ("Secrets", secrets(client, flags.every("secret"))),
        ("Configs", configs(client, flags.every("config"))),
    ):
        if found:
            container[key] = found
    auth = _auth(flags, image)
    warning = pin_image(client, template, not flags.on("no-resolve-image"), auth)
    answer = client.post("/services/create", spec, headers={"X-Registry-Auth": auth} if auth else {})
    for text in [*(answer.get("Warnings") or []), *([warning] if warning else [])]:
        session.warn(text)
    session.say(answer["ID"])
    if flags.on("detach"):
        return 0
    from cli.service.watch import watch_service

    return watch_service(session, answer["ID"], flags.on("quiet"))


def _auth(flags: Values, image: str) -> str:
    if not flags.on("with-registry-auth"):
        return ""
    from cli.registry_auth import encoded_auth

    return encoded_auth(image, os.environ)


CREATE = Command(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new service",
    _create,
    CREATE_FLAGS,
    SOME,
    interspersed=False,
)
