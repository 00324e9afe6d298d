"""`shoal service logs`: lines of all tasks, each with the name of its task and node."""

from __future__ import annotations

from typing import Any, TextIO

from cli import clock
from cli.client import Client
from cli.command import ONE, Command, Session
from cli.common_flags import NO_TRUNC
from cli.errors import ApiError, CliError
from cli.flags import Flag, Values
from cli.log_stream import DETAILS, FOLLOW, SINCE, TAIL, TIMESTAMPS, copy, timestamp
from cli.names import Names
from cli.output.frames import STDERR, frames
from cli.values.basic import BOOL

_NODE = "com.docker.swarm.node.id"
_SERVICE = "com.docker.swarm.service.id"
_TASK = "com.docker.swarm.task.id"


def _logs(session: Session, flags: Values, names: list[str]) -> int:
    path, terminal, width = _source(session, names[0])
    raw = flags.on("raw")
    if terminal and not raw:
        raise CliError("tty service logs only supported with --raw")
    response = session.client.stream("GET", path, _query(flags))
    if raw:
        copy(session, response, terminal)
        return 0
    with session.client.again() as client:  # the first connection is busy with the stream
        writer = _Writer(client, flags, width)
        for stream, payload in frames(response):
            writer.write(session.err if stream == STDERR else session.out, payload)
    return 0


def _source(session: Session, name: str) -> tuple[str, bool, int]:
    """Where the logs are, whether the tasks have a terminal, and how many digits a slot may have."""
    client = session.client
    try:
        service = client.get(f"/services/{name}", {"insertDefaults": "false"})
    except ApiError as error:
        if not error.is_not_found:
            raise
    else:
        template = service["Spec"].get("TaskTemplate") or {}
        replicas = ((service["Spec"].get("Mode") or {}).get("Replicated") or {}).get("Replicas", 1)
        return f"/services/{name}/logs", _has_terminal(template), len(str(replicas))
    try:
        task = client.get(f"/tasks/{name}")
    except ApiError as error:
        if error.is_not_found:
            raise CliError(f"no such task or service: {name}") from None
        raise
    return f"/tasks/{name}/logs", _has_terminal(task.get("Spec") or {}), 1


def _has_terminal(template: dict[str, Any]) -> bool:
    return bool((template.get("ContainerSpec") or {}).get("TTY"))


def _query(flags: Values) -> dict[str, str]:
    query = {"stdout": "1", "stderr": "1", "tail": flags.text("tail")}
    if not flags.on("raw") or flags.on("details"):
        query["details"] = "1"  # says which task a line is from
    if flags.on("follow"):
        query["follow"] = "1"
    if flags.on("timestamps"):
        query["timestamps"] = "1"
    if flags.text("since"):
        query["since"] = timestamp(flags.text("since"), clock.now())
    return query


class _Writer:
    """Puts the origin before each line."""

    def __init__(self, client: Client, flags: Values, width: int) -> None:
        self._client = client
        self._names = Names(self._client, not flags.on("no-resolve"))
        self._flags = flags
        self._width = width
        self._origins: dict[str, str] = {}

    def write(self, target: TextIO, payload: bytes) -> None:
        text = payload.decode(errors="replace")
        moment = ""
        if self._flags.on("timestamps"):
            moment, _, text = text.partition(" ")
            moment += " "
        context, space, message = text.partition(" ")
        if not space:
            raise CliError(f"invalid context in log message: {text.rstrip()}")
        details = dict(pair.partition("=")[::2] for pair in context.split(","))
        origin = self._origin(details.pop(_SERVICE, ""), details.pop(_TASK, ""), details.pop(_NODE, ""))
        extra = ""
        if self._flags.on("details"):
            extra = ",".join(f"{key}={value}" for key, value in sorted(details.items())) + " "
        target.write(f"{moment}{origin}    | {extra}{message}")
        target.flush()

    def _origin(self, service: str, task: str, node: str) -> str:
        if task not in self._origins:
            node_name = self._names.node(node)
            service_name = self._names.service(service)
            slot = self._client.get(f"/tasks/{task}").get("Slot", 0)
            name = f"{service_name}.{slot}"
            if not self._flags.on("no-task-ids"):
                name += f".{task if self._flags.on('no-trunc') else task[:12]}"
            self._origins[task] = f"{name}@{node_name}" + " " * (self._width - len(str(slot)))
        return self._origins[task]


LOGS = Command(
    "[OPTIONS] SERVICE|TASK",
    "Fetch the logs of a service or task",
    _logs,
    (
        DETAILS,
        FOLLOW,
        Flag("no-resolve", BOOL, "Do not map IDs to Names in output"),
        Flag("no-task-ids", BOOL, "Do not include task IDs in output"),
        NO_TRUNC,
        Flag("raw", BOOL, "Do not neatly format logs"),
        SINCE,
        TAIL,
        TIMESTAMPS,
    ),
    ONE,
)
