"""Who is Down: nodes whose beats stay out, and those that gossip gives up once their session has broken. Writes it into the store.

service.py tells it what it hears and runs it for a leader's term. The rules are liveness.py's and sightings.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from common import errors, model
from common.clock import Clock
from manager import lifecycle
from manager.dispatcher import registration, sightings
from manager.dispatcher.feed import Feed
from manager.dispatcher.liveness import MISSED, Liveness
from manager.dispatcher.session import Session
from manager.store.store import Store, Transaction

log = logging.getLogger("dispatcher")


class Lookout:
    """`sessions` are those of this moment by node, `feeds` has every node that had one with this leader."""

    def __init__(
        self, store: Store, clock: Clock, sessions: Mapping[str, Session], feeds: Mapping[str, Feed]
    ) -> None:
        self._store = store
        self._clock = clock
        self._sessions = sessions
        self._feeds = feeds
        self._opening: Counter[str] = Counter()  # sessions that are about to begin, by node
        self._liveness = Liveness()
        self._deadlines = asyncio.Event()
        self._sightings = asyncio.Event()

    @property
    def period(self) -> float:
        """Seconds between two beats."""
        return registration.period_of(self._store.view().cluster) / lifecycle.SECOND

    def begin(self) -> None:
        """A term begins: every node that is not Down gets its time to come."""
        up = [n.id for n in self._store.view().nodes.all() if not lifecycle.down(n)]
        self._liveness.start(up, self._clock.monotonic(), self.period)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_beats(), name="dispatcher beats")
            group.create_task(self._watch_sightings(), name="dispatcher sightings")

    @contextmanager
    def opening(self, node_id: str) -> Iterator[None]:
        """Nobody says of a node that it is silent while its session is being opened."""
        self._opening[node_id] += 1
        try:
            yield
        finally:
            self._opening[node_id] -= 1
            if not self._opening[node_id]:
                del self._opening[node_id]
            if node_id not in self._sessions:
                self._sightings.set()  # what gossip says of it counts again
            node = self._store.view().nodes.get(node_id)
            if not lifecycle.down(node) and not self._liveness.heard(node_id):
                self.expect(
                    node_id
                )  # its time was up meanwhile, which nobody has written down: it has some more

    def expect(self, node_id: str) -> None:
        """A session of the node is about to begin: its beats are waited for."""
        self.heard(node_id, self._clock.monotonic())
        self._deadlines.set()

    def heard(self, node_id: str, at: float) -> None:
        """The node said something."""
        self._liveness.beat(node_id, at, self.period)

    def look(self) -> None:
        """A node's gossip says something else, or its session has ended."""
        self._sightings.set()

    def forget(self, node_id: str) -> None:
        """The node is removed."""
        self._liveness.forget(node_id)

    async def _watch_beats(self) -> None:
        while True:
            planned = self._liveness.next()
            self._deadlines.clear()
            timeout = None if planned is None else max(0.0, planned - self._clock.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._deadlines.wait()
            if planned is None:
                continue
            now = self._clock.monotonic()
            for node_id in self._liveness.expired(now, planned, self.period):
                why = f"nothing heard for {MISSED * self.period:.0f} s"
                await self._down(node_id, "heartbeat failure", why)

    async def _watch_sightings(self) -> None:
        """Compares what gossip says with the sessions, whenever one of the two has changed."""
        while True:
            await self._sightings.wait()
            self._sightings.clear()
            reports = {s.node_id: s.gossip for s in self._sessions.values() if s.gossip is not None}
            dead, gone = sightings.dead(reports), sightings.gone(reports)
            for node_id in sorted(gone & self._feeds.keys() - self._sessions.keys()):  # theirs have broken
                node = self._store.view().nodes.get(node_id)
                if not (node_id in self._sessions or node_id in self._opening) and sightings.believed(node):
                    self._liveness.forget(node_id)
                    await self._down(node_id, sightings.GONE, sightings.GONE)
            if any(self._differs(node_id, dead) for node_id in self._sessions):
                await self._store.update(partial(self._show, dead))

    def _differs(self, node_id: str, dead: frozenset[str]) -> bool:
        node = self._store.view().nodes.get(node_id)
        return node is not None and sightings.shown(node, node_id in dead) is not node

    def _show(self, dead: frozenset[str], tx: Transaction) -> None:
        for node_id in sorted(self._sessions):
            node = tx.view.nodes.get(node_id)
            if node is not None and (shown := sightings.shown(node, node_id in dead)) is not node:
                tx.put(shown)
                if node_id in dead:
                    log.warning("node %s is %s", lifecycle.hostname(node, node_id), sightings.UNSEEN)

    async def _down(self, node_id: str, message: str, why: str) -> None:
        if self._liveness.heard(node_id):
            return  # while others were written down
        session = self._sessions.get(node_id)
        if session is not None:
            session.end(errors.Unavailable("no heartbeat was heard for too long"))

        def change(tx: Transaction) -> model.Node | None:
            node = tx.view.nodes.get(node_id)
            if (
                node is None
                or lifecycle.down(node)
                or self._liveness.heard(node_id)
                or node_id in self._opening
            ):
                return None  # a session that begins meanwhile has seen a node that is Ready
            return tx.put(registration.down_node(node, self._clock.now_ns(), message))

        node = await self._store.update(change)
        if node is not None:
            log.warning("node %s is Down: %s", lifecycle.hostname(node, node_id), why)
