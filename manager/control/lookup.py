"""Finding objects by what users type (id, name, unique prefix of an id), and filters of lists. Pure; used by Control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from common import errors, model
from manager.store.view import ReadView, StoreObject

T = TypeVar("T", bound=StoreObject)


def _one(kind: str, ref: str, found: Sequence[T]) -> T:
    if not found:
        raise errors.NotFound(f"{kind} {ref} not found")
    if len(found) > 1:
        raise errors.ShoalError(f"{kind} {ref} is ambiguous ({len(found)} matches found)")
    return found[0]


def node(view: ReadView, ref: str) -> model.Node:
    """The node that `ref` means; raises errors.NotFound, or ShoalError for an ambiguous one."""
    if (exact := view.nodes.get(ref)) is not None:
        return exact
    return _one("node", ref, view.nodes.by_hostname(ref) or (view.nodes.by_prefix(ref) if ref else ()))


def service(view: ReadView, ref: str) -> model.Service:
    """The service that `ref` means."""
    if (exact := view.services.get(ref) or view.services.by_name(ref)) is not None:
        return exact
    return _one("service", ref, view.services.by_prefix(ref) if ref else ())


def network(view: ReadView, ref: str) -> model.Network:
    """The network that `ref` means; one that has been removed and only waits for its tasks is none any more."""
    exact = view.networks.get(ref) or view.networks.by_name(ref)
    if exact is not None and not exact.pending_delete:
        return exact
    found = view.networks.by_prefix(ref) if ref else ()
    return _one("network", ref, [network for network in found if not network.pending_delete])


def config(view: ReadView, ref: str) -> model.Config:
    """The config that `ref` means."""
    if (exact := view.configs.get(ref) or view.configs.by_name(ref)) is not None:
        return exact
    return _one("config", ref, view.configs.by_prefix(ref) if ref else ())


def task(view: ReadView, ref: str) -> model.Task:
    """The task that `ref` means."""
    if (exact := view.tasks.get(ref)) is not None:
        return exact
    return _one("task", ref, view.tasks.by_prefix(ref) if ref else ())


# ---- filters

Terms = Mapping[str, Sequence[str]]


def grouped(filters: Iterable[model.FilterTerm]) -> Terms:
    """Filter values by key. An object passes when each key has a value that it meets (all of them for labels)."""
    terms: dict[str, list[str]] = {}
    for term in filters:
        terms.setdefault(term.key, []).append(term.value)
    return terms


def begins(text: str, prefixes: Sequence[str]) -> bool:
    """Whether a text has one of the prefixes."""
    return any(text.startswith(prefix) for prefix in prefixes)


def labelled(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Whether every `key` or `key=value` is among the labels."""
    for term in wanted:
        key, equals, value = term.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def select(
    objects: Iterable[T], terms: Terms, tests: Mapping[str, Callable[[T, Sequence[str]], bool]]
) -> list[T]:
    """The objects that pass every filter, by id."""
    chosen = [thing for thing in objects if all(tests[key](thing, values) for key, values in terms.items())]
    return sorted(chosen, key=lambda thing: thing.id)
