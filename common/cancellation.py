"""Work that a cancellation must not cut through; and a cancellation that was swallowed on the way, found again.

`to_the_end` is for what stands half done otherwise: a container that is being made, or put back after a failure.

A TaskGroup whose child fails in the moment in which it is cancelled itself raises the child's error; so does a stream of
gRPC that fails in that moment. Loops that go on after an error call `still_wanted` first, so that they end when they were
told to: nobody tells them twice. Used by both daemons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def still_wanted() -> None:
    """Raises CancelledError when the running task has been cancelled."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Carries `work` out, however often its caller is cancelled meanwhile; the cancellation is raised after that."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is None or task.cancelled():
        return task.result()
    task.exception()  # it is looked at: nobody else will hear of it
    raise cancelled
