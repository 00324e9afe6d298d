"""`shoal version` and `shoal info`."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from cli.client import NEWEST
from cli.command import PROGRAM, Command, Session
from cli.common_flags import INSPECT_FORMAT
from cli.errors import CliError
from cli.flags import Values
from cli.output.template_parser import TemplateError
from cli.output.templates import Template
from cli.system_text import info_text, version_text


def client_version() -> str:
    try:
        return metadata.version("shoal")
    except metadata.PackageNotFoundError:
        return "unknown"


def one_line_version() -> str:
    return f"{PROGRAM.title()} version {client_version()}\n"


def _client() -> dict[str, Any]:
    machine = platform.machine()
    return {
        "Version": client_version(),
        "ApiVersion": NEWEST,
        "DefaultAPIVersion": NEWEST,
        "PythonVersion": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "Context": "default",
    }


def _render(session: Session, form: str, value: dict[str, Any]) -> None:
    if form == "json":
        form = "{{json .}}"
    try:
        session.say(Template(form).render(value))
    except TemplateError as error:
        raise CliError(f"template parsing error: template: {error}", 64) from None


def _version(session: Session, flags: Values, _: list[str]) -> int:
    client = _client()
    server: dict[str, Any] | None = None
    problem = ""
    try:
        client["ApiVersion"] = session.client.version
        server = session.client.get("/version")
    except CliError as error:
        problem = error.message
    if flags.text("format"):
        _render(session, flags.text("format"), {"Client": client, "Server": server})
    else:
        session.out.write(version_text(client, server))
    if problem:
        raise CliError(problem)
    return 0


def _info(session: Session, flags: Values, _: list[str]) -> int:
    client = {"Version": client_version(), "Context": "default", "Debug": False}
    info: dict[str, Any] | None = None
    problem = ""
    try:
        info = session.client.get("/info")
    except CliError as error:
        problem = error.message
    if flags.text("format"):
        _render(session, flags.text("format"), {**(info or {}), "ClientInfo": client})
    else:
        session.out.write(info_text(client, info, problem))
        for warning in (info or {}).get("Warnings") or []:
            session.warn(warning)
    if problem:
        raise CliError("" if not flags.text("format") else problem)
    return 0


VERSION = Command("[OPTIONS]", "Show the version information", _version, (INSPECT_FORMAT,))
INFO = Command("[OPTIONS]", "Display system-wide information", _info, (INSPECT_FORMAT,))
