"""The orchestrator's shell; started by manager/leader.py for a leader's term."""

from __future__ import annotations

from collections.abc import Callable

from common.clock import Clock
from common.ids import new_id as random_id
from manager import loop
from manager.orchestrator.reconcile import Orchestrator
from manager.store.store import Store


async def run(store: Store, clock: Clock, new_id: Callable[[], str] = random_id) -> None:
    """Runs until it is cancelled."""
    await loop.run(Orchestrator(new_id), store, clock)
