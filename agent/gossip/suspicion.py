"""Lifeguard's dynamic suspicion: how long a suspect has to refute. Pure; membership.py keeps one per suspect.

It starts at `longest` and shrinks with the logarithm of independent confirmations to `shortest`, so that one member's
bad view takes long to kill and many members' equal view doesn't: longest − log(c + 1) / log(k + 1) · (longest − shortest),
k being the confirmations that are expected of a cluster of this size.
"""

from __future__ import annotations

import math


def shortest_suspicion(mult: int, members: int, probe_interval: float) -> float:
    """Grows with the logarithm of the cluster: news need that long to get round."""
    return mult * max(1.0, math.log10(max(1, members))) * probe_interval


class Suspicion:
    """Of one member, first accused by `accuser` at `start`."""

    def __init__(self, start: float, accuser: str, expected: int, shortest: float, longest: float) -> None:
        self.start = start
        self._confirmed: set[str] = {accuser}
        self._expected = expected
        self._shortest = shortest
        self._longest = longest

    @property
    def confirmations(self) -> int:
        return len(self._confirmed) - 1

    def confirm(self, accuser: str) -> bool:
        """Whether this is news: another accuser, and fewer than were expected so far. Then it is passed on."""
        if accuser in self._confirmed or self.confirmations >= self._expected:
            return False
        self._confirmed.add(accuser)
        return True

    @property
    def deadline(self) -> float:
        """When the suspect is declared dead."""
        if self._expected < 1:
            return self.start + self._shortest
        share = math.log(self.confirmations + 1) / math.log(self._expected + 1)
        return self.start + max(self._shortest, self._longest - share * (self._longest - self._shortest))
