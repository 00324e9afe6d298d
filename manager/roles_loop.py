"""The leader's loop that makes managers and workers of nodes: takes the steps that roles.py plans.

One of the loops of leader.py. It looks again after every step, after every change of a node or of the agreement, and a
moment after a step that failed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from common import errors, model
from manager import roles
from manager.raft.consensus import Replicated
from manager.store.store import ChangeSet, Store, Transaction

log = logging.getLogger("roles")

RETRY: Final = 1.0
"""Seconds after a step that failed, unless something changes before."""


async def run(store: Store, consensus: Replicated, own_node_id: str) -> None:
    """Runs until it is cancelled, at the end of the leader's term."""
    news = asyncio.Event()

    def applied(changes: ChangeSet) -> None:
        if changes.resync or any(isinstance(c.subject, model.Node) for c in changes.changes):
            news.set()

    async def watch_members() -> None:
        while True:
            await consensus.changed()
            news.set()

    store.subscribe(applied)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch_members(), name="members")
            while True:
                news.clear()
                pause = await _steps(store, consensus, own_node_id)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await news.wait()
    finally:
        store.unsubscribe(applied)


async def _steps(store: Store, consensus: Replicated, own_node_id: str) -> float | None:
    """Takes steps until there are none; says after how long to try again one that failed."""
    while consensus.leader:  # until the one step that ends it
        step = roles.plan(store.view(), consensus.members(), own_node_id)
        if step is None:
            return None
        try:
            taken = await _take(step, store, consensus)
        except errors.ShoalError as exc:
            log.warning("%s, but: %s", step.why, exc.message)
            return RETRY
        if taken:
            log.info("%s", step.why)
    return None


async def _take(step: roles.Step, store: Store, consensus: Replicated) -> bool:
    if isinstance(step, roles.Write):
        return await store.update(lambda tx: _write(tx, step))
    if isinstance(step, roles.Remove):
        await consensus.remove(step.node_id)
    else:
        await consensus.transfer(step.to)
    return True


def _write(tx: Transaction, step: roles.Write) -> bool:
    """A node that was changed meanwhile is planned for anew."""
    if tx.view.nodes.get(step.after.id) != step.before:
        return False
    tx.put(step.after)
    return True
