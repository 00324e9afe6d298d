"""A subset of Go's text/template, for --format: enough for what people write there.

Fields and chained fields, pipelines, variables, if/else if/else, range/else, with, comments and trimming, and the
functions of Go and of `docker` (json, join, split, upper, lower, title, pad, truncate, println, printf, index,
len, slice, eq …, and, or, not). Values are JSON's: maps, lists, text, numbers, booleans, None. Pure; called by
`cli.output.listing` and `cli.output.inspecting`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cli.output import gojson
from cli.output.template_parser import Branch, Node, Operand, Pipeline, Print, TemplateError, Text, parse

Methods = Mapping[str, Callable[[str], str]]
_MISSING = "<no value>"


class _Missing:
    """A field that isn't there."""


MISSING = _Missing()


class Template:
    """A parsed template; `render` is called once for each value."""

    def __init__(self, text: str, zeroes: Mapping[str, Any] | None = None) -> None:
        """`zeroes`: what fields are that JSON leaves out when they're empty."""
        self._nodes = parse(text, FUNCTIONS)
        self._zeroes = zeroes or {}

    def render(self, value: Any, methods: Methods | None = None) -> str:
        """`methods`: what the value can be asked with words behind it, as in {{.Label "zone"}}."""
        run = _Run(self._zeroes, methods or {})
        return "".join(run.nodes(self._nodes, value, {"$": value}))

    @property
    def first_fields(self) -> list[str]:
        """The plain fields that are printed, in order: they name the columns of a table."""
        names = []
        for node in self._nodes:
            if isinstance(node, Print):
                for command in node.pipeline.commands:
                    names += [
                        operand.path[0] for operand in command if operand.kind == "field" and operand.path
                    ]
        return names


class _Run:
    """One rendering. `dot` is the current value, `scope` the variables."""

    def __init__(self, zeroes: Mapping[str, Any], methods: Methods) -> None:
        self._zeroes = zeroes
        self._methods = methods

    def nodes(self, nodes: tuple[Node, ...], dot: Any, scope: dict[str, Any]) -> list[str]:
        written: list[str] = []
        for node in nodes:
            if isinstance(node, Text):
                written.append(node.text)
            elif isinstance(node, Print):
                value = self._evaluate(node.pipeline, dot, scope)
                if not node.pipeline.targets:
                    written.append(show(value))
            else:
                written += self._branch(node, dot, scope)
        return written

    def _branch(self, node: Branch, dot: Any, scope: dict[str, Any]) -> list[str]:
        if node.keyword != "range":
            inner = dict(scope)
            value = self._evaluate(node.pipeline, dot, inner)
            if not _truth(value):
                return self.nodes(node.otherwise, dot, scope)
            return self.nodes(node.body, value if node.keyword == "with" else dot, inner)
        value = self._evaluate(Pipeline((), node.pipeline.commands), dot, scope)
        items = _items(value)
        if not items:
            return self.nodes(node.otherwise, dot, scope)
        written: list[str] = []
        for key, item in items:
            inner = dict(scope)
            if len(node.pipeline.targets) == 1:
                inner[node.pipeline.targets[0]] = item
            elif len(node.pipeline.targets) == 2:
                inner[node.pipeline.targets[0]] = key
                inner[node.pipeline.targets[1]] = item
            written += self.nodes(node.body, item, inner)
        return written

    def _evaluate(self, pipeline: Pipeline, dot: Any, scope: dict[str, Any]) -> Any:
        value: Any = MISSING
        piped = False
        for command in pipeline.commands:
            value = self._command(command, dot, scope, [value] if piped else [])
            piped = True
        for target in pipeline.targets:
            scope[target] = value
        return value

    def _command(
        self, command: tuple[Operand, ...], dot: Any, scope: dict[str, Any], piped: list[Any]
    ) -> Any:
        first = command[0]
        if first.kind == "function":
            arguments = [self._value(operand, dot, scope) for operand in command[1:]] + piped
            arguments = [None if argument is MISSING else argument for argument in arguments]
            try:
                return FUNCTIONS[first.value](*arguments)
            except TemplateError:
                raise
            except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
                raise TemplateError(f"error calling {first.value}: {error}") from None
        if first.kind == "field" and len(first.path) == 1 and first.path[0] in self._methods:
            words = [self._value(operand, dot, scope) for operand in command[1:]] + piped
            if len(words) != 1 or not isinstance(words[0], str):
                raise TemplateError(f"wrong arguments for {first.path[0]}: one word is wanted")
            return self._methods[first.path[0]](words[0])
        if len(command) > 1 or piped:
            raise TemplateError("can't give argument to non-function")
        return self._value(first, dot, scope)

    def _value(self, operand: Operand, dot: Any, scope: dict[str, Any]) -> Any:
        if operand.kind == "literal":
            return operand.value
        if operand.kind == "function":
            return self._command((operand,), dot, scope, [])
        if operand.kind == "pipeline":
            return self._follow(self._evaluate(operand.value, dot, scope), operand.path)
        if operand.kind == "variable":
            if operand.value not in scope:
                raise TemplateError(f'template: :1: undefined variable "{operand.value}"')
            return self._follow(scope[operand.value], operand.path)
        return self._follow(dot, operand.path)

    def _follow(self, value: Any, path: tuple[str, ...]) -> Any:
        for name in path:
            if isinstance(value, Mapping):
                value = value[name] if name in value else self._zeroes.get(name, MISSING)
            elif value is None or value is MISSING:
                raise TemplateError(f"nil pointer evaluating field {name}")
            else:
                raise TemplateError(f"can't evaluate field {name} in {_type(value)}")
        return value


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
