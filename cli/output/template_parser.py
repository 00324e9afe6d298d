"""Reads Go-style templates into nodes. Pure; `cli.output.templates` runs them.

Text outside of `{{ }}` stays; inside are pipelines of commands of operands, and if, range and with up to their end.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<number>-?\d+(?:\.\d+)?)
    | (?P<variable>\$\w*)
    | (?P<declare>:=)
    | (?P<assign>=)
    | (?P<field>(?:\.\w+)+)
    | (?P<dot>\.)
    | (?P<word>\w+)
    | (?P<punctuation>[|(),])
    )""",
    re.VERBOSE,
)
_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)


class TemplateError(ValueError):
    """The template can't be read, or doesn't fit the value."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Print:
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    keyword: str  # if, range, with
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    targets: tuple[str, ...]
    commands: tuple[tuple[Operand, ...], ...]


@dataclass(frozen=True, slots=True)
class Operand:
    kind: str  # literal, field, variable, function, pipeline
    value: Any
    path: tuple[str, ...] = ()


Node = Text | Print | Branch


def parse(text: str, functions: Collection[str]) -> tuple[Node, ...]:
    """The nodes of a template. Raises TemplateError."""
    return _Parser(_pieces(text), functions).nodes()


def _pieces(text: str) -> list[tuple[bool, str]]:
    """Text and actions in turn, with `{{-` and `-}}` applied."""
    pieces: list[tuple[bool, str]] = []
    position = 0
    trim = False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        if trim:
            before = before.lstrip()
        if match[1]:
            before = before.rstrip()
        pieces.append((False, before))
        inner = match[2].strip()
        if not inner.startswith("/*"):
            pieces.append((True, inner))
        trim = bool(match[3])
        position = match.end()
    rest = text[position:]
    if "{{" in rest:
        raise TemplateError("template: :1: unclosed action")
    pieces.append((False, rest.lstrip() if trim else rest))
    return pieces


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            bad = text[position:].lstrip()[0]
            raise TemplateError(f"template: :1: unexpected {bad!r} in command")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, pieces: list[tuple[bool, str]], functions: Collection[str]) -> None:
        self._pieces = pieces
        self._functions = functions
        self._at = 0
        self._ended = ""

    def nodes(self) -> tuple[Node, ...]:
        found = self._until(())
        if self._ended:
            raise TemplateError(f"template: :1: unexpected {{{{{self._ended}}}}}")
        return found

    def _until(self, ends: tuple[str, ...]) -> tuple[Node, ...]:
        found: list[Node] = []
        self._ended = ""
        while self._at < len(self._pieces):
            action, text = self._pieces[self._at]
            self._at += 1
            if not action:
                if text:
                    found.append(Text(text))
                continue
            keyword = text.split(None, 1)[0] if text else ""
            if keyword in ("end", "else"):
                self._ended = text
                return tuple(found)
            if keyword in ("if", "range", "with"):
                found.append(self._branch(keyword, text[len(keyword) :]))
            elif keyword in ("define", "template", "block", "break", "continue"):
                raise TemplateError(f"template: :1: {keyword} is not supported here")
            else:
                found.append(Print(_pipeline(_tokens(text), self._functions)))
        if ends:
            raise TemplateError("template: :1: unexpected EOF")
        return tuple(found)

    def _branch(self, keyword: str, condition: str) -> Branch:
        pipeline = _pipeline(_tokens(condition), self._functions)
        body = self._until(("end",))
        otherwise: tuple[Node, ...] = ()
        if self._ended.startswith("else"):
            rest = self._ended.removeprefix("else").strip()
            if rest:
                word = rest.split(None, 1)[0]
                otherwise = (self._branch(word, rest[len(word) :]),)
            else:
                otherwise = self._until(("end",))
        self._ended = ""
        return Branch(keyword, pipeline, body, otherwise)


def _pipeline(tokens: list[_Token], functions: Collection[str]) -> Pipeline:
    targets: list[str] = []
    if len(tokens) > 1 and tokens[0].kind == "variable":
        end = next((i for i, token in enumerate(tokens) if token.kind in ("declare", "assign")), -1)
        if end > 0:
            targets = [token.text for token in tokens[:end] if token.kind == "variable"]
            tokens = tokens[end + 1 :]
    commands: list[tuple[Operand, ...]] = []
    current: list[Operand] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token.text == "|" and token.kind == "punctuation":
            commands.append(tuple(current))
            current = []
        elif token.text == "(" and token.kind == "punctuation":
            close = _closing(tokens, position)
            inner = _pipeline(tokens[position + 1 : close], functions)
            path: tuple[str, ...] = ()
            if close + 1 < len(tokens) and tokens[close + 1].kind == "field":
                path = tuple(tokens[close + 1].text[1:].split("."))
            current.append(Operand("pipeline", inner, path))
            position = close + bool(path)
        else:
            operand, position = _operand(tokens, position, functions)
            current.append(operand)
        position += 1
    commands.append(tuple(current))
    if any(not command for command in commands):
        raise TemplateError("template: :1: missing value for command")
    return Pipeline(tuple(targets), tuple(commands))


def _closing(tokens: list[_Token], start: int) -> int:
    depth = 0
    for position in range(start, len(tokens)):
        if tokens[position].kind == "punctuation":
            depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
            if depth == 0:
                return position
    raise TemplateError("template: :1: unclosed left paren")


def _operand(tokens: list[_Token], position: int, functions: Collection[str]) -> tuple[Operand, int]:
    token = tokens[position]
    if token.kind == "string":
        text = token.text[1:-1]
        return Operand("literal", text if token.text[0] == "`" else _unescape(text)), position
    if token.kind == "number":
        return Operand("literal", float(token.text) if "." in token.text else int(token.text)), position
    if token.kind == "field":
        return Operand("field", None, tuple(token.text[1:].split("."))), position
    if token.kind == "dot":
        return Operand("field", None), position
    if token.kind == "variable":
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if following is not None and following.kind == "field":
            return Operand("variable", token.text, tuple(following.text[1:].split("."))), position + 1
        return Operand("variable", token.text), position
    if token.kind == "word":
        if token.text in ("true", "false"):
            return Operand("literal", token.text == "true"), position
        if token.text == "nil":
            return Operand("literal", None), position
        if token.text not in functions:
            raise TemplateError(f'template: :1: function "{token.text}" not defined')
        return Operand("function", token.text), position
    raise TemplateError(f"template: :1: unexpected {token.text!r} in operand")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), text)
