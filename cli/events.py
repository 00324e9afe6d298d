"""`shoal events`: what happens on the node, as it happens."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from cli import clock
from cli.client import filters_of
from cli.command import NONE, Command, Session
from cli.common_flags import FILTERS, INSPECT_FORMAT
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.log_stream import timestamp
from cli.output.template_parser import TemplateError
from cli.output.templates import Template
from cli.output.units import SECOND
from cli.values.basic import STRING


def _events(session: Session, flags: Values, _: list[str]) -> int:
    query = {
        name: timestamp(flags.text(name), clock.now()) for name in ("since", "until") if flags.text(name)
    }
    form = flags.text("format")
    template = None if form in ("", "json") else _template(form)
    wanted = filters_of(flags.every("filter"))
    if wanted:
        query["filters"] = json.dumps(wanted)
    for event in session.client.messages("GET", "/events", query):
        if template is not None:
            session.say(_rendered(template, event))
        else:
            session.say(json.dumps(event, separators=(",", ":")) if form == "json" else line(event))
        session.out.flush()
    return 0


def _template(form: str) -> Template:
    try:
        return Template(form)
    except TemplateError as error:
        raise CliError(f"Error parsing format: {error}", 64) from None


def _rendered(template: Template, event: dict[str, Any]) -> str:
    old = {"Status": event.get("status", ""), "ID": event.get("id", ""), "From": event.get("from", "")}
    times = {"Time": event["time"], "TimeNano": event["timeNano"], "Scope": event.get("scope", "")}
    try:
        return template.render({**event, **old, **times})
    except TemplateError as error:
        raise CliError(f"template: {error}") from None


def line(event: dict[str, Any]) -> str:
    """One event as people read it."""
    at = int(event["timeNano"])
    second = datetime.fromtimestamp(at // SECOND).astimezone()
    zone = second.strftime("%z")
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    when = f"{second:%Y-%m-%dT%H:%M:%S}.{at % SECOND:09d}{zone}"
    actor = event["Actor"]
    told = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    shown = f"{when} {event['Type']} {event['Action']} {actor['ID']}"
    return f"{shown} ({told})" if told else shown


EVENTS = Command(
    "[OPTIONS]",
    "Get real time events from the server",
    _events,
    (
        FILTERS,
        Flag("format", STRING, INSPECT_FORMAT.usage),
        Flag("since", STRING, "Show all events created since timestamp"),
        Flag("until", STRING, "Stream events until this timestamp"),
    ),
    NONE,
)
