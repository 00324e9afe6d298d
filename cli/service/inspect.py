"""`shoal service inspect`."""

from __future__ import annotations

from typing import Any

from cli import clock
from cli.command import SOME, Command, Session
from cli.common_flags import INSPECT_FORMAT, PRETTY
from cli.errors import ApiError, CliError
from cli.flags import Values
from cli.output.inspecting import gather, inspect


def _inspect(session: Session, flags: Values, names: list[str]) -> int:
    form = flags.text("format")

    def fetch(name: str) -> Any:
        try:
            return session.client.get(f"/services/{name}", {"insertDefaults": "true"})
        except ApiError as error:
            if error.is_not_found:
                raise CliError(f"Error: no such service: {name}") from None
            raise

    if not flags.on("pretty"):
        return inspect(session, names, fetch, form)
    if form:
        raise CliError("--format is incompatible with human friendly format")
    from cli.service.pretty import pretty

    found, problems = gather(names, fetch)
    for service in found:
        networks = _network_names(session, service)
        session.say(pretty(service, networks, clock.now()))
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _network_names(session: Session, service: dict[str, Any]) -> list[str]:
    spec = service["Spec"]
    networks = (spec.get("TaskTemplate") or {}).get("Networks") or spec.get("Networks") or []
    names = []
    for network in networks:
        target = network["Target"]
        try:
            names.append(str(session.client.get(f"/networks/{target}", {"scope": "swarm"})["Name"]))
        except ApiError:
            names.append(target)
    return names


INSPECT = Command(
    "[OPTIONS] SERVICE [SERVICE...]",
    "Display detailed information on one or more services",
    _inspect,
    (INSPECT_FORMAT, PRETTY),
    SOME,
)
