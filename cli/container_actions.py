"""`shoal stop`, `kill`, `restart`, `rm`, `wait`, `logs`, `container inspect` and `prune`: containers that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cli import clock
from cli.client import filters_of
from cli.command import NONE, ONE, SOME, Command, Session
from cli.common_flags import INSPECT_FORMAT
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.output.frames import STDERR, frames
from cli.output.inspecting import inspect
from cli.output.units import decimal_size
from cli.values.basic import BOOL, FILTER, INT, STRING


def _each(session: Session, names: list[str], act: Callable[[str], Any]) -> int:
    """Does it to one after the other and prints its name; what failed is told, and fails the command."""
    problems: list[str] = []
    for name in names:
        try:
            act(name)
        except CliError as error:
            problems.append(error.message)
        else:
            session.say(name)
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _patience(flags: Values) -> dict[str, str]:
    query = {"signal": flags.text("signal")} if flags.text("signal") else {}
    return {**query, "t": str(flags["timeout"])} if flags.changed("timeout") else query


def _stop(session: Session, flags: Values, names: list[str]) -> int:
    query = _patience(flags)
    return _each(session, names, lambda name: session.client.post(f"/containers/{name}/stop", query=query))


def _restart(session: Session, flags: Values, names: list[str]) -> int:
    query = _patience(flags)
    return _each(session, names, lambda name: session.client.post(f"/containers/{name}/restart", query=query))


def _kill(session: Session, flags: Values, names: list[str]) -> int:
    query = {"signal": flags.text("signal") or "SIGKILL"}
    return _each(session, names, lambda name: session.client.post(f"/containers/{name}/kill", query=query))


def _rm(session: Session, flags: Values, names: list[str]) -> int:
    wanted = (("force", "force"), ("volumes", "v"), ("link", "link"))
    query = {key: "1" for name, key in wanted if flags.on(name)}
    return _each(session, names, lambda name: session.client.delete(f"/containers/{name}", query))


def _wait(session: Session, flags: Values, names: list[str]) -> int:
    for name in names:
        ended = session.client.post(f"/containers/{name}/wait", query={"condition": ""})
        session.say(str(ended["StatusCode"]))
    return 0


def _inspect(session: Session, flags: Values, names: list[str]) -> int:
    query = {"size": "1"} if flags.on("size") else {}

    def fetch(name: str) -> Any:
        return session.client.get(f"/containers/{name}/json", query)

    return inspect(session, names, fetch, flags.text("format"), escape=False)


def _logs(session: Session, flags: Values, names: list[str]) -> int:
    from cli.service.logs import timestamp

    shown = session.client.get(f"/containers/{names[0]}/json")
    query = {"stdout": "1", "stderr": "1", "tail": flags.text("tail")}
    for name in ("since", "until"):
        if flags.text(name):
            query[name] = timestamp(flags.text(name), clock.now())
    query |= {name: "1" for name in ("follow", "timestamps", "details") if flags.on(name)}
    response = session.client.stream("GET", f"/containers/{shown['Id']}/logs", query)
    if shown["Config"]["Tty"]:
        while piece := session.client.piece(response):
            session.out.write(piece.decode(errors="replace"))
            session.out.flush()
        return 0
    for stream, payload in frames(response):
        target = session.err if stream == STDERR else session.out
        target.write(payload.decode(errors="replace"))
        target.flush()
    return 0


def _prune(session: Session, flags: Values, _: list[str]) -> int:
    if not flags.on("force"):
        session.out.write(
            "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "
        )
        session.out.flush()
        if session.stdin.readline().strip().lower() != "y":
            raise CliError("container prune has been cancelled")
    filters = filters_of(flags.every("filter"))
    removed = session.client.post("/containers/prune", query=_as_query(filters))
    if removed.get("ContainersDeleted"):
        session.say("\n".join(["Deleted Containers:", *removed["ContainersDeleted"], ""]))
    session.say(f"Total reclaimed space: {decimal_size(removed.get('SpaceReclaimed', 0))}")
    return 0


def _as_query(filters: dict[str, dict[str, bool]]) -> dict[str, str]:
    import json

    return {"filters": json.dumps(filters, sort_keys=True, separators=(",", ":"))} if filters else {}


_MANY = "[OPTIONS] CONTAINER [CONTAINER...]"
_SIGNAL = Flag("signal", STRING, "Signal to send to the container", short="s")
_TIMEOUT = Flag("timeout", INT, "Seconds to wait before killing the container", short="t")
STOP = Command(_MANY, "Stop one or more running containers", _stop, (_SIGNAL, _TIMEOUT), SOME)
RESTART = Command(_MANY, "Restart one or more containers", _restart, (_SIGNAL, _TIMEOUT), SOME)
KILL = Command(_MANY, "Kill one or more running containers", _kill, (_SIGNAL,), SOME)
RM = Command(
    _MANY,
    "Remove one or more containers",
    _rm,
    (
        Flag("force", BOOL, "Force the removal of a running container (uses SIGKILL)", short="f"),
        Flag("link", BOOL, "Remove the specified link", short="l"),
        Flag("volumes", BOOL, "Remove anonymous volumes associated with the container", short="v"),
    ),
    SOME,
    aliases=("remove",),
)
WAIT = Command(
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    _wait,
    (),
    SOME,
)
INSPECT = Command(
    _MANY,
    "Display detailed information on one or more containers",
    _inspect,
    (INSPECT_FORMAT, Flag("size", BOOL, "Display total file sizes", short="s")),
    SOME,
)
LOGS = Command(
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    _logs,
    (
        Flag("details", BOOL, "Show extra details provided to logs"),
        Flag("follow", BOOL, "Follow log output", short="f"),
        Flag(
            "since",
            STRING,
            'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        ),
        Flag(
            "tail",
            STRING,
            "Number of lines to show from the end of the logs",
            short="n",
            default="all",
            shown='"all"',
        ),
        Flag("timestamps", BOOL, "Show timestamps", short="t"),
        Flag(
            "until",
            STRING,
            'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        ),
    ),
    ONE,
)
PRUNE = Command(
    "[OPTIONS]",
    "Remove all stopped containers",
    _prune,
    (
        Flag("filter", FILTER, 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
    NONE,
)
