"""A cancellation that was swallowed on the way, found again.

A TaskGroup whose child fails in the moment in which it is cancelled itself raises the child's error; so does a stream of
gRPC that fails in that moment. Loops that go on after an error call `still_wanted` first, so that they end when they were
told to: nobody tells them twice. Used by both daemons.
"""

from __future__ import annotations

import asyncio


def still_wanted() -> None:
    """Raises CancelledError when the running task has been cancelled."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
