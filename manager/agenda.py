"""What a loop still has to look at: ids that a change has touched, and ids that fall due at a known time. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Agenda:
    """Ids in the order in which they came up, each once."""

    __slots__ = ("_due", "_ids")

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._due: dict[str, int] = {}

    def mark(self, id: str) -> None:
        """This one is worth a look."""
        self._ids[id] = None

    def mark_all(self, ids: Iterable[str]) -> None:
        """All of these are."""
        self._ids.update(dict.fromkeys(ids))

    def at(self, id: str, when: int) -> None:
        """This one is worth a look at `when` (ns) at the latest; the earliest of several times counts."""
        self._due[id] = min(when, self._due.get(id, when))

    def pending(self, now: int) -> bool:
        """Whether there is something to look at."""
        return bool(self._ids) or any(when <= now for when in self._due.values())

    def take(self, now: int) -> list[str]:
        """All that is to be looked at now; forgotten here."""
        for id in [id for id, when in self._due.items() if when <= now]:
            self._ids[id] = None
        taken = list(self._ids)
        self._ids.clear()
        for id in taken:
            self._due.pop(id, None)
        return taken

    def next(self) -> int | None:
        """The time at which the next one falls due."""
        return min(self._due.values(), default=None)

    def clear(self) -> None:
        """Forgets everything."""
        self._ids.clear()
        self._due.clear()
