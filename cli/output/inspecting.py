"""`inspect`: several objects by name, shown as JSON, by a template, or prettily. Used by every `inspect`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cli.command import Session
from cli.errors import CliError
from cli.output import gojson
from cli.output.template_parser import TemplateError
from cli.output.templates import Template

Fetch = Callable[[str], Any]

_LISTS = (
    "Args Command Configs Constraints Env Groups Hosts Mounts Networks Ports Preferences Secrets VirtualIPs"
)
_MAPS = "Labels Options Sysctls"
_NUMBERS = (
    "MaxAttempts MaxReplicas MemoryBytes NanoCPUs Pids PublishedPort Retries Slot StopGracePeriod TargetPort"
)
_SWITCHES = "Leader OpenStdin ReadOnly TTY"
_TEXTS = "Addr Dir Err Gateway Hostname IPRange Isolation Message Mode Name NodeID Source StopSignal User"

# What the fields are that JSON leaves out when they're empty, as a template would find them in Go's structures.
ZEROES: dict[str, Any] = {
    **{name: [] for name in _LISTS.split()},
    **{name: {} for name in _MAPS.split()},
    **dict.fromkeys(_NUMBERS.split(), 0),
    **dict.fromkeys(_SWITCHES.split(), False),
    **dict.fromkeys(_TEXTS.split(), ""),
}


def inspect(session: Session, names: Sequence[str], fetch: Fetch, form: str = "", escape: bool = True) -> int:
    """Show what could be fetched, then complain about the rest: as `docker` does, with exit code 1."""
    template = _template(form)
    found: list[Any] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(fetch(name))
        except CliError as error:
            problems.append(error.message)
    if not form:
        session.say(gojson.indented(found, escape=escape))
    if form == "json":
        session.say(gojson.encode(found, escape=escape))
    for item in found:
        if template is not None:
            try:
                session.say(template.render(item))
            except TemplateError as error:
                raise CliError(f"template parsing error: template: {error}") from None
    if problems:
        raise CliError("\n".join(problems))
    return 0


def gather(names: Sequence[str], fetch: Fetch) -> tuple[list[Any], list[str]]:
    """What could be fetched, and the messages about the rest."""
    found: list[Any] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(fetch(name))
        except CliError as error:
            problems.append(error.message)
    return found, problems


def _template(form: str) -> Template | None:
    if not form or form == "json":
        return None
    try:
        return Template(form, ZEROES)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", 64) from None
