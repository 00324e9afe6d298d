"""What users type to mean one of many: an id, a name, or the beginning of an id. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def matches(things: Iterable[T], ref: str, id_of: Callable[[T], str], name_of: Callable[[T], str]) -> list[T]:
    """What `ref` may mean: an exact id, else that name, else every id that begins so."""
    everything = list(things)
    return (
        [thing for thing in everything if id_of(thing) == ref]
        or [thing for thing in everything if name_of(thing) == ref]
        or [thing for thing in everything if ref and id_of(thing).startswith(ref)]
    )
