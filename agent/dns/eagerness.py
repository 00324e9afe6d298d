"""Whether the name server should look for a client's next question at once, instead of sleeping until it is woken. Pure.

A client that asks one question after the other is mostly kept waiting by two wake-ups, its own and the server's. While its questions
follow within moments, server.py looks again for such a moment and spares one of them. A look in vain costs as much processor time, so
it takes many quick questions to earn the first, and twice as many after each that was in vain: two questions of one look-up earn none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOMENT: Final = 100e-6  # seconds
FIRST: Final = 16
MOST: Final = 4096


@dataclass(slots=True)
class Eagerness:
    """Of one client."""

    quick: int = 0  # questions in a row that came within a moment of the last answer
    needed: int = FIRST

    @property
    def earned(self) -> bool:
        """Whether to look again for a moment."""
        return self.quick >= self.needed

    def came(self, after: float) -> None:
        """A question, so many seconds after the answer before it."""
        self.quick = min(self.quick + 1, MOST) if after < MOMENT else 0

    def looked(self, found: bool) -> None:
        """A moment's look is over."""
        if found:
            self.needed = FIRST
        else:
            self.quick, self.needed = 0, min(2 * self.needed, MOST)
