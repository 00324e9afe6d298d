"""Memory that a daemon has freed goes back to the kernel. Run by both daemons for as long as they live.

glibc keeps what lies between blocks still in use; after a burst (an image pulled, thirty tasks started) that is some
7 MB for ever. Giving it back takes about a millisecond, once a minute.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import Final

EVERY: Final = 60.0


def settle() -> None:
    """At the end of start-up: what it made stays, so later collections need not look at it."""
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Returns free pages to the kernel; does nothing where the C library has no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def keep_small() -> None:
    """For ever."""
    while True:
        await asyncio.sleep(EVERY)
        give_back()
