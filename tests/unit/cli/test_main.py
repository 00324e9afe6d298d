"""Finding commands, helping, and starting fast."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fake_daemon import Daemon, Shoal

from cli.command import Command, Entry, Group
from cli.main import ROOT


def all_commands(group: Group = ROOT, path: str = "") -> list[tuple[str, Entry, Command]]:
    found: list[tuple[str, Entry, Command]] = []
    for entry in group.entries:
        name = f"{path} {entry.name}".strip()
        loaded = entry.load()
        if isinstance(loaded, Group):
            found += all_commands(loaded, name)
        else:
            found.append((name, entry, loaded))
    return found


COMMANDS = all_commands()


@pytest.mark.parametrize(("name", "entry", "command"), COMMANDS, ids=[name for name, _, _ in COMMANDS])
def test_every_command_has_help(
    name: str, entry: Entry, command: Command, shoal: Shoal, daemon: Daemon
) -> None:
    result = shoal(*name.split(), "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage:  shoal {name}")
    assert entry.about == command.about
    flags = [flag.name for flag in command.flags]
    assert len(set(flags)) == len(flags)
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(set(shorts)) == len(shorts)
    for flag in command.flags:
        assert f"--{flag.name}" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 82
    assert not daemon.asked


def test_help_of_a_group(shoal: Shoal) -> None:
    result = shoal("node")
    assert result.out == (
        "Usage:  shoal node COMMAND\n\nManage Swarm nodes\n\nCommands:\n"
        "  demote      Demote one or more nodes from manager in the swarm\n"
        "  inspect     Display detailed information on one or more nodes\n"
        "  ls          List nodes in the swarm\n"
        "  promote     Promote one or more nodes to manager in the swarm\n"
        "  ps          List tasks running on one or more nodes, defaults to current node\n"
        "  rm          Remove one or more nodes from the swarm\n"
        "  update      Update a node\n\n"
        "Run 'shoal node COMMAND --help' for more information on a command.\n"
    )
    assert shoal("help", "node").out == result.out


def test_help_is_wrapped_as_docker_wraps_it(shoal: Shoal) -> None:
    assert shoal("swarm", "leave", "--help").out == (
        "Usage:  shoal swarm leave [OPTIONS]\n\nLeave the swarm\n\nOptions:\n"
        "  -f, --force   Force this node to leave the swarm, ignoring warnings\n"
    )
    assert (
        "      --listen-addr node-addr   Listen address (format:\n"
        '                                "<ip|interface>[:port]") (default\n'
        "                                0.0.0.0:2377)\n"
    ) in shoal("swarm", "join", "--help").out


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (
            ["swarm", "inspect"],
            1,
            "shoal: unknown command: shoal swarm inspect\n\nUsage:  shoal swarm\n\n"
            "Run 'shoal swarm --help' for more information\n",
        ),
        (["nope"], 1, "shoal: unknown command: shoal nope\n\nRun 'shoal --help' for more information\n"),
        (
            ["swarm", "init", "extra"],
            1,
            "shoal: 'shoal swarm init' accepts no arguments\n\nUsage:  shoal swarm init [OPTIONS]\n\n"
            "Run 'shoal swarm init --help' for more information\n",
        ),
        (
            ["node", "inspect"],
            1,
            "shoal: 'shoal node inspect' requires at least 1 argument\n\n"
            "Usage:  shoal node inspect [OPTIONS] self|NODE [NODE...]\n\n"
            "See 'shoal node inspect --help' for more information\n",
        ),
        (
            ["service", "update", "--mode", "global", "web"],
            125,
            "unknown flag: --mode\n\nUsage:  shoal service update [OPTIONS] SERVICE\n\n"
            "Run 'shoal service update --help' for more information\n",
        ),
        (
            ["node", "--nope"],
            125,
            "unknown flag: --nope\n\nUsage:  shoal node COMMAND\n\nRun 'shoal node --help' for more information\n",
        ),
    ],
)
def test_what_cannot_be_understood(
    words: list[str], code: int, err: str, shoal: Shoal, daemon: Daemon
) -> None:
    result = shoal(*words)
    assert (result.code, result.out, result.err) == (code, "", err)
    assert not daemon.asked


def test_a_call_imports_only_what_it_needs() -> None:
    script = (
        "import sys; from cli.main import main; main(['node', 'ls', '--help']);"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in"
        " ('grpc', 'google', 'common', 'click', 'asyncio', 'cryptography') or name.startswith('cli.service')),"
        " file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
