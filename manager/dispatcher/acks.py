"""What the agents have acknowledged: the store index up to which each node's kernel stands as assigned.

Local to the leader and lost with its term; agents say it again when they connect. Written by the dispatcher, read by
endpoints (withdrawing), allocator (resting addresses) and by the dispatcher itself (peers of a new task). No I/O.
"""

from __future__ import annotations

from collections.abc import Callable


class Acks:
    """Nodes with a live session, and their acknowledged index."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._live: set[str] = set()
        self._callbacks: list[Callable[[str], None]] = []

    def connected(self, node_id: str) -> None:
        """A session has begun; what the node said before still holds."""
        self._live.add(node_id)
        self._tell(node_id)

    def disconnected(self, node_id: str) -> None:
        """No session of the node is left."""
        self._live.discard(node_id)
        self._tell(node_id)

    def record(self, node_id: str, index: int) -> None:
        """The node has acknowledged `index`."""
        if index > self._index.get(node_id, -1):
            self._index[node_id] = index
            self._tell(node_id)

    def forget(self, node_id: str) -> None:
        """The node starts from nothing: what it acknowledged counts no more."""
        if self._index.pop(node_id, None) is not None:
            self._tell(node_id)

    def index(self, node_id: str) -> int:
        """The last acknowledged index; -1 when this term has heard none."""
        return self._index.get(node_id, -1)

    def live(self, node_id: str) -> bool:
        """Whether the node has a session."""
        return node_id in self._live

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Calls `callback` with a node's id whenever one of the above has changed for it."""
        self._callbacks.append(callback)

    def unsubscribe(self, callback: Callable[[str], None]) -> None:
        """Ends a subscription."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def _tell(self, node_id: str) -> None:
        for callback in tuple(self._callbacks):
            callback(node_id)
