"""`shoal run`, `create` and `start`: containers of this node beside the swarm's, with the user's terminal or without."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from cli import attached
from cli.command import PROGRAM, SOME, Command, Session
from cli.container_flags import CREATE, RUN
from cli.container_flags import START as START_FLAGS
from cli.container_spec import body
from cli.errors import ApiError, CliError
from cli.flags import Values
from cli.values.images import Image, with_default_tag

_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127


def _run(session: Session, flags: Values, words: list[str]) -> int:
    detached = flags.on("detach")
    streams = {name.lower() for name in flags.every("attach")}
    if detached and streams:
        raise CliError("conflicting options: cannot specify both --attach and --detach", _FAILED)
    if not detached:
        attached.check_terminal(session, flags.on("interactive"), flags.on("tty"))
        attached.parsed_keys(flags.text("detach-keys"))
    try:
        return _run_it(session, flags, words, detached, streams)
    except ApiError as error:
        hint = f"\n\nRun '{PROGRAM} run --help' for more information"
        raise CliError(f"{PROGRAM}: {error.message}{hint}", _code_of(error.reason)) from None


def _code_of(reason: str) -> int:
    """The shell's codes for a command that isn't there, or is none."""
    if any(text in reason for text in ("executable file not found", "no such file or directory")):
        return _NOT_FOUND
    if any(text in reason for text in ("permission denied", "is a directory")):
        return _NOT_EXECUTABLE
    return _FAILED


def _run_it(session: Session, flags: Values, words: list[str], detached: bool, streams: set[str]) -> int:
    stdin = flags.on("interactive") and not detached
    attach = streams or (
        set() if detached else {"stdin", "stdout", "stderr"} - (set() if stdin else {"stdin"})
    )
    request = body(flags, words, attach, shutil.get_terminal_size())
    container = _create(session, flags, words[0], request)
    if detached:
        session.say(container)
        session.out.flush()
        session.client.post(f"/containers/{container}/start")
        return 0
    terminal = flags.on("tty")
    condition = "removed" if flags.on("rm") else "next-exit"
    return follow(
        session, container, attach, terminal=terminal, keys=flags.text("detach-keys"),
        proxy=flags.on("sig-proxy") and not terminal, condition=condition,
    )  # fmt: skip


def follow(
    session: Session, container: str, streams: set[str], *, terminal: bool, keys: str, proxy: bool, condition: str
) -> int:  # fmt: skip
    """Starts a container with the user on its streams, to its end or the user's leave; its exit code."""
    query = {"stream": "1", **dict.fromkeys(sorted(streams), "1")}
    path = f"/containers/{container}"
    with ExitStack() as open_things:
        streaming, waiting, more = (open_things.enter_context(session.client.again()) for _ in range(3))
        connection = streaming.upgrade(f"{path}/attach", query)
        ending = waiting.stream("POST", f"{path}/wait", {"condition": condition})
        session.client.post(f"{path}/start")
        if proxy:
            open_things.enter_context(attached.proxied(more, container))
        user = attached.Attached(session, connection, terminal=terminal, stdin="stdin" in streams, keys=keys)
        with attached.sized(more, path) if terminal else ExitStack():
            if not user.carry():
                session.warn(attached.LEFT)
                return 0
        return exit_code(ending)


def exit_code(ending: HTTPResponse) -> int:
    """What the daemon says of a container's end."""
    said: Mapping[str, Any] = json.loads(ending.read() or b"{}")
    if problem := (said.get("Error") or {}).get("Message"):
        raise CliError(f"Error waiting for container: {problem}", _FAILED)
    return int(said.get("StatusCode", 0))


def _create(session: Session, flags: Values, image: str, request: dict[str, Any]) -> str:
    """Makes the container, after pulling its image where that is asked for; returns the id."""
    name = {"name": flags.text("name")} if flags.text("name") else {}
    if flags.text("platform"):
        name["platform"] = flags.text("platform")
    pull = flags.text("pull") or "missing"
    if pull not in ("always", "missing", "never"):
        raise CliError(
            f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"', _FAILED
        )
    if pull == "always":
        _pull(session, flags, image)
    try:
        made = session.client.post("/containers/create", request, name)
    except ApiError as error:
        if not error.is_not_found or pull != "missing" or "No such image" not in error.reason:
            raise
        if not flags.on("quiet"):
            session.warn(f"Unable to find image '{with_default_tag(image)}' locally")
        _pull(session, flags, image)
        made = session.client.post("/containers/create", request, name)
    for warning in made.get("Warnings") or ():
        session.warn(f"WARNING: {warning}")
    container = str(made["Id"])
    if flags.text("cidfile"):
        Path(flags.text("cidfile")).write_text(container)
    return container


def _pull(session: Session, flags: Values, text: str) -> None:
    """Its progress belongs beside what the container says, not into it."""
    from cli.image import show_progress
    from cli.registry_auth import encoded_auth

    try:
        image = Image(text)
    except ValueError as error:
        raise CliError(f"{PROGRAM}: {error}", _FAILED) from None
    query = {"fromImage": f"{image.domain}/{image.path}", "tag": image.digest or image.tag or "latest"}
    headers = {"X-Registry-Auth": encoded_auth(text, os.environ)}
    messages = session.client.messages("POST", "/images/create", query, headers=headers)
    show_progress(session.err, messages, flags.on("quiet"))


def _create_only(session: Session, flags: Values, words: list[str]) -> int:
    streams = {"stdout", "stderr"} | ({"stdin"} if flags.on("interactive") else set())
    session.say(_create(session, flags, words[0], body(flags, words, streams, shutil.get_terminal_size())))
    return 0


def _start(session: Session, flags: Values, names: list[str]) -> int:
    if flags.on("attach") or flags.on("interactive"):
        if len(names) > 1:
            raise CliError("you cannot start and attach multiple containers at once")
        shown = session.client.get(f"/containers/{names[0]}/json")
        terminal = bool(shown["Config"]["Tty"])
        stdin = flags.on("interactive") and bool(shown["Config"]["OpenStdin"])
        attached.check_terminal(session, stdin, terminal)
        streams = {"stdout", "stderr"} | ({"stdin"} if stdin else set())
        condition = "removed" if shown["HostConfig"].get("AutoRemove") else "next-exit"
        return follow(
            session, shown["Id"], streams, terminal=terminal, keys=flags.text("detach-keys"),
            proxy=flags.on("sig-proxy") and not terminal, condition=condition,
        )  # fmt: skip
    failed = []
    for name in names:
        try:
            session.client.post(f"/containers/{name}/start")
        except ApiError as error:
            session.warn(error.message)
            failed.append(name)
        else:
            session.say(name)
    if failed:
        raise CliError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


_LINE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"
RUN_COMMAND = Command(
    _LINE, "Create and run a new container from an image", _run, RUN, SOME, interspersed=False
)
CREATE_COMMAND = Command(_LINE, "Create a new container", _create_only, CREATE, SOME, interspersed=False)
START = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers", _start, START_FLAGS, SOME
)
