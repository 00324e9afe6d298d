"""A network that loses, doubles, delays and reorders, by its own dice; it carries anything between numbered places."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

from tests.simulation.raft.clock import Clock


class Network:
    """Links have a direction each: `cut` may close one of the two."""

    __slots__ = (
        "_arrivals",
        "clock",
        "closed",
        "delay",
        "drop",
        "duplicate",
        "floor",
        "ordered",
        "rng",
        "slow",
    )

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.drop = 0.0
        self.duplicate = 0.0
        self.floor = 0.05
        self.delay = 0.25
        """Mean of what comes on top of the floor."""
        self.ordered = False
        """Whether a link keeps its order, as a stream does."""
        self.closed: set[tuple[int, int]] = set()
        self.slow: dict[tuple[int, int], float] = {}
        self._arrivals: dict[tuple[int, int], float] = {}

    def send(
        self, source: int, target: int, arrive: Callable[..., None], *args: Any, once: bool = False
    ) -> bool:
        """Calls `arrive` when it gets there, perhaps twice unless `once`; False if it is lost."""
        rng = self.rng
        link = (source, target)
        if (link in self.closed) or (self.drop and rng.random() < self.drop):
            return False
        self._carry(link, arrive, args)
        if self.duplicate and not once and rng.random() < self.duplicate:
            self._carry(link, arrive, args)
        return True

    def _carry(self, link: tuple[int, int], arrive: Callable[..., None], args: tuple[Any, ...]) -> None:
        delay = self.floor + self.rng.expovariate(1.0) * self.delay
        if self.slow:
            delay *= self.slow.get(link, 1.0)
        if self.ordered:
            due = max(self.clock.now + delay, self._arrivals.get(link, 0.0))
            self._arrivals[link] = due
            delay = due - self.clock.now
        self.clock.at(delay, arrive, *args)

    def cut(self, sources: Iterable[int], targets: Collection[int]) -> None:
        """Nothing gets from one side to the other; the way back stays open."""
        self.closed.update((a, b) for a in sources for b in targets if a != b)

    def split(self, ours: Collection[int], theirs: Collection[int]) -> None:
        """Nothing gets across, in either direction."""
        self.cut(ours, theirs)
        self.cut(theirs, ours)

    def heal(self) -> None:
        """All links work and are as fast as usual; nobody queues behind what was slow."""
        self.closed.clear()
        self.slow.clear()
        self._arrivals.clear()

    def calm(self) -> None:
        """From now on it only delays."""
        self.heal()
        self.drop = self.duplicate = 0.0
