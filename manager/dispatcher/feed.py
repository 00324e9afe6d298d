"""The chain of assignment messages to one node: complete once, changes afterwards, each with its fence. Pure.

Each message says on top of which state it applies and what it results in, so an agent notices a lost one and asks for
everything again. A feed outlives sessions: an agent that comes back with the last state goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from common import model
from manager.dispatcher.assignments import Assignments, Desired, diff

CHUNK: Final = 500


class Feed:
    """What one node has been sent."""

    __slots__ = ("_new_chain", "_sent", "chain", "heard", "waiting")

    def __init__(self, new_chain: Callable[[], str]) -> None:
        self._new_chain = new_chain
        self._sent: Assignments | None = None
        self.chain = ""
        self.heard = -1
        self.waiting = False

    def resume(self, chain: str) -> None:
        """A session begins; `chain` is what the agent says it has. Anything else than the last state starts over."""
        if not chain or chain != self.chain:
            self._sent = None

    @property
    def fresh(self) -> bool:
        """The next message is a complete set."""
        return self._sent is None

    def step(self, wanted: Desired, fence: model.Fence) -> list[model.Assignments]:
        """The messages that bring the node to `wanted`; none when it is there and has heard all it needs."""
        self.waiting = wanted.waiting
        complete = self._sent is None
        changes = diff(self._sent or {}, wanted.items)
        if not complete and not changes and wanted.heard <= self.heard:
            return []
        self._sent = wanted.items
        self.heard = fence.index
        return list(self._messages(changes, fence, complete))

    def _messages(
        self, changes: tuple[model.AssignmentChange, ...], fence: model.Fence, complete: bool
    ) -> Iterator[model.Assignments]:
        chunks = [changes[i : i + CHUNK] for i in range(0, len(changes), CHUNK)] if complete else [changes]
        for position, chunk in enumerate(chunks or [()]):
            before, self.chain = self.chain, self._new_chain()
            yield model.Assignments(
                fence=fence,
                complete=complete,
                applies_to="" if complete and position == 0 else before,
                results_in=self.chain,
                changes=chunk,
                more=position + 1 < len(chunks),
            )
