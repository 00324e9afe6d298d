"""`shoal stack …`: what's there of a stack, found by the label that each of its parts carries."""

from __future__ import annotations

from typing import Any

from cli.client import filters_of
from cli.command import ONE, SOME, Command, Entry, Group, Session
from cli.common_flags import (
    FILTERS,
    LIST_FORMAT,
    NO_RESOLVE,
    NO_TRUNC,
    QUIET_IDS,
    QUIET_TASKS,
)
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.node import natural
from cli.output.listing import write_list
from cli.values.basic import BOOL

NAMESPACE = "com.docker.stack.namespace"

GROUP = Group(
    "Manage Swarm stacks",
    (
        Entry("ls", "List stacks", "cli.stack:LS", ("list",)),
        Entry("ps", "List the tasks in the stack", "cli.stack:PS"),
        Entry("rm", "Remove one or more stacks", "cli.stack:RM", ("remove", "down")),
        Entry("services", "List the services in the stack", "cli.stack:SERVICES"),
    ),
)


def _of(stack: str) -> dict[str, dict[str, bool]]:
    return {"label": {f"{NAMESPACE}={stack}": True}}


def _check(name: str) -> None:
    if not name or not name.strip("'\" \t"):
        raise CliError(f'invalid stack name: "{name}"')


def _ls(session: Session, flags: Values, _: list[str]) -> int:
    services = session.client.get("/services", filters={"label": {NAMESPACE: True}})
    counts: dict[str, int] = {}
    for service in services:
        labels = service["Spec"].get("Labels") or {}
        if NAMESPACE not in labels:
            raise CliError(f"cannot get label {NAMESPACE} for service {service['ID']}")
        counts[labels[NAMESPACE]] = counts.get(labels[NAMESPACE], 0) + 1
    rows: list[dict[str, str | bool]] = [
        {"Name": name, "Services": str(counts[name])} for name in sorted(counts, key=natural)
    ]
    headers = {"Name": "NAME", "Services": "SERVICES"}
    write_list(session.out, rows, headers, "{{.Name}}\t{{.Services}}", flags.text("format"))
    return 0


def _filters(stack: str, flags: Values) -> dict[str, dict[str, bool]]:
    wanted = filters_of(flags.every("filter"))
    wanted.setdefault("label", {})[f"{NAMESPACE}={stack}"] = True
    return wanted


def _ps(session: Session, flags: Values, names: list[str]) -> int:
    _check(names[0])
    tasks = session.client.get("/tasks", filters=_filters(names[0], flags))
    if not tasks:
        raise CliError(f"nothing found in stack: {names[0]}")
    from cli.tasks import show_tasks

    show_tasks(session, tasks, flags)
    return 0


def _services(session: Session, flags: Values, names: list[str]) -> int:
    _check(names[0])
    query = {} if flags.on("quiet") else {"status": "true"}
    services = session.client.get("/services", query, _filters(names[0], flags))
    if not services:
        session.warn(f"Nothing found in stack: {names[0]}")
        return 0
    from cli.service.listing import show_services

    show_services(session, services, flags)
    return 0


def _rm(session: Session, flags: Values, names: list[str]) -> int:
    problems: list[str] = []
    for name in names:
        _check(name)
        problems += _remove(session, name, wait=flags.changed("detach") and not flags.on("detach"))
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _remove(session: Session, stack: str, wait: bool) -> list[str]:
    client = session.client
    parts: dict[str, list[dict[str, Any]]] = {
        kind: client.get(f"/{kind}s", filters=_of(stack))
        for kind in ("service", "network", "secret", "config")
    }
    if not any(parts.values()):
        session.warn(f"Nothing found in stack: {stack}")
        return []
    failed = False
    for kind in ("service", "secret", "config", "network"):
        found = parts[kind] if kind == "network" else sorted(parts[kind], key=_name)
        for part in found:
            session.say(f"Removing {kind} {_name(part)}")
            try:
                client.delete(f"/{kind}s/{part.get('ID') or part['Id']}")
            except CliError as error:
                session.warn(f"Failed to remove {kind} {part.get('ID') or part['Id']}: {error.message}")
                failed = True
    if failed:
        return [f"Failed to remove some resources from stack: {stack}"]
    if wait:
        _wait_for_tasks(session, stack)
    return []


def _name(part: dict[str, Any]) -> str:
    return str(part["Spec"]["Name"] if "Spec" in part else part["Name"])


def _wait_for_tasks(session: Session, stack: str) -> None:
    """Until no task of the stack is left that may still run."""
    from cli import clock

    ended = {"complete", "shutdown", "failed", "rejected", "remove", "orphaned"}
    while True:
        tasks = session.client.get("/tasks", filters=_of(stack))
        if all((task.get("Status") or {}).get("State") in ended for task in tasks):
            return
        clock.pause(0.5)


LS = Command("[OPTIONS]", "List stacks", _ls, (LIST_FORMAT,), aliases=("list",))
PS = Command(
    "[OPTIONS] STACK",
    "List the tasks in the stack",
    _ps,
    (FILTERS, LIST_FORMAT, NO_RESOLVE, NO_TRUNC, QUIET_TASKS),
    ONE,
)
SERVICES = Command(
    "[OPTIONS] STACK", "List the services in the stack", _services, (FILTERS, LIST_FORMAT, QUIET_IDS), ONE
)
RM = Command(
    "[OPTIONS] STACK [STACK...]",
    "Remove one or more stacks",
    _rm,
    (Flag("detach", BOOL, "Do not wait for stack removal", short="d", default=True, shown="true"),),
    SOME,
    aliases=("remove", "down"),
)
