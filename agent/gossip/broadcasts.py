"""What is still to be told to others, each of it a limited number of times. Pure; swim.py queues, and fills packets from it.

SWIM spreads news on the back of other packets: each piece goes out retransmit_mult · ⌈log10(n + 1)⌉ times, the least told
first; below ten members twice as often as that, for there chance would have one piece in 250 pass some member by.
A newer message about the same subject takes an older one's place: two verdicts about one member never travel together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LEAST_SCALE: Final = 2
EACH: Final = 2  # bytes that a message costs beside its own: its length in a compound


@dataclass(slots=True)
class _News:
    message: bytes
    told: int
    order: int


class Broadcasts:
    """A queue by subject. Past `bound` subjects the most told one is dropped."""

    def __init__(self, retransmit_mult: int, bound: int = 4096) -> None:
        self._mult = retransmit_mult
        self._bound = bound
        self._news: dict[str, _News] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._news)

    def __contains__(self, subject: str) -> bool:
        return subject in self._news

    def queue(self, subject: str, message: bytes) -> None:
        if subject not in self._news and len(self._news) >= self._bound:
            del self._news[max(self._news, key=lambda name: (self._news[name].told, -self._news[name].order))]
        self._order += 1
        self._news[subject] = _News(message, 0, self._order)

    def clear(self) -> None:
        """There is nobody to tell."""
        self._news.clear()

    def limit(self, members: int) -> int:
        """How often each is told in a cluster of this size."""
        return self._mult * max(LEAST_SCALE, math.ceil(math.log10(members + 1)))

    def take(self, room: int, most: int, members: int) -> list[bytes]:
        """Messages for one packet: at most `most`, that fit `room` with their lengths. They count as told."""
        taken: list[bytes] = []
        if not self._news:
            return taken
        limit = self.limit(members)
        # Newest first among the equally told: old news have had their chance on earlier packets.
        for subject, news in sorted(self._news.items(), key=lambda item: (item[1].told, -item[1].order)):
            if len(taken) >= most or room <= EACH:
                break
            if len(news.message) + EACH > room:
                continue
            room -= len(news.message) + EACH
            taken.append(news.message)
            news.told += 1
            if news.told >= limit:
                del self._news[subject]
        return taken
