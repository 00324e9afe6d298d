"""What every part of the Control service has: the store, consensus, clock and randomness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common.clock import Clock
from manager.raft.consensus import Replicated
from manager.store.store import Store
from manager.store.tables import View


class ControlBase:
    """Reads are linearizable: each begins with `read`, which waits for every write that was acknowledged before."""

    def __init__(
        self,
        store: Store,
        consensus: Replicated,
        clock: Clock,
        node_id: str,
        new_id: Callable[[], str],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.store: Final = store
        self.consensus: Final = consensus
        self.clock: Final = clock
        self.new_id: Final = new_id
        self.entropy: Final = entropy
        self._node_id = node_id

    def own_id(self) -> str:
        """The id of the node that this manager runs on."""
        return self._node_id

    async def read(self) -> View:
        """The state, no older than the call. Use it without awaiting in between."""
        await self.consensus.read_index()
        return self.store.view()
