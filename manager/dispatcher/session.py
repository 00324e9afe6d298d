"""One agent's session, as the dispatcher keeps it: what is to be sent next, and what wakes the sender. No I/O.

Used by service.py: the reader and the store's changes set things here, the sender takes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from common import errors, model
from manager.dispatcher.feed import Feed

MOST_TOLD: Final = 64
"""Messages of network checks that wait for the stream; whoever asks on beyond that isn't answered."""


@dataclass(slots=True, eq=False)
class Session:
    """A node's stream."""

    id: str
    node_id: str
    instance: bytes
    machine: str
    address: str
    feed: Feed
    heard: float  # boot time of its last message
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    taken: int | None = None
    greet: bool = False
    assign: bool = True
    over: bool = False
    error: errors.ShoalError | None = None
    welcomed: model.Welcome | None = None
    refused: list[model.AttachmentRefused] = field(default_factory=list)  # to be told
    gossip: model.Unseen | None = None  # what its gossip says; None: nothing yet
    told: list[model.ManagerMessage] = field(default_factory=list)  # of network checks, to be sent

    def committed(self, sequence: int) -> None:
        """Statuses up to `sequence` are in the store."""
        self.taken = max(sequence, self.taken or 0)
        self.wake.set()

    def refuse(self, refused: Iterable[model.AttachmentRefused]) -> None:
        """Places in networks that containers of the node cannot have, of all that it has named: those from before are among them."""
        self.refused = list(refused)
        self.wake.set()

    def tell(self, message: model.ManagerMessage) -> None:
        """A message of its own, as soon as the stream takes it."""
        self.told.append(message)
        self.wake.set()

    @property
    def crowded(self) -> bool:
        """So many messages wait that no more questions are taken."""
        return len(self.told) >= MOST_TOLD

    def look(self) -> None:
        """The node's assignments may have changed."""
        self.assign = True
        self.wake.set()

    def greet_again(self) -> None:
        """What a welcome says may have changed."""
        self.greet = True
        self.wake.set()

    def end(self, error: errors.ShoalError | None = None) -> None:
        """The stream is to end; with an error that the agent is told. The first reason stays."""
        if not self.over:
            self.over, self.error = True, error
        self.wake.set()
