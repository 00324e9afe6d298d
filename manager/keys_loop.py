"""The keys loop's shell; started by manager/leader.py for a leader's term.

SHOAL_KEY_INTERVAL in the daemon's environment says how many seconds lie between two turns, for tests of what happens then.
"""

from __future__ import annotations

import os
from typing import Final

from common.clock import Clock
from manager import keys, lifecycle, loop
from manager.store.store import Store

_VARIABLE: Final = "SHOAL_KEY_INTERVAL"
_LEAST: Final = 10  # every node must have heard of a turn before the next one


def interval(asked: str) -> int:
    """In nanoseconds; what isn't a number counts as nothing."""
    return max(int(asked), _LEAST) * lifecycle.SECOND if asked.isdecimal() else keys.INTERVAL


async def run(store: Store, clock: Clock) -> None:
    """Runs until it is cancelled."""
    made = keys.Keys(os.urandom, interval(os.environ.get(_VARIABLE, "")))
    await loop.run(made, store, clock)
