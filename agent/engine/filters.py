"""The `filters` parameter: JSON in its two forms, {"name": {"x": true}} and {"name": ["x"]}. Pure; used by the nouns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from common import errors, gojson, model

Filters = Mapping[str, tuple[str, ...]]
# Of patterns: Python's expressions go back where Go's don't, so that only what stays quick is one here.
_LONGEST: Final = 128
_MOST_REPEATS: Final = 3
_STRANGE: Final = ("(?", "[[", "--", "&&", "~~", "||")  # other dialects, and what Python warns of


def parse(text: str, known: Collection[str] | None) -> Filters:
    """Values by key; raises errors.InvalidArgument for what isn't a filter, or a key that is not `known`."""
    if not text:
        return {}
    try:
        data = gojson.loads(text.encode("utf-8", "replace"))
    except errors.InvalidArgument as exc:
        raise errors.InvalidArgument(f"invalid filter: {exc.message.removeprefix(gojson.PREFIX)}") from exc
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise errors.InvalidArgument("invalid filter: it must be a JSON object")
    found: dict[str, tuple[str, ...]] = {}
    for key, values in data.items():
        if known is not None and key not in known:
            raise errors.InvalidArgument(f"Invalid filter '{key}'")
        if values not in ([], {}):  # nothing is asked for, as in Docker
            found[key] = tuple(_values(key, values))
    return found


def _values(key: str, values: object) -> Iterable[str]:
    if isinstance(values, dict) and all(isinstance(meant, bool) for meant in values.values()):
        return [str(value) for value, meant in values.items() if meant]
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    raise errors.InvalidArgument(f"invalid filter '{key}': its values must be strings")


def terms(filters: Filters) -> tuple[model.FilterTerm, ...]:
    """The filters as the managers take them."""
    return tuple(model.FilterTerm(key, value) for key, values in filters.items() for value in values)


def labels_match(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether every `key` or `key=value` is among the labels."""
    for term in wanted:
        key, equals, value = term.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def within(text: str, pattern: str) -> bool:
    """Whether a text has `pattern` in it; ^ and $ bind it to the beginning and the end, as clients like to do."""
    inner = pattern.removeprefix("^").removesuffix("$")
    if pattern.startswith("^") and pattern.endswith("$"):
        return text == inner
    if pattern.startswith("^"):
        return text.startswith(inner)
    return text.endswith(inner) if pattern.endswith("$") else inner in text


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether a text is one of `patterns`, or has one in it: they are regular expressions, as Docker's daemon has it."""
    return any(text == pattern or _has(text, pattern) for pattern in patterns)


def _has(text: str, pattern: str) -> bool:
    """One that is too much to look for as an expression stands for itself."""
    long = max(len(text), len(pattern)) > _LONGEST or sum(map(pattern.count, "*+?{")) > _MOST_REPEATS
    repeated = "(" in pattern and any(sign in pattern for sign in "*+{")  # groups that take long to look for
    if long or repeated or any(part in pattern for part in _STRANGE):
        return within(text, pattern)
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def truth(values: Iterable[str], key: str = "dangling") -> bool | None:
    """A filter that is a boolean (dangling=true); None for none; raises errors.InvalidArgument for another word."""
    words = set(values)
    if not words:
        return None
    if len(words) > 1:
        raise errors.InvalidArgument(f'got more than one value for filter key "{key}"')
    if words <= {"1", "true"}:
        return True
    if words <= {"0", "false"}:
        return False
    raise errors.InvalidArgument(
        f'invalid value for filter \'{key}\', must be "true" (or "1"), or "false" (or "0")'
    )
