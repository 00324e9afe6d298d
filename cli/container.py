"""`shoal container …`, and `shoal ps`: the containers of this node."""

from __future__ import annotations

import json
from typing import Any

from cli import clock
from cli.client import filters_of
from cli.command import Command, Entry, Group, Session
from cli.common_flags import FILTERS, LIST_FORMAT, NO_TRUNC
from cli.flags import Flag, Values
from cli.output.listing import write_list
from cli.output.units import SECOND, ago, decimal_size, moment
from cli.values.basic import BOOL, INT
from cli.values.images import familiar

_ACTIONS = "cli.container_actions"
GROUP = Group(
    "Manage containers",
    (
        Entry(
            "attach",
            "Attach local standard input, output, and error streams to a running container",
            "cli.container_exec:ATTACH",
        ),
        Entry("create", "Create a new container", "cli.container_run:CREATE_COMMAND"),
        Entry("exec", "Execute a command in a running container", "cli.container_exec:EXEC"),
        Entry("inspect", "Display detailed information on one or more containers", f"{_ACTIONS}:INSPECT"),
        Entry("kill", "Kill one or more running containers", f"{_ACTIONS}:KILL"),
        Entry("logs", "Fetch the logs of a container", f"{_ACTIONS}:LOGS"),
        Entry("ls", "List containers", "cli.container:LS", ("list", "ps")),
        Entry("pause", "Pause all processes within one or more containers", "cli.container_more:PAUSE"),
        Entry(
            "port", "List port mappings or a specific mapping for the container", "cli.container_more:PORT"
        ),
        Entry("prune", "Remove all stopped containers", f"{_ACTIONS}:PRUNE"),
        Entry("rename", "Rename a container", "cli.container_more:RENAME"),
        Entry("restart", "Restart one or more containers", f"{_ACTIONS}:RESTART"),
        Entry("rm", "Remove one or more containers", f"{_ACTIONS}:RM", ("remove",)),
        Entry("run", "Create and run a new container from an image", "cli.container_run:RUN_COMMAND"),
        Entry("start", "Start one or more stopped containers", "cli.container_run:START"),
        Entry("stop", "Stop one or more running containers", f"{_ACTIONS}:STOP"),
        Entry("top", "Display the running processes of a container", "cli.container_more:TOP"),
        Entry("unpause", "Unpause all processes within one or more containers", "cli.container_more:UNPAUSE"),
        Entry(
            "wait", "Block until one or more containers stop, then print their exit codes", f"{_ACTIONS}:WAIT"
        ),
    ),
)
_HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "State": "STATE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}
_TABLE = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
_LONGEST_COMMAND = 20


def _ls(session: Session, flags: Values, _: list[str]) -> int:
    query: dict[str, str] = {}
    if flags.on("all"):
        query["all"] = "1"
    last = 1 if flags.on("latest") else flags["last"]
    if last is not None and last >= 0:
        query["limit"] = str(last)
    sized = flags.on("size")
    if sized or ".Size" in flags.text("format"):
        query["size"] = "1"
    filters = filters_of(flags.every("filter"))
    containers = session.client.get("/containers/json", query, filters)
    now = clock.now()
    rows = [_row(container, flags.on("no-trunc"), now) for container in containers]
    labels = [container.get("Labels") or {} for container in containers]
    quiet = "ID" if flags.on("quiet") else ""
    table = _TABLE + "\t{{.Size}}" if sized else _TABLE
    write_list(session.out, rows, _HEADERS, table, flags.text("format"), quiet, labels)
    return 0


def _row(container: dict[str, Any], whole: bool, now: int) -> dict[str, str | bool]:
    command = str(container.get("Command", ""))
    if not whole and len(command) > _LONGEST_COMMAND:
        command = command[: _LONGEST_COMMAND - 1] + "…"
    image = str(container.get("Image") or "<no image>")
    networks = ((container.get("NetworkSettings") or {}).get("Networks") or {}).keys()
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in container.get("Mounts") or []]
    created = int(container.get("Created", 0)) * SECOND
    return {
        "ID": container["Id"] if whole else container["Id"][:12],
        "Image": familiar(image) if "@" in image and not whole else image,
        "Command": json.dumps(command, ensure_ascii=False),
        "RunningFor": f"{ago(now - created)} ago",
        "Status": container.get("Status", ""),
        "Ports": ports(container.get("Ports") or []),
        "Names": _names(container.get("Names") or [], whole),
        "State": container.get("State", ""),
        "Labels": ",".join(
            f"{key}={value}" for key, value in sorted((container.get("Labels") or {}).items())
        ),
        "Mounts": ",".join(mounts),
        "Networks": ",".join(sorted(networks)),
        "LocalVolumes": str(
            sum(1 for mount in container.get("Mounts") or [] if mount.get("Driver") == "local")
        ),
        "CreatedAt": moment(created),
        "Size": _size(container),
    }


def _size(container: dict[str, Any]) -> str:
    """What it has written, and with its image."""
    whole = int(container.get("SizeRootFs", 0))
    own = decimal_size(int(container.get("SizeRw", 0)))
    return f"{own} (virtual {decimal_size(whole)})" if whole > 0 else own


def _names(names: list[str], whole: bool) -> str:
    """Its own, and where all is to be seen those that links give."""
    shown = [name.removeprefix("/") for name in names]
    return ",".join(shown if whole else [name for name in shown if "/" not in name] or shown)


def ports(found: list[dict[str, Any]]) -> str:
    shown = []
    for port in sorted(found, key=lambda port: (port.get("PrivatePort", 0), port.get("PublicPort", 0))):
        inside = f"{port.get('PrivatePort', 0)}/{port.get('Type', 'tcp')}"
        if port.get("PublicPort"):
            address = port.get("IP") or "0.0.0.0"
            address = f"[{address}]" if ":" in address else address
            shown.append(f"{address}:{port['PublicPort']}->{inside}")
        else:
            shown.append(inside)
    return ", ".join(shown)


LS = Command(
    "[OPTIONS]",
    "List containers",
    _ls,
    (
        Flag("all", BOOL, "Show all containers (default shows just running)", short="a"),
        FILTERS,
        LIST_FORMAT,
        Flag(
            "last",
            INT,
            "Show n last created containers (includes all states)",
            short="n",
            default=-1,
            shown="-1",
        ),
        Flag("latest", BOOL, "Show the latest created container (includes all states)", short="l"),
        NO_TRUNC,
        Flag("quiet", BOOL, "Only display container IDs", short="q"),
        Flag("size", BOOL, "Display total file sizes", short="s"),
    ),
    aliases=("list", "ps"),
)
