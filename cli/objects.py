"""What `secret` and `config` have in common: they are named pieces of data with labels."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from typing import Any

from cli import clock
from cli.client import filters_of
from cli.command import SOME, Command, Run, Session
from cli.common_flags import FILTERS, INSPECT_FORMAT, LIST_FORMAT, PRETTY, QUIET_IDS
from cli.each import each
from cli.errors import CliError
from cli.flags import Values
from cli.node import natural
from cli.output.inspecting import gather, inspect
from cli.output.listing import write_list
from cli.output.units import since

_HEADERS = {
    "ID": "ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "CreatedAt": "CREATED",
    "UpdatedAt": "UPDATED",
    "Labels": "LABELS",
}


def ls_command(path: str, about: str, table: str, driver: bool) -> Command:
    def run(session: Session, flags: Values, _: list[str]) -> int:
        found = sorted(
            session.client.get(path, filters=filters_of(flags.every("filter"))),
            key=lambda item: natural(item["Spec"].get("Name", "")),
        )
        now = clock.now()
        rows: list[dict[str, str | bool]] = []
        for item in found:
            spec = item["Spec"]
            row: dict[str, str | bool] = {
                "ID": item["ID"],
                "Name": spec.get("Name", ""),
                "CreatedAt": since(item.get("CreatedAt", ""), now),
                "UpdatedAt": since(item.get("UpdatedAt", ""), now),
                "Labels": ",".join(
                    f"{key}={value}" for key, value in sorted((spec.get("Labels") or {}).items())
                ),
            }
            if driver:
                row["Driver"] = (spec.get("Driver") or {}).get("Name", "")
            rows.append(row)
        headers = {key: title for key, title in _HEADERS.items() if driver or key != "Driver"}
        labels = [item["Spec"].get("Labels") or {} for item in found]
        quiet = "ID" if flags.on("quiet") else ""
        write_list(session.out, rows, headers, table, flags.text("format"), quiet, labels)
        return 0

    return Command("[OPTIONS]", about, run, (FILTERS, LIST_FORMAT, QUIET_IDS), aliases=("list",))


def inspect_command(path: str, line: str, about: str, pretty: Callable[[dict[str, Any]], str]) -> Command:
    def run(session: Session, flags: Values, names: list[str]) -> int:
        def fetch(name: str) -> Any:
            return session.client.get(f"{path}/{name}")

        form = flags.text("format")
        if not flags.on("pretty"):
            return inspect(session, names, fetch, form)
        if form:
            raise CliError("--format is incompatible with human friendly format")
        found, problems = gather(names, fetch)
        for item in found:
            session.out.write(pretty(item))
        if problems:
            raise CliError("\n".join(problems))
        return 0

    return Command(line, about, run, (INSPECT_FORMAT, PRETTY), SOME)


def rm_command(path: str, line: str, about: str) -> Command:
    return Command(line, about, _remover(path), (), SOME, aliases=("remove",))


def _remover(path: str) -> Run:
    def run(session: Session, _: Values, names: list[str]) -> int:
        return each(session, names, lambda name: session.client.delete(f"{path}/{name}"))

    return run


def read_data(session: Session, path: str) -> bytes:
    """The content of a file, or of standard input for "-"."""
    if path == "-":
        data = sys.stdin.buffer.read() if session.stdin is sys.stdin and hasattr(sys.stdin, "buffer") else b""
        if not data and not hasattr(session.stdin, "buffer"):
            data = session.stdin.read().encode()
        if not data:
            raise CliError("error reading from STDIN: data is empty")
        return data
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise CliError(f"error reading from {path}: open {path}: no such file or directory") from None
    except OSError as error:
        raise CliError(f"error reading from {path}: {(error.strerror or 'failed').lower()}") from None
    if not data:
        raise CliError(f"error reading from {path}: data is empty")
    return data


def label_lines(labels: dict[str, str]) -> list[str]:
    """Labels as `--pretty` shows them; one without a value is just its key."""
    if not labels:
        return []
    return [
        "Labels:",
        *(f" - {key}={value}" if value else f" - {key}" for key, value in sorted(labels.items())),
    ]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
