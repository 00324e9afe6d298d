"""The endpoints loop's shell; started by manager/leader.py for a leader's term."""

from __future__ import annotations

from common.clock import Clock
from manager import loop
from manager.dispatcher.acks import Acks
from manager.endpoints.reconcile import Endpoints
from manager.store.store import Store


async def run(store: Store, clock: Clock, acks: Acks) -> None:
    """Runs until it is cancelled."""
    endpoints = Endpoints(acks)
    await loop.run(endpoints, store, clock, news=acks, heard=endpoints.acknowledged)
