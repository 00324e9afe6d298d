"""A limit of wall time for a piece of synchronous work: a simulated run that never ends, or has come to spin."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 5.0
"""Seconds between one blow and the next, as long as the work does not end."""


class Overlong(KeyboardInterrupt):
    """The work has had its time. Of this class because asyncio hands it on; what else a callback raises it only logs."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Overlong within the work, saying where it was, when the time is over; in the main thread only."""

    def over(number: int, frame: FrameType | None) -> None:
        raise Overlong(f"not over within {seconds:g} s; it was in {_place(frame)}")

    before = signal.signal(signal.SIGALRM, over)
    # More than once: what ends the work (tasks are cancelled, finally is run) may hang as the work did.
    left = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *left)  # a test has a limit of its own


def _place(frame: FrameType | None) -> str:
    """The innermost calls, the last of them first."""
    stack = traceback.extract_stack(frame)[-4:]
    return " < ".join(
        f"{call.name} ({call.filename.rpartition('/')[2]}:{call.lineno})" for call in reversed(stack)
    )
