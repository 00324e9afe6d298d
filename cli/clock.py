"""The time of day and waiting, in one place so that tests can hold them. Used by listings and by progress."""

from __future__ import annotations

import time


def now() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


def steady() -> float:
    """Seconds on a clock that never jumps."""
    return time.monotonic()


def pause(seconds: float) -> None:
    time.sleep(seconds)
