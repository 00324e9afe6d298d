"""The table of tasks that `service ps`, `node ps` and `stack ps` show: newest first in each slot, history indented."""

from __future__ import annotations

from typing import Any

from cli import clock
from cli.command import Session
from cli.flags import Values
from cli.names import Names
from cli.node import natural
from cli.output.listing import write_list
from cli.output.units import parse_time, since
from cli.values.images import familiar

_HEADERS = {
    "ID": "ID",
    "Name": "NAME",
    "Image": "IMAGE",
    "Node": "NODE",
    "DesiredState": "DESIRED STATE",
    "CurrentState": "CURRENT STATE",
    "Error": "ERROR",
    "Ports": "PORTS",
}
_TABLE = (
    "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}"
)
_LONGEST_ERROR = 30


def show_tasks(session: Session, tasks: list[dict[str, Any]], flags: Values, bare_ids: bool = False) -> None:
    """Print the table. `bare_ids`: -q prints whole ids whatever --no-trunc says."""
    names = Names(session.client, not flags.on("no-resolve"))
    whole = flags.on("no-trunc")
    form = flags.text("format")
    indented = not form or form.startswith("table")
    now = clock.now()
    quiet = flags.on("quiet")
    rows = []
    previous = ""
    titled = [(_title(task, names), task) for task in tasks]
    for title, task in _sorted(titled):
        shown = title
        if indented and title == previous and previous:
            shown = f" \\_ {title}"
        previous = title
        rows.append(_row(task, shown, names, whole or bare_ids, quiet, now, whole))
    write_list(session.out, rows, _HEADERS, _TABLE, form, "ID" if quiet else "")


def _title(task: dict[str, Any], names: Names) -> str:
    service = names.service(task.get("ServiceID", ""))
    if task.get("Slot"):
        return f"{service}.{task['Slot']}"
    if task.get("NodeID"):
        return f"{service}.{task['NodeID']}"
    return service


def _sorted(titled: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    newest_first = sorted(titled, key=lambda pair: -parse_time(pair[1].get("CreatedAt", "")))
    return sorted(newest_first, key=lambda pair: natural(pair[0]))


def _row(
    task: dict[str, Any], title: str, names: Names, whole_id: bool, quiet: bool, now: int, whole: bool
) -> dict[str, str | bool]:
    status = task.get("Status") or {}
    image = ((task.get("Spec") or {}).get("ContainerSpec") or {}).get("Image", "")
    state = str(status.get("State", "")).title()
    return {
        "ID": task["ID"] if whole_id else task["ID"][:12],
        "Name": title,
        "Image": image if whole else familiar(image),
        "Node": "" if quiet else names.node(task.get("NodeID", "")),
        "DesiredState": str(task.get("DesiredState", "")).title(),
        "CurrentState": f"{state} {since(status.get('Timestamp', ''), now).lower()}",
        "Error": _error(str(status.get("Err") or ""), whole),
        "Ports": _ports(status),
    }


def _error(text: str, whole: bool) -> str:
    if not text:
        return ""
    if not whole and len(text) > _LONGEST_ERROR:
        text = text[: _LONGEST_ERROR - 1] + "…"
    return f'"{text}"'


def _ports(status: dict[str, Any]) -> str:
    ports = (status.get("PortStatus") or {}).get("Ports") or []
    return ",".join(
        f"*:{port['PublishedPort']}->{port['TargetPort']}/{port.get('Protocol', 'tcp')}"
        for port in ports
        if port.get("PublishedPort")
    )
