"""`shoal attach` and `exec`: a user in a container that runs, one of a task's too."""

from __future__ import annotations

import os
from contextlib import ExitStack

from cli import attached, clock
from cli.command import ONE, Arguments, Command, Session
from cli.container_flags import DETACH_KEYS, SIG_PROXY
from cli.container_run import exit_code
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.service.spec import variables
from cli.values.basic import BOOL, ENVIRONMENT, LIST, STRING

_LINGERS = 5.0  # how long a process may outlive its output


def _attach(session: Session, flags: Values, names: list[str]) -> int:
    client = session.client
    shown = client.get(f"/containers/{names[0]}/json")
    state = shown["State"]
    if not state["Running"]:
        raise CliError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CliError("You cannot attach to a paused container, unpause it first")
    terminal = bool(shown["Config"]["Tty"])
    stdin = bool(shown["Config"]["OpenStdin"]) and not flags.on("no-stdin")
    attached.check_terminal(session, stdin, terminal)
    path = f"/containers/{shown['Id']}"
    query = {"stream": "1", "stdout": "1", "stderr": "1", **({"stdin": "1"} if stdin else {})}
    with ExitStack() as open_things:
        streaming, waiting = (open_things.enter_context(client.again()) for _ in range(2))
        ending = waiting.stream("POST", f"{path}/wait", {"condition": ""})
        user = attached.Attached(
            session, streaming.upgrade(f"{path}/attach", query), terminal=terminal, stdin=stdin,
            keys=flags.text("detach-keys"),
        )  # fmt: skip
        if flags.on("sig-proxy") and not terminal:
            open_things.enter_context(attached.proxied(client, shown["Id"]))
        if terminal:
            open_things.enter_context(attached.sized(client, path))
        if not user.carry():
            raise CliError(attached.LEFT)
        return exit_code(ending)


def _exec(session: Session, flags: Values, words: list[str]) -> int:
    client = session.client
    detached, terminal = flags.on("detach"), flags.on("tty")
    stdin = flags.on("interactive") and not detached
    attached.check_terminal(session, stdin, terminal)
    made = client.post(
        f"/containers/{words[0]}/exec",
        {
            "User": flags.text("user"),
            "Privileged": flags.on("privileged"),
            "Tty": terminal,
            "AttachStdin": stdin,
            "AttachStdout": not detached,
            "AttachStderr": not detached,
            "DetachKeys": flags.text("detach-keys"),
            "Env": variables(flags.every("env-file"), flags.every("env"), os.environ) or None,
            "WorkingDir": flags.text("workdir"),
            "Cmd": words[1:],
        },
    )
    path = f"/exec/{made['Id']}"
    if detached:
        client.post(f"{path}/start", {"Detach": True, "Tty": terminal})
        return 0
    with client.again() as streaming:
        connection = streaming.upgrade(f"{path}/start", body={"Detach": False, "Tty": terminal})
        user = attached.Attached(
            session, connection, terminal=terminal, stdin=stdin, keys=flags.text("detach-keys")
        )
        with attached.sized(client, path) if terminal else ExitStack():
            if not user.carry():
                raise CliError(attached.LEFT)
    return _ended(session, path)


def _ended(session: Session, path: str) -> int:
    """The exit code; the daemon knows of it a moment after the output's end."""
    deadline = clock.steady() + _LINGERS
    while True:
        shown = session.client.get(f"{path}/json")
        if not shown["Running"] or clock.steady() > deadline:
            return int(shown["ExitCode"] or 0)
        clock.pause(0.02)


ATTACH = Command(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    _attach,
    (DETACH_KEYS, Flag("no-stdin", BOOL, "Do not attach STDIN"), SIG_PROXY),
    ONE,
)
EXEC = Command(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    _exec,
    (
        Flag("detach", BOOL, "Detached mode: run command in the background", short="d"),
        DETACH_KEYS,
        Flag("env", ENVIRONMENT, "Set environment variables", short="e"),
        Flag("env-file", LIST, "Read in a file of environment variables"),
        Flag("interactive", BOOL, "Keep STDIN open even if not attached", short="i"),
        Flag("privileged", BOOL, "Give extended privileges to the command"),
        Flag("tty", BOOL, "Allocate a pseudo-TTY", short="t"),
        Flag("user", STRING, 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
        Flag("workdir", STRING, "Working directory inside the container", short="w"),
    ),
    Arguments(2, None),
    interspersed=False,
)
