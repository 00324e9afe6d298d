"""`shoal stop`, `kill`, `restart`, `rm`, `wait`, `logs`, `container inspect` and `prune`: containers that are there."""

from __future__ import annotations

from typing import Any

from cli import clock
from cli.client import filters_of
from cli.command import NONE, ONE, SOME, Command, Session
from cli.common_flags import INSPECT_FORMAT
from cli.each import confirm, each
from cli.flags import Flag, Values
from cli.log_stream import DETAILS, FOLLOW, SINCE, TAIL, TIMESTAMPS, UNTIL, copy, timestamp
from cli.output.inspecting import inspect
from cli.output.units import decimal_size
from cli.values.basic import BOOL, FILTER, INT, STRING


def _patience(flags: Values) -> dict[str, str]:
    query = {"signal": flags.text("signal")} if flags.text("signal") else {}
    return {**query, "t": str(flags["timeout"])} if flags.changed("timeout") else query


def _stop(session: Session, flags: Values, names: list[str]) -> int:
    query = _patience(flags)
    return each(session, names, lambda name: session.client.post(f"/containers/{name}/stop", query=query))


def _restart(session: Session, flags: Values, names: list[str]) -> int:
    query = _patience(flags)
    return each(session, names, lambda name: session.client.post(f"/containers/{name}/restart", query=query))


def _kill(session: Session, flags: Values, names: list[str]) -> int:
    query = {"signal": flags.text("signal") or "SIGKILL"}
    return each(session, names, lambda name: session.client.post(f"/containers/{name}/kill", query=query))


def _rm(session: Session, flags: Values, names: list[str]) -> int:
    wanted = (("force", "force"), ("volumes", "v"), ("link", "link"))
    query = {key: "1" for name, key in wanted if flags.on(name)}
    return each(
        session, names, lambda name: session.client.delete(f"/containers/{name}", query),
        none_is_well=flags.on("force"),
    )  # fmt: skip


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
    shown = session.client.get(f"/containers/{names[0]}/json")
    query = {"stdout": "1", "stderr": "1", "tail": flags.text("tail")}
    for name in ("since", "until"):
        if flags.text(name):
            query[name] = timestamp(flags.text(name), clock.now())
    query |= {name: "1" for name in ("follow", "timestamps", "details") if flags.on(name)}
    response = session.client.stream("GET", f"/containers/{shown['Id']}/logs", query)
    copy(session, response, shown["Config"]["Tty"])
    return 0


def _prune(session: Session, flags: Values, _: list[str]) -> int:
    warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"
    if not flags.on("force") and not confirm(session, warning):
        return 0
    removed = session.client.post("/containers/prune", filters=filters_of(flags.every("filter")))
    if removed.get("ContainersDeleted"):
        session.say("\n".join(["Deleted Containers:", *removed["ContainersDeleted"], ""]))
    session.say(f"Total reclaimed space: {decimal_size(removed.get('SpaceReclaimed', 0))}")
    return 0


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
        DETAILS,
        FOLLOW,
        SINCE,
        TAIL,
        TIMESTAMPS,
        UNTIL,
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
