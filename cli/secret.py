"""`shoal secret …`."""

from __future__ import annotations

from typing import Any

from cli.command import Arguments, Command, Entry, Group, Session
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.objects import encoded, inspect_command, label_lines, ls_command, read_data, rm_command
from cli.output.units import go_time
from cli.values.basic import LABELS, STRING, as_map

GROUP = Group(
    "Manage Swarm secrets",
    (
        Entry("create", "Create a secret from a file or STDIN as content", "cli.secret:CREATE"),
        Entry("inspect", "Display detailed information on one or more secrets", "cli.secret:INSPECT"),
        Entry("ls", "List secrets", "cli.secret:LS", ("list",)),
        Entry("rm", "Remove one or more secrets", "cli.secret:RM", ("remove",)),
    ),
)


def _create(session: Session, flags: Values, words: list[str]) -> int:
    driver = flags.text("driver")
    if driver and len(words) > 1:
        raise CliError("When using secret driver secret data must be empty")
    if not driver and len(words) < 2:
        raise CliError("either a file or - must be given for the content of the secret")
    spec: dict[str, Any] = {"Name": words[0], "Labels": as_map(flags.every("label"))}
    if len(words) > 1:
        spec["Data"] = encoded(read_data(session, words[1]))
    if driver:
        spec["Driver"] = {"Name": driver}
    if flags.text("template-driver"):
        spec["Templating"] = {"Name": flags.text("template-driver")}
    session.say(session.client.post("/secrets/create", spec)["ID"])
    return 0


def _pretty(secret: dict[str, Any]) -> str:
    spec = secret["Spec"]
    lines = [f"ID:              {secret['ID']}", f"Name:              {spec.get('Name', '')}"]
    lines += label_lines(spec.get("Labels") or {})
    lines += [
        f"Driver:            {(spec.get('Driver') or {}).get('Name', '')}",
        f"Created at:        {go_time(secret.get('CreatedAt', '')).lower()}",
        f"Updated at:        {go_time(secret.get('UpdatedAt', '')).lower()}",
    ]
    return "\n".join(lines) + "\n"


CREATE = Command(
    "[OPTIONS] SECRET [file|-]",
    "Create a secret from a file or STDIN as content",
    _create,
    (
        Flag("driver", STRING, "Secret driver", short="d"),
        Flag("label", LABELS, "Secret labels", short="l"),
        Flag("template-driver", STRING, "Template driver"),
    ),
    Arguments(1, 2),
)
LS = ls_command(
    "/secrets",
    "List secrets",
    "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
    driver=True,
)
INSPECT = inspect_command(
    "/secrets",
    "[OPTIONS] SECRET [SECRET...]",
    "Display detailed information on one or more secrets",
    _pretty,
)
RM = rm_command("/secrets", "SECRET [SECRET...]", "Remove one or more secrets")
