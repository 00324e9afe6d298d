"""The keys loop's shell; started by manager/leader.py for a leader's term."""

from __future__ import annotations

import os

from common.clock import Clock
from manager import loop
from manager.keys import Keys
from manager.store.store import Store


async def run(store: Store, clock: Clock) -> None:
    """Runs until it is cancelled."""
    await loop.run(Keys(os.urandom), store, clock)
