"""`shoal config …`."""

from __future__ import annotations

import base64
from typing import Any

from cli.command import Arguments, Command, Entry, Group, Session
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.objects import encoded, inspect_command, label_lines, ls_command, read_data, rm_command
from cli.output.units import go_time
from cli.values.basic import LABELS, STRING, as_map

GROUP = Group(
    "Manage Swarm configs",
    (
        Entry("create", "Create a config from a file or STDIN", "cli.config:CREATE"),
        Entry("inspect", "Display detailed information on one or more configs", "cli.config:INSPECT"),
        Entry("ls", "List configs", "cli.config:LS", ("list",)),
        Entry("rm", "Remove one or more configs", "cli.config:RM", ("remove",)),
    ),
)


def _create(session: Session, flags: Values, words: list[str]) -> int:
    name, path = words
    try:
        data = read_data(session, path)
    except CliError as error:
        raise CliError(f'Error reading content from "{path}": {error.message}') from None
    spec: dict[str, Any] = {"Name": name, "Labels": as_map(flags.every("label")), "Data": encoded(data)}
    if flags.text("template-driver"):
        spec["Templating"] = {"Name": flags.text("template-driver")}
    session.say(session.client.post("/configs/create", spec)["ID"])
    return 0


def _pretty(config: dict[str, Any]) -> str:
    spec = config["Spec"]
    lines = [f"ID:\t\t\t{config['ID']}", f"Name:\t\t\t{spec.get('Name', '')}"]
    lines += label_lines(spec.get("Labels") or {})
    data = base64.b64decode(spec.get("Data") or "").decode(errors="replace")
    lines += [
        f"Created at:            \t{go_time(config.get('CreatedAt', '')).lower()}",
        f"Updated at:            \t{go_time(config.get('UpdatedAt', '')).lower()}",
        "Data:",
        data,
    ]
    return "\n".join(lines) + "\n"


CREATE = Command(
    "[OPTIONS] CONFIG file|-",
    "Create a config from a file or STDIN",
    _create,
    (
        Flag("label", LABELS, "Config labels", short="l"),
        Flag("template-driver", STRING, "Template driver"),
    ),
    Arguments(2, 2),
)
LS = ls_command(
    "/configs", "List configs", "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}", driver=False
)
INSPECT = inspect_command(
    "/configs",
    "[OPTIONS] CONFIG [CONFIG...]",
    "Display detailed information on one or more configs",
    _pretty,
)
RM = rm_command("/configs", "CONFIG [CONFIG...]", "Remove one or more configs")
