"""`shoal port`, `rename`, `pause`, `unpause` and `top`."""

from __future__ import annotations

from typing import Any

from cli.command import SOME, Arguments, Command, Session
from cli.each import each
from cli.errors import ApiError, CliError
from cli.flags import Values
from cli.output.tables import table


def _port(session: Session, _: Values, words: list[str]) -> int:
    shown = session.client.get(f"/containers/{words[0]}/json")
    ports: dict[str, Any] = shown["NetworkSettings"]["Ports"] or {}
    if len(words) == 1:
        lines = [
            f"{inside} -> {binding}" for inside, found in ports.items() for binding in bindings(found or [])
        ]
        if lines:
            session.say("\n".join(sorted(lines, key=_order)))
        return 0
    wanted = words[1] if "/" in words[1] else f"{words[1]}/tcp"
    found = bindings(ports.get(wanted) or [])
    if not found:
        raise CliError(f"Error: No public port '{words[1]}' published for {words[0]}")
    session.say("\n".join(sorted(found)))
    return 0


def bindings(found: list[dict[str, str]]) -> list[str]:
    """As ADDRESS:PORT."""
    shown = []
    for binding in found:
        address = binding.get("HostIp") or "0.0.0.0"
        address = f"[{address}]" if ":" in address else address
        shown.append(f"{address}:{binding.get('HostPort', '')}")
    return shown


def _order(line: str) -> tuple[int, str]:
    number = line.partition("/")[0]
    return (int(number) if number.isdecimal() else 0), line


def _rename(session: Session, _: Values, words: list[str]) -> int:
    old, new = (word.strip() for word in words)
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        session.client.post(f"/containers/{old}/rename", query={"name": new})
    except ApiError as error:
        raise CliError(f"{error.message}\nError: failed to rename container named {old}") from None
    return 0


def _pause(session: Session, _: Values, names: list[str]) -> int:
    return each(session, names, lambda name: session.client.post(f"/containers/{name}/pause"))


def _unpause(session: Session, _: Values, names: list[str]) -> int:
    return each(session, names, lambda name: session.client.post(f"/containers/{name}/unpause"))


def _top(session: Session, _: Values, words: list[str]) -> int:
    query = {"ps_args": " ".join(words[1:])} if len(words) > 1 else {}
    found = session.client.get(f"/containers/{words[0]}/top", query)
    session.out.write(table([found["Titles"], *(found["Processes"] or [])]))
    return 0


PORT = Command(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    _port,
    (),
    Arguments(1, 2),
)
RENAME = Command("CONTAINER NEW_NAME", "Rename a container", _rename, (), Arguments(2, 2))
PAUSE = Command(
    "CONTAINER [CONTAINER...]", "Pause all processes within one or more containers", _pause, (), SOME
)
UNPAUSE = Command(
    "CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers", _unpause, (), SOME
)
TOP = Command(
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    _top,
    (),
    SOME,
    interspersed=False,
)
