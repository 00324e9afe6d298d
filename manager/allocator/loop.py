"""The allocator's shell; started by manager/leader.py for a leader's term."""

from __future__ import annotations

from common.clock import Clock
from manager import loop
from manager.allocator.reconcile import Allocator
from manager.dispatcher.acks import Acks
from manager.store.store import Store


async def run(store: Store, clock: Clock, acks: Acks) -> None:
    """Runs until it is cancelled."""
    allocator = Allocator(acks)
    await loop.run(allocator, store, clock, news=acks, heard=allocator.acknowledged)
