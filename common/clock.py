"""Clocks as parameters, so that everything above runs on a virtual one in tests.

`now_ns` is wall time (for what users read), `monotonic` is boot time (for deadlines: it goes on while a machine sleeps).
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What code that waits or stamps is given."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""


class SystemClock:
    """The machine's own."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
