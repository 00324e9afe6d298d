"""The `shoal` command: finds the command that was asked for, reads its flags and runs it.

Everything else is imported when it's needed: a call must start in a few hundredths of a second.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence

from cli import help as helptext
from cli.command import PROGRAM, Command, Entry, Group, Session
from cli.errors import CliError, FlagError
from cli.flags import Flag, HelpWanted, parse
from cli.values.basic import BOOL, STRING

ROOT = Group(
    "A swarm of machines that speaks Docker's language",
    (
        Entry("config", "Manage Swarm configs", "cli.config:GROUP"),
        Entry("container", "Manage containers", "cli.container:GROUP"),
        Entry("image", "Manage images", "cli.image:GROUP"),
        Entry("network", "Manage networks", "cli.network:GROUP"),
        Entry("node", "Manage Swarm nodes", "cli.node:GROUP"),
        Entry("secret", "Manage Swarm secrets", "cli.secret:GROUP"),
        Entry("service", "Manage Swarm services", "cli.service:GROUP"),
        Entry("stack", "Manage Swarm stacks", "cli.stack:GROUP"),
        Entry("swarm", "Manage Swarm", "cli.swarm:GROUP"),
        Entry(
            "attach",
            "Attach local standard input, output, and error streams to a running container",
            "cli.container_exec:ATTACH",
        ),
        Entry("create", "Create a new container", "cli.container_run:CREATE_COMMAND"),
        Entry("events", "Get real time events from the server", "cli.events:EVENTS"),
        Entry("exec", "Execute a command in a running container", "cli.container_exec:EXEC"),
        Entry("images", "List images", "cli.image:LS"),
        Entry("info", "Display system-wide information", "cli.system:INFO"),
        Entry("inspect", "Return low-level information on Docker objects", "cli.inspect_any:INSPECT"),
        Entry("kill", "Kill one or more running containers", "cli.container_actions:KILL"),
        Entry("load", "Load an image from a tar archive or STDIN", "cli.image:LOAD"),
        Entry("logs", "Fetch the logs of a container", "cli.container_actions:LOGS"),
        Entry("pause", "Pause all processes within one or more containers", "cli.container_more:PAUSE"),
        Entry(
            "port", "List port mappings or a specific mapping for the container", "cli.container_more:PORT"
        ),
        Entry("ps", "List containers", "cli.container:LS"),
        Entry("pull", "Download an image from a registry", "cli.image:PULL"),
        Entry("rename", "Rename a container", "cli.container_more:RENAME"),
        Entry("restart", "Restart one or more containers", "cli.container_actions:RESTART"),
        Entry("rm", "Remove one or more containers", "cli.container_actions:RM"),
        Entry("run", "Create and run a new container from an image", "cli.container_run:RUN_COMMAND"),
        Entry("start", "Start one or more stopped containers", "cli.container_run:START"),
        Entry("stop", "Stop one or more running containers", "cli.container_actions:STOP"),
        Entry("top", "Display the running processes of a container", "cli.container_more:TOP"),
        Entry("unpause", "Unpause all processes within one or more containers", "cli.container_more:UNPAUSE"),
        Entry("version", "Show the version information", "cli.system:VERSION"),
        Entry(
            "wait",
            "Block until one or more containers stop, then print their exit codes",
            "cli.container_actions:WAIT",
        ),
    ),
)

GLOBAL_FLAGS = (
    Flag("debug", BOOL, "Enable debug mode", short="D"),
    Flag("host", STRING, "Daemon socket to connect to (unix:///path or tcp://address:port)", short="H"),
    Flag("version", BOOL, "Print version information and quit", short="v"),
)

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point: the exit code of the call."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except CliError as error:
        sys.stdout.flush()
        if error.message:
            sys.stderr.write(error.message + "\n")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(words: list[str]) -> int:
    try:
        options, rest = parse(GLOBAL_FLAGS, words, interspersed=False)
    except HelpWanted:
        return _print(_root_help())
    except FlagError as error:
        raise CliError(
            f"{error.message}\n\nUsage:  {PROGRAM} [OPTIONS] COMMAND\n\n"
            f"Run '{PROGRAM} --help' for more information",
            125,
        ) from None
    if options.on("version"):
        from cli.system import one_line_version

        return _print(one_line_version())
    host = options.text("host") or None
    return _dispatch(ROOT, PROGRAM, rest, host)


def _dispatch(group: Group, path: str, words: list[str], host: str | None) -> int:
    if not words or words[0] in ("--help", "-h"):
        return _print(_root_help() if group is ROOT else helptext.group_help(path, group))
    if words[0] == "help":
        return _dispatch(group, path, [*words[1:], "--help"], host)
    if words[0].startswith("-"):
        kind = "unknown flag: " if words[0].startswith("--") else "unknown shorthand flag: "
        shown = words[0].partition("=")[0] if words[0].startswith("--") else f"'{words[0][1]}' in {words[0]}"
        raise CliError(
            f"{kind}{shown}\n\nUsage:  {path} COMMAND\n\nRun '{path} --help' for more information", 125
        )
    entry = group.find(words[0])
    if entry is None:
        raise CliError(helptext.unknown_command(path, words[0]))
    found = entry.load()
    path = f"{path} {entry.name}"
    if isinstance(found, Group):
        return _dispatch(found, path, words[1:], host)
    return _call(found, path, words[1:], host)


def _call(command: Command, path: str, words: list[str], host: str | None) -> int:
    try:
        values, arguments = parse(command.flags, words, command.interspersed)
    except HelpWanted:
        return _print(helptext.command_help(path, command, _columns()))
    except FlagError as error:
        raise CliError(f"{error.message}\n\n{helptext.usage_hint(path, command)}", error.code) from None
    problem = command.arguments.problem(len(arguments))
    if problem is not None:
        what, word = problem
        hint = helptext.usage_hint(path, command, word)
        raise CliError(f"{PROGRAM}: '{path}' {what}\n\n{hint}")
    from cli.client import Client

    with Client(host) as client:
        return command.run(Session(client), values, arguments)


def _root_help() -> str:
    flags = helptext.flag_table(GLOBAL_FLAGS, _columns())
    return helptext.group_help(PROGRAM, ROOT, f"\nGlobal Options:\n{flags}")


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 80


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
