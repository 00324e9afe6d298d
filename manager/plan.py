"""What one pass of a leader's loop decides: changes to commit together, and the sentence that says why.

Every loop of the leader has the same shape: `reconcile(view, now, ...)` looks at the store and fills a Plan, and
manager/loop.py commits it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from common import model
from manager.store.view import StoreObject

Object = model.Cluster | model.Node | model.Service | model.Task | model.Network
Key = tuple[str, str]

LIMIT: Final = 200  # changes in one transaction
_SENTENCES: Final = 6


class Change(Protocol):
    """One object's change, as the store tells it: `old` is None for a new object, `new` for one that is gone."""

    @property
    def old(self) -> StoreObject | None:
        """Before."""

    @property
    def new(self) -> StoreObject | None:
        """After."""

    @property
    def subject(self) -> StoreObject:
        """The object as it is now, or as it was when it went."""


def key_of(obj: Object) -> Key:
    """(kind, id), as a plan's changes are keyed."""
    return type(obj).__name__, obj.id


@dataclass(slots=True)
class Plan:
    """Changes of one pass; None stands for a removal."""

    changes: dict[Key, Object | None] = field(default_factory=dict)
    originals: dict[Key, Object] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    limit: int = LIMIT
    _journal: list[tuple[Key, Object | None, bool]] = field(default_factory=list)

    def put(self, obj: Object) -> None:
        """Writes `obj`, whatever this plan said of it before."""
        self._set(key_of(obj), obj)

    def remove(self, obj: Object) -> None:
        """Removes `obj` from the store."""
        key = key_of(obj)
        self.originals[key] = obj
        self._set(key, None)

    def say(self, sentence: str) -> None:
        """One reason, in words for the log."""
        self.why.append(sentence)

    @property
    def full(self) -> bool:
        """No further object may be taken up: the rest goes into another transaction."""
        return len(self.changes) >= self.limit

    def sentence(self) -> str:
        """All reasons as one line."""
        shown = self.why[:_SENTENCES]
        more = len(self.why) - len(shown)
        return "; ".join(shown) + (f"; and {more} more" if more else "")

    def attempt(self, work: Callable[[], None]) -> Exception | None:
        """Runs `work`; when it raises, takes back what it put and returns the error.

        This is where an object that a loop cannot handle is parted from all others: the caller parks it.
        """
        mark, said = len(self._journal), len(self.why)
        try:
            work()
        except Exception as exc:  # noqa: BLE001 - whatever one object provokes must not end the leader's term
            while len(self._journal) > mark:
                key, before, known = self._journal.pop()
                if known:
                    self.changes[key] = before
                else:
                    del self.changes[key]
            del self.why[said:]
            return exc
        return None

    def _set(self, key: Key, obj: Object | None) -> None:
        self._journal.append((key, self.changes.get(key), key in self.changes))
        self.changes[key] = obj
