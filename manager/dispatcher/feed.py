"""The chain of assignment messages to one node: complete once, changes afterwards, each with its fence. Pure.

Each message says on top of which state it applies and what it results in, so an agent notices a lost one and asks for
everything again. A feed outlives sessions: an agent that comes back with the last state goes on from there.

Data of configs is bulky, so a message ends when it has enough. What is sent in several messages counts for a node as
heard with the last one: parts of a complete set say that more follows, and changes ahead of the last carry the index
that the node knows already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from common import model
from manager.dispatcher.assignments import Assignments, Desired, diff
from manager.dispatcher.dependencies import weight

CHUNK: Final = 500
BYTES: Final = 8 << 20  # of configs in one message


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
        known, self.heard = replace(fence, index=self.heard), fence.index
        return list(self._messages(changes, fence, known, complete))

    def _messages(
        self,
        changes: tuple[model.AssignmentChange, ...],
        fence: model.Fence,
        known: model.Fence,
        complete: bool,
    ) -> Iterator[model.Assignments]:
        chunks = _chunks(changes, CHUNK if complete else len(changes))
        for position, chunk in enumerate(chunks):
            first, last = position == 0, position + 1 == len(chunks)
            before, self.chain = self.chain, self._new_chain()
            yield model.Assignments(
                fence=fence if complete or last else known,
                complete=complete,
                applies_to="" if complete and first else before,
                results_in=self.chain,
                changes=chunk,
                more=complete and not last,
            )


def _chunks(
    changes: tuple[model.AssignmentChange, ...], count: int
) -> list[tuple[model.AssignmentChange, ...]]:
    """`changes` in their order, in parts of at most `count`, which end where they have BYTES; at least one part."""
    chunks: list[tuple[model.AssignmentChange, ...]] = []
    chunk: list[model.AssignmentChange] = []
    size = 0
    for change in changes:
        heavy = weight(change.assignment)
        if chunk and (len(chunk) >= count or size + heavy > BYTES):
            chunks.append(tuple(chunk))
            chunk, size = [], 0
        chunk.append(change)
        size += heavy
    return [*chunks, tuple(chunk)]
