"""Lifeguard's local health: how far this member should doubt itself before it accuses others. Pure; probing.py asks.

The score grows by one when a probe of ours fails although others could have answered, when nacks that we asked for stay
out, and when somebody suspects us; it shrinks with each probe that is answered. All waits of a probe are multiplied by
score + 1, so that a slow member accuses slowly. (Dadgar, Phillips, Currey: Lifeguard, 2017.)
"""

from __future__ import annotations


class Awareness:
    """0 is well; `most` - 1 is the worst."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.score = 0

    def apply(self, delta: int) -> None:
        self.score = max(0, min(self._most - 1, self.score + delta))

    def scale(self, seconds: float) -> float:
        return seconds * (self.score + 1)
