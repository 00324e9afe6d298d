"""The shell that all loops of the leader share: hear of changes, plan, commit, say in one sentence what and why.

A loop's own logic is a Reconciler: it remembers what a change has made worth looking at, and plans for that. Plans are
made inside the store's transaction, so that what they have seen is what they change. Timers are armed only for
deadlines that a reconciler names. Used by manager/*/loop.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from common.clock import Clock
from manager.plan import Change, Plan
from manager.store.store import ChangeSet, Store, Transaction
from manager.store.view import ReadView

_SECOND: Final = 1_000_000_000


class Reconciler(Protocol):
    """One loop's logic; pure, apart from remembering what to look at."""

    @property
    def name(self) -> str:
        """Of the loop, in the log."""

    def reset(self, view: ReadView) -> None:
        """Everything is worth a look: a term begins, or changes are not known one by one."""

    def observe(self, change: Change, view: ReadView) -> None:
        """One change of the store has been applied; `view` shows it."""

    def pending(self, now: int) -> bool:
        """Whether there is something to look at."""

    def deadline(self) -> int | None:
        """When something falls due (wall time, ns)."""

    def reconcile(self, view: ReadView, now: int) -> Plan:
        """Plans for all that is pending, as far as one transaction goes; what is left stays pending."""


class News(Protocol):
    """Something outside the store that a loop listens to: the agents' acknowledgements."""

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Calls `callback` with a node's id for each piece of news."""

    def unsubscribe(self, callback: Callable[[str], None]) -> None:
        """Ends that."""


async def run(
    reconciler: Reconciler,
    store: Store,
    clock: Clock,
    news: News | None = None,
    heard: Callable[[str], None] | None = None,
) -> None:
    """Runs one loop until it is cancelled, at the end of the leader's term. `news` go to `heard`, then wake the loop."""
    event = asyncio.Event()

    def applied(changes: ChangeSet) -> None:
        if changes.resync:
            reconciler.reset(store.view())
        for change in changes.changes:
            reconciler.observe(change, store.view())
        event.set()

    def told(node_id: str) -> None:
        if heard is not None:
            heard(node_id)
        event.set()

    store.subscribe(applied)
    if news is not None:
        news.subscribe(told)
    try:
        reconciler.reset(store.view())
        while True:
            event.clear()
            await _passes(reconciler, store, clock)
            await _wait(event, clock, reconciler.deadline())
    finally:
        store.unsubscribe(applied)
        if news is not None:
            news.unsubscribe(told)


async def _wait(event: asyncio.Event, clock: Clock, deadline: int | None) -> None:
    timeout = None if deadline is None else max(0.0, (deadline - clock.now_ns()) / _SECOND)
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()


async def _passes(reconciler: Reconciler, store: Store, clock: Clock) -> None:
    log = logging.getLogger(reconciler.name)
    while reconciler.pending(clock.now_ns()):
        plan = await store.update(lambda tx: _commit(tx, reconciler.reconcile(tx.view, clock.now_ns())))
        if plan.why:
            log.info("%s", plan.sentence())


def _commit(tx: Transaction, plan: Plan) -> Plan:
    for key, thing in plan.changes.items():
        if thing is None:
            tx.remove(plan.originals[key])
        else:
            tx.put(thing)
    return plan
