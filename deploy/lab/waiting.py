"""Waits for what nobody announces: a process that ends, a file of another process, a socket that answers."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float, every: float = 0.01) -> bool:
    """Whether the condition came true within so many seconds; it is asked at least once."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True
