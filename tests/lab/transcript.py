"""Labs written down as they are typed: commands with what they print, in files under tutorials/. Pure; played by terminals.py.

    # a remark, of no effect
    manager$ docker network ls             a command on a machine; what follows is all that it prints
    NETWORK ID     NAME     DRIVER   SCOPE
    ...                                    any lines, or none
    {hex12}        bridge   bridge   local
    [exit 1]                               its exit code, where that is not 0
    worker1~ docker network ls             the same, asked again until it prints that
    worker1& docker stop c1                the same in the background, until the machine's next command
    worker1> ping -c 2 alpine1             typed into the machine's open terminal (an -it or an attach before it)
    worker1>~ ping -c 2 alpine1            the same, again until it prints that
    worker1> ^P^Q                          leaves it
    =docker-compose.yml                    a file in the folder where commands run, to the next line that is "="

Runs of blanks count as one; lines after "(any order)" come in any. `{kind}` stands for something that differs each time, `{kind=NAME}` gives it a name, and
`{=NAME}` and `{=NAME:12}` (its first twelve characters) are the same thing again, in commands too. Output that begins
with a bracket is compared as JSON: all keys and values, objects in lists in any order. A key may be a pattern; with
a "+" before it, it stands for one or more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

KINDS: Final = {
    "id": r"[0-9a-z]{25}",
    "id12": r"[0-9a-z]{12}",
    "hex12": r"[0-9a-f]{12}",
    "hex64": r"[0-9a-f]{64}",
    "hex": r"[0-9a-f]+",
    "ip": r"\d+\.\d+\.\d+\.\d+",
    "mac": r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}",
    "MAC": r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}",
    "n": r"\d+(?:\.\d+)?",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)",
    "span": r"(?:[Ll]ess than a second|About an? \w+|\d+ \w+)",
    "word": r"\S+",
    "name": r"[a-z]+_[a-z]+",
    "any": r".*",
}
_STEP: Final = re.compile(r"(manager|worker1|worker2|outside)([$~&]|>~?) (.*)")
_READER: Final = re.compile(r"(?:docker|shoal) (?:\w+ )?(?:ls|ps|inspect|services)\b[^|;&<]*")
_HOLE: Final = re.compile(r"\{(\w*)(?:=(\w+)(?::(\d+))?)?\}")
_DOCKER: Final = re.compile(
    r"\bdocker(?=:| (?:attach|container|exec|inspect|network|node|ps|run|service|stack|swarm)\b)"
)
_EXIT: Final = re.compile(r"\[exit (\d+)\]")
ANY_LINES: Final = "..."
ANY_ORDER: Final = "(any order)"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is typed. `how`: "$" once, "~" until it prints what is expected, "&" in the background, ">" into
    an open terminal."""

    line: int
    machine: str
    how: str
    typed: str
    expected: tuple[str, ...]
    exit: int = 0

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that it can be asked twice."""
        return self.how in ("$", "~") and _READER.fullmatch(self.typed) is not None

    def by(self, program: str) -> Step:
        """The same with another CLI's name in place of docker's."""
        expected = tuple(_DOCKER.sub(program, text) for text in self.expected)
        return replace(self, typed=_DOCKER.sub(program, self.typed), expected=expected)


class Mismatch(AssertionError):
    """What was printed is not what the lab shows."""


def parse(text: str) -> list[Step]:
    """The steps of a lab."""
    steps: list[Step] = []
    in_file = False
    for number, line in enumerate(text.splitlines(), 1):
        if in_file or line.startswith("="):
            in_file = _file(steps, number, line, in_file)
        elif line.startswith("#") or not line.strip():
            continue
        elif found := _STEP.fullmatch(line):
            steps.append(Step(number, found[1], found[2], found[3].strip(), ()))
        elif not steps:
            raise ValueError(f"line {number}: output before any command: {line!r}")
        elif code := _EXIT.fullmatch(line.strip()):
            steps[-1] = replace(steps[-1], exit=int(code[1]))
        else:
            steps[-1] = replace(steps[-1], expected=(*steps[-1].expected, line.strip()))
    return steps


def _file(steps: list[Step], number: int, line: str, inside: bool) -> bool:
    """A line that begins a file, is in it or ends it; whether the next one is in it, too."""
    if not inside:
        steps.append(Step(number, "", "=", line[1:], ()))
    elif line == "=":
        return False
    else:
        steps[-1] = replace(steps[-1], expected=(*steps[-1].expected, line))
    return True


def filled(text: str, known: Mapping[str, str]) -> str:
    """A command with the names in it replaced; braces of other kinds (Go templates) stay."""

    def value(found: re.Match[str]) -> str:
        if found[1] or not found[2]:
            return found[0]
        return known[found[2]][: int(found[3]) if found[3] else None]

    return _HOLE.sub(value, text)


def _pattern(text: str, known: Mapping[str, str]) -> re.Pattern[str]:
    """A regular expression for one line or value; what is named in it becomes groups."""
    parts: list[str] = []
    at = 0
    for found in _HOLE.finditer(text):
        kind, name, length = found.groups()
        if not kind and not name:  # an empty object
            continue
        parts.append(re.escape(text[at : found.start()]))
        at = found.end()
        if not kind:
            if name not in known:
                raise Mismatch(f"nothing is named {name} yet, in {text!r}")
            parts.append(re.escape(known[name][: int(length) if length else None]))
        else:
            parts.append(f"(?P<{name}>{KINDS[kind]})" if name else f"(?:{KINDS[kind]})")
    parts.append(re.escape(text[at:]))
    return re.compile("".join(parts))


def match(expected: tuple[str, ...], printed: str, known: Mapping[str, str]) -> dict[str, str]:
    """Raises Mismatch unless `printed` is what is expected; returns `known` with the names that it gave."""
    if expected and expected[0][0] in "[{" and not _HOLE.match(expected[0]):
        try:
            given, wanted = json.loads(printed), json.loads("\n".join(expected))
        except ValueError as error:
            raise Mismatch(f"no JSON: {error}") from error
        return _value(wanted, given, dict(known), "")
    lines = [squeezed for line in printed.splitlines() if (squeezed := " ".join(line.split()))]
    wanted_lines = [" ".join(line.split()) for line in expected]
    if wanted_lines[:1] == [ANY_ORDER]:
        return _unordered(wanted_lines[1:], lines, dict(known))
    return _lines(wanted_lines, lines, dict(known))


def _unordered(wanted: list[str], printed: list[str], known: dict[str, str]) -> dict[str, str]:
    left = list(printed)
    for text in wanted:
        pattern = _pattern(text, known)
        found = next((m for line in left if (m := pattern.fullmatch(line))), None)
        if found is None:
            raise Mismatch(f"expected {text!r} among {left}")
        left.remove(found[0])
        known |= found.groupdict()
    if left:
        raise Mismatch(f"more than expected: {left}")
    return known


def _lines(wanted: list[str], printed: list[str], known: dict[str, str]) -> dict[str, str]:
    """Line by line; after "..." the next expected line is looked for."""
    at = 0
    skipping = False
    for text in wanted:
        if text == ANY_LINES:
            skipping = True
            continue
        pattern = _pattern(text, known)
        candidates = range(at, len(printed)) if skipping else range(at, min(at + 1, len(printed)))
        found = next(((i, m) for i in candidates if (m := pattern.fullmatch(printed[i]))), None)
        if found is None:
            there = printed[at] if at < len(printed) and not skipping else "nothing of the kind"
            raise Mismatch(f"expected {text!r}, there is {there!r}")
        at, skipping = found[0] + 1, False
        known |= found[1].groupdict()
    if at < len(printed) and not skipping:
        raise Mismatch(f"more than expected: {printed[at]!r}")
    return known


# ---- JSON


def _value(wanted: Any, given: Any, known: dict[str, str], path: str) -> dict[str, str]:
    if isinstance(wanted, str):
        number = isinstance(given, int) and not isinstance(given, bool) and wanted == "{n}"
        found = _pattern(wanted, known).fullmatch(str(given)) if isinstance(given, str) or number else None
        if found is None:
            raise Mismatch(f"{path}: expected {wanted!r}, there is {given!r}")
        return known | found.groupdict()
    if isinstance(wanted, dict) and isinstance(given, dict):
        return _object(wanted, given, known, path)
    if isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        return _list(wanted, given, known, path)
    if wanted != given or type(wanted) is not type(given):
        raise Mismatch(f"{path}: expected {wanted!r}, there is {given!r}")
    return known


def _object(
    wanted: dict[str, Any], given: dict[str, Any], known: dict[str, str], path: str
) -> dict[str, str]:
    left = dict(given)
    for key, value in wanted.items():
        if _HOLE.search(key):
            continue
        if key not in left:
            raise Mismatch(f"{path}: {key} is missing among {sorted(left)}")
        known = _value(value, left.pop(key), known, f"{path}.{key}")
    for key, value in wanted.items():
        if not _HOLE.search(key):
            continue
        several = key.startswith("+")
        found = [name for name in left if _pattern(key.removeprefix("+"), known).fullmatch(name)]
        if not found:
            raise Mismatch(f"{path}: {key} is missing among {sorted(left)}")
        for name in found if several else found[:1]:
            known = _value(key.removeprefix("+"), name, known, path)
            known = _value(value, left.pop(name), known, f"{path}.{name}")
    if left:
        raise Mismatch(f"{path}: more than expected: {sorted(left)}")
    return known


def _list(wanted: list[Any], given: list[Any], known: dict[str, str], path: str) -> dict[str, str]:
    if not all(isinstance(item, dict) for item in wanted):
        for number, (one, other) in enumerate(zip(wanted, given, strict=True)):
            known = _value(one, other, known, f"{path}[{number}]")
        return known
    left = list(given)
    for item in wanted:
        problem: Mismatch | None = None
        for candidate in left:
            try:
                known = _value(item, candidate, known, path)
            except Mismatch as found:
                problem = found
                continue
            left.remove(candidate)
            break
        else:
            raise problem or Mismatch(f"{path}: {item!r} is missing")
    return known
