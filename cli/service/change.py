"""`shoal service scale`, `rollback` and `rm`."""

from __future__ import annotations

from typing import Any

from cli.command import ONE, PROGRAM, SOME, Command, Session
from cli.common_flags import DETACH, QUIET_PROGRESS
from cli.each import each
from cli.errors import CliError
from cli.flags import Values
from cli.values.basic import unsigned


def fetch_service(session: Session, name: str) -> dict[str, Any]:
    found: dict[str, Any] = session.client.get(f"/services/{name}", {"insertDefaults": "false"})
    return found


def write_service(
    session: Session, service: dict[str, Any], query: dict[str, str], headers: dict[str, str] | None = None
) -> list[str]:
    """Send a changed spec; the daemon's warnings."""
    query["version"] = str(service["Version"]["Index"])
    answer = session.client.post(f"/services/{service['ID']}/update", service["Spec"], query, headers)
    return list((answer or {}).get("Warnings") or [])


def _scale(session: Session, flags: Values, words: list[str]) -> int:
    wanted: list[tuple[str, str]] = []
    for word in words:
        name, equals, count = word.partition("=")
        if not equals:
            raise CliError(
                f"invalid scale specifier '{word}'.\nSee '{PROGRAM} service scale --help'.\n\n"
                f"Usage:  {PROGRAM} service scale {SCALE.line}\n\n{SCALE.about}"
            )
        wanted.append((name, count))
    problems: list[str] = []
    scaled: list[str] = []
    for name, count in wanted:
        try:
            replicas = unsigned(count)
        except ValueError as error:
            problems.append(f"{name}: invalid replicas value {count}: {error}")
            continue
        try:
            _scale_one(session, name, replicas)
            scaled.append(name)
        except CliError as error:
            problems.append(f"{name}: {error.message}")
    if not flags.on("detach"):
        from cli.service.watch import watch_service

        for name in scaled:
            try:
                watch_service(session, name, quiet=False)
            except CliError as error:
                problems.append(f"{name}: {error.message}")
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _scale_one(session: Session, name: str, replicas: int) -> None:
    service = fetch_service(session, name)
    mode = service["Spec"].get("Mode") or {}
    if mode.get("Replicated") is not None:
        mode["Replicated"]["Replicas"] = replicas
    elif mode.get("ReplicatedJob") is not None:
        mode["ReplicatedJob"]["TotalCompletions"] = replicas
    else:
        raise CliError("scale can only be used with replicated or replicated-job mode")
    for warning in write_service(session, service, {}):
        session.warn(warning)
    session.say(f"{name} scaled to {replicas}")


def _rollback(session: Session, flags: Values, names: list[str]) -> int:
    service = fetch_service(session, names[0])
    for warning in write_service(session, service, {"rollback": "previous"}):
        session.warn(warning)
    session.say(names[0])
    if flags.on("detach"):
        return 0
    from cli.service.watch import watch_service

    return watch_service(session, names[0], flags.on("quiet"))


def _rm(session: Session, _: Values, names: list[str]) -> int:
    return each(session, names, lambda name: session.client.delete(f"/services/{name}"))


SCALE = Command(
    "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
    "Scale one or multiple replicated services",
    _scale,
    (DETACH,),
    SOME,
)
ROLLBACK = Command(
    "[OPTIONS] SERVICE",
    "Revert changes to a service's configuration",
    _rollback,
    (DETACH, QUIET_PROGRESS),
    ONE,
)
RM = Command("SERVICE [SERVICE...]", "Remove one or more services", _rm, (), SOME, aliases=("remove",))
