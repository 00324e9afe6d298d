"""A subset of Go's text/template, for --format: enough for what people write there.

Fields and chained fields, pipelines, variables, if/else if/else, range/else, with, comments and trimming, and the
functions of Go and of `docker` (json, join, split, upper, lower, title, pad, truncate, println, printf, index,
len, slice, eq …, and, or, not). Values are JSON's: maps, lists, text, numbers, booleans, None. Pure; called by
`cli.output.listing` and `cli.output.inspecting`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.output import gojson

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

_MISSING = "<no value>"


class TemplateError(ValueError):
    """The template can't be read, or doesn't fit the value."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Print:
    pipeline: _Pipeline


@dataclass(frozen=True, slots=True)
class _Branch:
    keyword: str  # if, range, with
    pipeline: _Pipeline
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Pipeline:
    targets: tuple[str, ...]
    commands: tuple[tuple[_Operand, ...], ...]


@dataclass(frozen=True, slots=True)
class _Operand:
    kind: str  # literal, field, variable, function, pipeline
    value: Any
    path: tuple[str, ...] = ()


_Node = _Text | _Print | _Branch


class Template:
    """A parsed template; `render` is called once for each value."""

    def __init__(self, text: str) -> None:
        self._nodes = _Parser(_pieces(text)).nodes()

    def render(self, value: Any) -> str:
        scope = {"$": value}
        return "".join(_run(self._nodes, value, scope))

    @property
    def first_fields(self) -> list[str]:
        """The plain fields that are printed, in order: they name the columns of a table."""
        names = []
        for node in self._nodes:
            if isinstance(node, _Print):
                for command in node.pipeline.commands:
                    names += [
                        operand.path[0] for operand in command if operand.kind == "field" and operand.path
                    ]
        return names


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
    def __init__(self, pieces: list[tuple[bool, str]]) -> None:
        self._pieces = pieces
        self._at = 0
        self._ended = ""

    def nodes(self) -> tuple[_Node, ...]:
        found = self._until(())
        if self._ended:
            raise TemplateError(f"template: :1: unexpected {{{{{self._ended}}}}}")
        return found

    def _until(self, ends: tuple[str, ...]) -> tuple[_Node, ...]:
        found: list[_Node] = []
        self._ended = ""
        while self._at < len(self._pieces):
            action, text = self._pieces[self._at]
            self._at += 1
            if not action:
                if text:
                    found.append(_Text(text))
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
                found.append(_Print(_pipeline(_tokens(text))))
        if ends:
            raise TemplateError("template: :1: unexpected EOF")
        return tuple(found)

    def _branch(self, keyword: str, condition: str) -> _Branch:
        pipeline = _pipeline(_tokens(condition))
        body = self._until(("end",))
        otherwise: tuple[_Node, ...] = ()
        if self._ended.startswith("else"):
            rest = self._ended.removeprefix("else").strip()
            if rest:
                word = rest.split(None, 1)[0]
                otherwise = (self._branch(word, rest[len(word) :]),)
            else:
                otherwise = self._until(("end",))
        self._ended = ""
        return _Branch(keyword, pipeline, body, otherwise)


def _pipeline(tokens: list[_Token]) -> _Pipeline:
    targets: list[str] = []
    if len(tokens) > 1 and tokens[0].kind == "variable":
        end = next((i for i, token in enumerate(tokens) if token.kind in ("declare", "assign")), -1)
        if end > 0:
            targets = [token.text for token in tokens[:end] if token.kind == "variable"]
            tokens = tokens[end + 1 :]
    commands: list[tuple[_Operand, ...]] = []
    current: list[_Operand] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token.text == "|" and token.kind == "punctuation":
            commands.append(tuple(current))
            current = []
        elif token.text == "(" and token.kind == "punctuation":
            close = _closing(tokens, position)
            inner = _pipeline(tokens[position + 1 : close])
            path: tuple[str, ...] = ()
            if close + 1 < len(tokens) and tokens[close + 1].kind == "field":
                path = tuple(tokens[close + 1].text[1:].split("."))
            current.append(_Operand("pipeline", inner, path))
            position = close + bool(path)
        else:
            operand, position = _operand(tokens, position)
            current.append(operand)
        position += 1
    commands.append(tuple(current))
    if any(not command for command in commands):
        raise TemplateError("template: :1: missing value for command")
    return _Pipeline(tuple(targets), tuple(commands))


def _closing(tokens: list[_Token], start: int) -> int:
    depth = 0
    for position in range(start, len(tokens)):
        if tokens[position].kind == "punctuation":
            depth += {"(": 1, ")": -1}.get(tokens[position].text, 0)
            if depth == 0:
                return position
    raise TemplateError("template: :1: unclosed left paren")


def _operand(tokens: list[_Token], position: int) -> tuple[_Operand, int]:
    token = tokens[position]
    if token.kind == "string":
        text = token.text[1:-1]
        return _Operand("literal", text if token.text[0] == "`" else _unescape(text)), position
    if token.kind == "number":
        return _Operand("literal", float(token.text) if "." in token.text else int(token.text)), position
    if token.kind == "field":
        return _Operand("field", None, tuple(token.text[1:].split("."))), position
    if token.kind == "dot":
        return _Operand("field", None), position
    if token.kind == "variable":
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if following is not None and following.kind == "field":
            return _Operand("variable", token.text, tuple(following.text[1:].split("."))), position + 1
        return _Operand("variable", token.text), position
    if token.kind == "word":
        if token.text in ("true", "false"):
            return _Operand("literal", token.text == "true"), position
        if token.text == "nil":
            return _Operand("literal", None), position
        if token.text not in FUNCTIONS:
            raise TemplateError(f'template: :1: function "{token.text}" not defined')
        return _Operand("function", token.text), position
    raise TemplateError(f"template: :1: unexpected {token.text!r} in operand")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), text)


def _run(nodes: tuple[_Node, ...], dot: Any, scope: dict[str, Any]) -> list[str]:
    written: list[str] = []
    for node in nodes:
        if isinstance(node, _Text):
            written.append(node.text)
        elif isinstance(node, _Print):
            value = _evaluate(node.pipeline, dot, scope)
            if not node.pipeline.targets:
                written.append(show(value))
        else:
            written += _run_branch(node, dot, scope)
    return written


def _run_branch(node: _Branch, dot: Any, scope: dict[str, Any]) -> list[str]:
    if node.keyword != "range":
        inner = dict(scope)
        value = _evaluate(node.pipeline, dot, inner)
        if not _truth(value):
            return _run(node.otherwise, dot, scope)
        return _run(node.body, value if node.keyword == "with" else dot, inner)
    value = _evaluate(_Pipeline((), node.pipeline.commands), dot, scope)
    items = _items(value)
    if not items:
        return _run(node.otherwise, dot, scope)
    written: list[str] = []
    for key, item in items:
        inner = dict(scope)
        if len(node.pipeline.targets) == 1:
            inner[node.pipeline.targets[0]] = item
        elif len(node.pipeline.targets) == 2:
            inner[node.pipeline.targets[0]] = key
            inner[node.pipeline.targets[1]] = item
        written += _run(node.body, item, inner)
    return written


def _items(value: Any) -> list[tuple[Any, Any]]:
    if value is None or value is MISSING:
        return []
    if isinstance(value, Mapping):
        return sorted(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(index, index) for index in range(value)]
    raise TemplateError(f"range can't iterate over {show(value)}")


class _Missing:
    """A field that isn't there."""


MISSING = _Missing()


def _evaluate(pipeline: _Pipeline, dot: Any, scope: dict[str, Any]) -> Any:
    value: Any = MISSING
    piped = False
    for command in pipeline.commands:
        value = _command(command, dot, scope, [value] if piped else [])
        piped = True
    for target in pipeline.targets:
        scope[target] = value
    return value


def _command(command: tuple[_Operand, ...], dot: Any, scope: dict[str, Any], piped: list[Any]) -> Any:
    first = command[0]
    if first.kind == "function":
        arguments = [_value(operand, dot, scope) for operand in command[1:]] + piped
        arguments = [None if argument is MISSING else argument for argument in arguments]
        try:
            return FUNCTIONS[first.value](*arguments)
        except TemplateError:
            raise
        except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise TemplateError(f"error calling {first.value}: {error}") from None
    if len(command) > 1 or piped:
        raise TemplateError("can't give argument to non-function")
    return _value(first, dot, scope)


def _value(operand: _Operand, dot: Any, scope: dict[str, Any]) -> Any:
    if operand.kind == "literal":
        return operand.value
    if operand.kind == "function":
        return _command((operand,), dot, scope, [])
    if operand.kind == "pipeline":
        return _follow(_evaluate(operand.value, dot, scope), operand.path)
    if operand.kind == "variable":
        if operand.value not in scope:
            raise TemplateError(f'template: :1: undefined variable "{operand.value}"')
        return _follow(scope[operand.value], operand.path)
    return _follow(dot, operand.path)


def _follow(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, Mapping):
            value = value.get(name, MISSING)
        elif value is None or value is MISSING:
            raise TemplateError(f"nil pointer evaluating field {name}")
        else:
            raise TemplateError(f"can't evaluate field {name} in {_type(value)}")
    return value


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "type bool"
    if isinstance(value, str):
        return "type string"
    if isinstance(value, list | tuple):
        return "a list"
    return "a number"


def _truth(value: Any) -> bool:
    return value is not MISSING and bool(value)


def show(value: Any) -> str:
    """A value as Go prints it."""
    if value is MISSING:
        return _MISSING
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value == int(value) and abs(value) < 1e21 else repr(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif value is None:
            raise TemplateError("index of untyped nil")
        else:
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        if not rest:
            return f"%!{match[2]}(MISSING)"
        value = rest.pop(0)
        if match[2] == "q":
            return f"%{match[1]}s" % gojson.encode(show(value))
        if match[2] in "vs":
            return f"%{match[1]}s" % show(value)
        return str(f"%{match[1]}{match[2]}" % value)

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([vsdqfgtxX%])", one, form)


def _first(values: tuple[Any, ...], wanted: bool) -> Any:
    for value in values:
        if _truth(value) is wanted:
            return value
    return values[-1]


def _truncate(text: str, length: int) -> str:
    return text[:length]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: gojson.encode(value),
    "split": lambda text, separator: str(text).split(separator),
    "join": lambda items, separator: separator.join(show(item) for item in items or []),
    "title": lambda text: str(text)[:1].upper() + str(text)[1:],
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "truncate": _truncate,
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "print": lambda *values: "".join(show(value) for value in values),
    "printf": _printf,
    "len": lambda value: len(value or ""),
    "index": _index,
    "slice": lambda value, *bounds: value[slice(*bounds)] if bounds else value,
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, second: first != second,
    "lt": lambda first, second: first < second,
    "le": lambda first, second: first <= second,
    "gt": lambda first, second: first > second,
    "ge": lambda first, second: first >= second,
    "and": lambda *values: _first(values, False),
    "or": lambda *values: _first(values, True),
    "not": lambda value: not _truth(value),
}
