"""The `filters` parameter: JSON in its two forms, {"name": {"x": true}} and {"name": ["x"]}. Pure; used by the nouns."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from common import errors, model

Filters = Mapping[str, tuple[str, ...]]


def parse(text: str, known: Collection[str]) -> Filters:
    """Values by key; raises errors.InvalidArgument for what isn't a filter, or a key that is not `known`."""
    if not text:
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise errors.InvalidArgument(f"invalid filter: {exc}") from exc
    if not isinstance(data, dict):
        raise errors.InvalidArgument("invalid filter: it must be a JSON object")
    found: dict[str, tuple[str, ...]] = {}
    for key, values in data.items():
        if key not in known:
            raise errors.InvalidArgument(f"Invalid filter '{key}'")
        found[key] = tuple(_values(key, values))
    return found


def _values(key: str, values: object) -> Iterable[str]:
    if isinstance(values, dict):
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


def truth(values: Iterable[str]) -> bool | None:
    """A filter that is a boolean (dangling=true); None for none; raises errors.InvalidArgument for another word."""
    words = {value.lower() for value in values}
    if not words:
        return None
    if words <= {"1", "true"}:
        return True
    if words <= {"0", "false"}:
        return False
    raise errors.InvalidArgument(f"invalid filter: {', '.join(sorted(words))} is no boolean")
