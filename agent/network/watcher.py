"""When the kernel is looked at: on its news of changes by somebody else (watch.py, events.py), and in turns; for manager.py.

Nothing happens as long as the kernel says nothing. A burst is looked at once, and never more often than every second:
whoever deletes our objects in a loop gets them back that often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from agent.network.kernel import KernelError, describe

_log: Final = logging.getLogger(__name__)
COLLECT: Final = 0.05  # seconds
PAUSE: Final = 1.0  # after a look that found something, or failed
SLICE: Final = 16  # namespaces in one piece of work; so many of tasks are read afresh at a time


async def watch(
    descriptors: Callable[[], Sequence[int]],
    look: Callable[[], Awaitable[Mapping[str, str]]],
    drifted: Callable[[], None],
) -> None:
    """Until cancelled: `look` says which namespaces aren't as they were left, and why; `drifted` has them repaired."""
    while True:
        await _readable(descriptors())
        await asyncio.sleep(COLLECT)
        try:
            found = await look()
        except KernelError as error:
            _log.error("changes by others go unnoticed until the next reconciliation: %s", describe(error))
            await asyncio.sleep(PAUSE)
            continue
        if found:
            what = sorted(f"{name or 'host'} ({why})" for name, why in found.items())
            _log.info("changed by somebody else: %s", ", ".join(what))
            drifted()
            await asyncio.sleep(PAUSE)


async def _readable(descriptors: Sequence[int]) -> None:
    """Returns when there is something to read on one of them."""
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    for fd in descriptors:
        loop.add_reader(fd, news.set)
    try:
        await news.wait()
    finally:
        for fd in descriptors:
            loop.remove_reader(fd)


def next_turn(everybody: Sequence[str], last: str, count: int = SLICE) -> tuple[Sequence[str], str]:
    """Whose turn it is after `last`, of names in order, and what to call next with: from the start after the end."""
    left = [name for name in everybody if name > last] or everybody
    return left[:count], left[count - 1] if len(left) > count else ""
