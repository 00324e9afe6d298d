"""The window of appends that were sent to a follower and not yet acknowledged; used by progress.py."""

from __future__ import annotations

from collections import deque

from manager.raft.core.errors import Inconsistent


class Inflights:
    """Last index and bytes of each message, in order; full by number or by bytes (0: bytes don't matter)."""

    __slots__ = ("_window", "bytes", "max_bytes", "size")

    def __init__(self, size: int, max_bytes: int = 0) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._window)

    def clone(self) -> Inflights:
        """A copy that lives its own life."""
        other = Inflights(self.size, self.max_bytes)
        other.bytes = self.bytes
        other._window = self._window.copy()
        return other

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent; the message that goes over the bytes is still let in."""
        return len(self._window) >= self.size or 0 < self.max_bytes <= self.bytes

    def add(self, index: int, size: int) -> None:
        """A message whose last entry is `index` was sent."""
        if self.full:
            raise Inconsistent("a message was sent though the window is full")
        self._window.append((index, size))
        self.bytes += size

    def free_to(self, index: int) -> None:
        """Everything up to `index` has arrived."""
        while self._window and self._window[0][0] <= index:
            self.bytes -= self._window.popleft()[1]

    def reset(self) -> None:
        """Nothing is under way."""
        self._window.clear()
        self.bytes = 0
