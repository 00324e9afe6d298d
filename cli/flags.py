"""Command-line flags as Docker's users know them: GNU style, with Go's corner cases.

`-p80`, `-p=80`, `-dp 80`, `--flag value`, `--flag=value`, booleans that take a value only behind "=", and commands
whose flags end at the first argument (`service create`). Pure: `parse` is called by `cli.main` with the words
after the command's name; the kinds of values live in `cli.values`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cli.errors import FlagError


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of value is read, and what it's called in the help text.

    `parse` raises ValueError with the reason. A `repeated` kind may be given many times; its parse returns the list
    of values that one occurrence stands for. `switch` needs no value.
    """

    word: str
    parse: Callable[[str], Any]
    repeated: bool = False
    switch: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    kind: Kind
    usage: str
    short: str = ""
    default: Any = None
    shown: str = ""  # the default as the help text shows it

    @property
    def spelled(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Values:
    """The flags of one call: what was given, else the defaults."""

    def __init__(self, flags: Iterable[Flag]) -> None:
        self._flags = {flag.name: flag for flag in flags}
        self._given: dict[str, Any] = {}

    def changed(self, *names: str) -> bool:
        """Whether any of these flags was given."""
        return any(name in self._given for name in names)

    def __getitem__(self, name: str) -> Any:
        if name in self._given:
            return self._given[name]
        flag = self._flags[name]
        if flag.default is None and flag.kind.repeated:
            return []
        return flag.default

    def on(self, name: str) -> bool:
        return bool(self[name])

    def text(self, name: str) -> str:
        value = self[name]
        return "" if value is None else str(value)

    def every(self, name: str) -> list[Any]:
        """All values of a repeated flag, in the order given."""
        return list(self[name])

    def store(self, flag: Flag, word: str) -> None:
        try:
            value = flag.kind.parse(word)
        except ValueError as error:
            raise FlagError(f'invalid argument "{word}" for "{flag.spelled}" flag: {error}') from None
        if flag.kind.repeated:
            self._given.setdefault(flag.name, []).extend(value)
        else:
            self._given[flag.name] = value


class HelpWanted(Exception):
    """`--help` was given: the caller prints the command's help text."""


def parse(flags: Sequence[Flag], words: Sequence[str], interspersed: bool = True) -> tuple[Values, list[str]]:
    """Separate flags from arguments. Raises FlagError, or HelpWanted for --help."""
    values = Values(flags)
    by_name = {flag.name: flag for flag in flags}
    by_short = {flag.short: flag for flag in flags if flag.short}
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments.extend(rest)
            break
        if len(word) < 2 or word[0] != "-":
            arguments.append(word)
            if not interspersed:
                arguments.extend(rest)
                break
        elif word.startswith("--"):
            _long(word, rest, by_name, values)
        else:
            _shorts(word, rest, by_short, values)
    return values, arguments


def _long(word: str, rest: list[str], by_name: dict[str, Flag], values: Values) -> None:
    name, equals, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise FlagError(f"bad flag syntax: {word}")
    flag = by_name.get(name)
    if flag is None:
        if name == "help":
            raise HelpWanted
        raise FlagError(f"unknown flag: --{name}")
    if equals:
        values.store(flag, value)
    elif flag.kind.switch:
        values.store(flag, "true")
    elif rest:
        values.store(flag, rest.pop(0))
    else:
        raise FlagError(f"flag needs an argument: --{name}")


def _shorts(word: str, rest: list[str], by_short: dict[str, Flag], values: Values) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = by_short.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpWanted
            raise FlagError(f"unknown shorthand flag: '{letter}' in {word}")
        if len(letters) > 1 and letters[0] == "=":
            values.store(flag, letters[1:])
            return
        if flag.kind.switch:
            values.store(flag, "true")
        elif letters:
            values.store(flag, letters)
            return
        elif rest:
            values.store(flag, rest.pop(0))
        else:
            raise FlagError(f"flag needs an argument: '{letter}' in {word}")
