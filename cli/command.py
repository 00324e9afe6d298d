"""What a command is: its words, flags and arguments, and how to find the module that has it.

Groups name their commands by module and attribute, so that a call imports only the one it runs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from cli.errors import CliError
from cli.flags import Flag, Values

if TYPE_CHECKING:
    from cli.client import Client

PROGRAM = "shoal"


@dataclass(slots=True)
class Session:
    """What a running command has: the daemon and the terminal."""

    client: Client
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    stdin: TextIO = field(default_factory=lambda: sys.stdin)

    def say(self, text: str = "") -> None:
        self.out.write(text + "\n")

    def warn(self, text: str) -> None:
        self.err.write(text + "\n")


@dataclass(frozen=True, slots=True)
class Arguments:
    """How many arguments a command takes; `most` None means any number."""

    least: int = 0
    most: int | None = 0

    def problem(self, count: int) -> tuple[str, str] | None:
        """What's wrong with so many arguments, and the word that introduces the hint to --help."""
        if self.most == 0 and count:
            return "accepts no arguments", "Run"
        if self.least == self.most and count != self.least:
            return f"requires {_counted(self.least)}", "Run"
        if count < self.least and self.most is None:
            return f"requires at least {_counted(self.least)}", "See"
        if self.most is not None and not self.least <= count <= self.most:
            if self.least == 0:
                return f"requires at most {_counted(self.most)}", "See"
            return f"requires at least {self.least} and at most {_counted(self.most)}", "See"
        return None


def _counted(number: int) -> str:
    return f"{number} argument" if number == 1 else f"{number} arguments"


NONE = Arguments(0, 0)
ONE = Arguments(1, 1)
SOME = Arguments(1, None)
ANY = Arguments(0, None)

Run = Callable[[Session, Values, list[str]], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `line` is what follows its name in the usage: "[OPTIONS] SERVICE"."""

    line: str
    about: str
    run: Run
    flags: tuple[Flag, ...] = ()
    arguments: Arguments = NONE
    interspersed: bool = True
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A command, or a group of commands, by name: where it is and what the parent's help says of it."""

    name: str
    about: str
    where: str  # "module:ATTRIBUTE"
    aliases: tuple[str, ...] = ()

    def load(self) -> Command | Group:
        module, _, attribute = self.where.partition(":")
        found: Any = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, Command | Group):
            raise CliError(f"{self.where} is not a command")
        return found


@dataclass(frozen=True, slots=True)
class Group:
    about: str
    entries: tuple[Entry, ...]

    def find(self, word: str) -> Entry | None:
        return next((entry for entry in self.entries if word == entry.name or word in entry.aliases), None)
