"""Help texts and usage hints in the layout of `docker`. Pure; called by `cli.main`."""

from __future__ import annotations

from collections.abc import Sequence

from cli.command import PROGRAM, Command, Group
from cli.flags import Flag

_NAMES = 10  # the narrowest column of names
_SLOP = 5  # a last word may stick out so far rather than stand alone
_LEAST = 24  # narrower columns than this are given up


def group_help(path: str, group: Group, foot: str = "") -> str:
    width = max(_NAMES, *(len(entry.name) for entry in group.entries))
    lines = [f"Usage:  {path} COMMAND", "", group.about, "", "Commands:"]
    lines += [f"  {entry.name:<{width}}  {entry.about}" for entry in group.entries]
    lines += [foot, f"Run '{path} COMMAND --help' for more information on a command."]
    return "\n".join(lines) + "\n"


def command_help(path: str, command: Command, columns: int = 80) -> str:
    parts = [f"{usage(path, command)}\n\n{command.about}\n"]
    if command.aliases:
        parent = path.rpartition(" ")[0]
        names = ", ".join([path, *(f"{parent} {alias}" for alias in command.aliases)])
        parts.append(f"Aliases:\n  {names}\n")
    if command.flags:
        parts.append(f"Options:\n{flag_table(command.flags, columns)}")
    return "\n".join(parts)


def usage(path: str, command: Command) -> str:
    return f"Usage:  {path} {command.line}".rstrip()


def usage_hint(path: str, command: Command, word: str = "Run") -> str:
    return f"{usage(path, command)}\n\n{word} '{path} --help' for more information"


def flag_table(flags: Sequence[Flag], columns: int) -> str:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.kind.word:
            head += f" {flag.kind.word}"
        text = f"{flag.usage} (default {flag.shown})" if flag.shown else flag.usage
        rows.append((head, text))
    indent = max(len(head) for head, _ in rows) + 3
    return "".join(f"{head:<{indent - 1}} {wrap(text, indent, columns)}\n" for head, text in rows)


def wrap(text: str, indent: int, columns: int) -> str:
    """Break text to fit between `indent` and `columns`; the first line's indent is the caller's."""
    margin = "\n" + " " * indent
    width = columns - 1 - indent
    if width < _LEAST:
        indent, width = 16, columns - 17
        margin = "\n" + " " * indent
        if width < _LEAST:
            return text.replace("\n", margin)
        return margin + margin.join(_lines(text, width - _SLOP))
    return margin.join(_lines(text, width - _SLOP))


def _lines(text: str, width: int) -> list[str]:
    lines: list[str] = []
    while len(text) >= width + _SLOP:
        window = text[:width]
        newline = window.rfind("\n")
        cut = newline if newline > 0 else max(window.rfind(" "), window.rfind("\t"))
        if cut <= 0:
            break
        lines.append(text[:cut])
        text = text[cut + 1 :]
    return lines + (text.split("\n") if text else [])


def unknown_command(path: str, word: str) -> str:
    if path == PROGRAM:
        return f"{PROGRAM}: unknown command: {path} {word}\n\nRun '{path} --help' for more information"
    return (
        f"{PROGRAM}: unknown command: {path} {word}\n\n"
        f"Usage:  {path}\n\nRun '{path} --help' for more information"
    )
