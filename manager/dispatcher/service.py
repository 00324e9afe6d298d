"""The dispatcher: agents' sessions. It takes in what they report and sends each what it must know and run.

One per leader's term: `run` is one of the leader's loops, `session` serves the gRPC method of proto/dispatcher.proto
(a follower passes streams on to it). Nothing here works while nothing changes: heartbeats only move a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from common import errors, ids, model
from common.clock import Clock
from common.rpc import Caller
from manager import lifecycle
from manager.dispatcher import admission, attachments, check_plan, registration
from manager.dispatcher.acks import Acks
from manager.dispatcher.assignments import Interned, desired
from manager.dispatcher.checks import Checks
from manager.dispatcher.feed import Feed
from manager.dispatcher.interest import Interest
from manager.dispatcher.lookout import Lookout
from manager.dispatcher.session import Session
from manager.dispatcher.writer import StatusWriter
from manager.membership import Membership
from manager.store.store import NO_LEADER, ChangeSet, Store, Transaction

log = logging.getLogger("dispatcher")

HELLO_TIMEOUT: Final = 5.0
COALESCE: Final = 0.02  # seconds between two messages of assignments to one node


class Dispatcher:
    """See the module's text. `term` says in which term of consensus this leader is."""

    def __init__(
        self,
        store: Store,
        acks: Acks,
        clock: Clock,
        term: Callable[[], int],
        new_id: Callable[[], str] = ids.new_id,
        node_id: str = "",
    ) -> None:
        self._store = store
        self._acks = acks
        self._clock = clock
        self._term = term
        self._new_id = new_id
        self._writer = StatusWriter(store)
        self._members = Membership()
        self._interned = Interned()
        self._sessions: dict[str, Session] = {}
        self._feeds: dict[str, Feed] = {}
        self._lookout = Lookout(store, clock, self._sessions, self._feeds)
        self._checks = Checks(lambda: self._sessions, self._plan_check, self._services_of, clock, node_id)
        self._running = False

    # ---- one of the leader's loops

    async def run(self) -> None:
        """Serves sessions until it is cancelled, at the end of the leader's term."""
        self._members.reset(self._store.view())
        self._lookout.begin()
        self._store.subscribe(self._applied)
        self._acks.subscribe(self._acknowledged)
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer.run(), name="dispatcher writer")
                group.create_task(self._lookout.run(), name="dispatcher lookout")
                group.create_task(self._checks.run(), name="dispatcher checks")
        finally:
            self._running = False
            self._store.unsubscribe(self._applied)
            self._acks.unsubscribe(self._acknowledged)
            for session in list(self._sessions.values()):
                session.end(errors.Unavailable(NO_LEADER))

    # ---- what the store and the agents say

    def _applied(self, changes: ChangeSet) -> None:
        view = self._store.view()
        interest = Interest()
        if changes.resync:
            self._members.reset(view)
            interest.everyone = interest.greetings = True
        for change in changes.changes:
            self._members.apply(change)
            interest.add(change, self._members, view)
            if change.new is None:
                self._forget(change.subject)
        for session in self._sessions.values():
            if interest.everyone or session.node_id in interest.nodes:
                session.look()
            if interest.greetings:
                session.greet_again()

    def _forget(self, gone: object) -> None:
        if isinstance(gone, model.Task):
            self._interned.forget(f"task/{gone.id}")
            for attachment in gone.networks:
                self._interned.forget(f"endpoint/{gone.id}/{attachment.network_id}")
        elif isinstance(gone, model.Node):
            self._interned.forget(f"node/{gone.id}")
            self._lookout.forget(gone.id)
            self._feeds.pop(gone.id, None)
            self._acks.forget(gone.id)
            if (session := self._sessions.get(gone.id)) is not None:
                session.end(errors.PermissionDenied("this node was removed from the swarm"))
        elif isinstance(gone, model.Service):
            self._interned.forget(f"service/{gone.id}")
        elif isinstance(gone, model.Network):
            self._interned.forget(f"network/{gone.id}")
        elif isinstance(gone, model.Config):
            self._interned.forget(f"config/{gone.id}")

    def _acknowledged(self, node_id: str) -> None:
        """Tasks that wait for this node may be let go."""
        for session in self._sessions.values():
            if session.feed.waiting:
                session.look()

    # ---- sessions

    async def session(
        self, requests: AsyncIterator[model.AgentMessage], caller: Caller
    ) -> AsyncGenerator[model.ManagerMessage, None]:
        """Dispatcher.Session: one agent's stream, until either side ends it."""
        hello = await self._hello(requests)
        session = await self._open(hello, caller)
        reader = asyncio.create_task(self._read(session, requests), name=f"session of {session.node_id}")
        try:
            async for message in self._send(session):
                yield message
        finally:
            self._close(session)
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled() and (failure := reader.exception()) is not None:
                log.error("reading the session of node %s failed", session.node_id, exc_info=failure)

    async def _hello(self, requests: AsyncIterator[model.AgentMessage]) -> model.Hello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                first = await anext(requests, None)
        except TimeoutError as exc:
            raise errors.DeadlineExceeded("a session begins with a hello") from exc
        if first is None or first.hello is None:
            raise errors.InvalidArgument("a session begins with a hello")
        return first.hello

    async def _open(self, hello: model.Hello, caller: Caller) -> Session:
        if not self._running:
            raise errors.Unavailable(NO_LEADER)
        with self._lookout.opening(caller.node_id):
            return await self._greeted(hello, caller)

    async def _greeted(self, hello: model.Hello, caller: Caller) -> Session:
        node_id = caller.node_id
        self._admit(hello, caller)
        self._lookout.expect(node_id)

        def change(tx: Transaction) -> None:
            node = tx.view.nodes.get(node_id)
            if node is None:
                return
            described = registration.ready_node(node, hello, caller.address)
            if described != node:
                tx.put(described)

        await self._store.update(change)
        while (node := self._store.view().nodes.get(node_id)) is not None and lifecycle.down(node):
            await self._store.update(change)  # it was written down in the same entry
        # The term may have ended while this one was written down, and another session of the node may have come in.
        if not self._running:
            raise errors.Unavailable(NO_LEADER)
        self._admit(hello, caller)
        known = self._sessions.get(node_id)
        if known is not None:
            known.end(errors.Unavailable("another session of this node has taken over"))
            if known.instance != hello.instance:
                self._acks.forget(node_id)
        feed = self._feeds.setdefault(node_id, Feed(self._new_id))
        feed.resume(hello.chain)
        now = self._clock.monotonic()
        session = Session(
            id=self._new_id(),
            node_id=node_id,
            instance=hello.instance,
            machine=hello.description.machine,
            address=caller.address,
            feed=feed,
            heard=now,
        )
        self._sessions[node_id] = session
        self._lookout.heard(node_id, now)
        self._acks.connected(node_id)
        log.info("session of node %s from %s", hello.description.hostname or node_id, caller.address)
        return session

    def _admit(self, hello: model.Hello, caller: Caller) -> None:
        node = self._store.view().nodes.get(caller.node_id)
        known = self._sessions.get(caller.node_id)
        present = None
        if known is not None and not known.over:
            ago = self._clock.monotonic() - known.heard
            present = admission.Present(known.instance, known.machine, known.address, ago)
        try:
            admission.admit(node, hello, caller.address, present, self._lookout.period)
        except errors.ShoalError as exc:
            log.warning(
                "refused a session of node %s from %s: %s", caller.node_id, caller.address, exc.message
            )
            raise

    def _close(self, session: Session) -> None:
        session.end()
        if self._sessions.get(session.node_id) is session:
            del self._sessions[session.node_id]
            self._acks.disconnected(session.node_id)
            self._lookout.look()
            log.info("the session of node %s from %s has ended", session.node_id, session.address)

    # ---- from the agent

    async def _read(self, session: Session, requests: AsyncIterator[model.AgentMessage]) -> None:
        """Takes in what the agent says; the sender ends the stream with what went wrong here."""
        try:
            async for message in requests:
                if session.over:
                    break
                session.heard = self._clock.monotonic()
                self._lookout.heard(session.node_id, session.heard)
                await self._take(session, message)
        except errors.ShoalError as exc:
            session.end(exc)
        finally:
            session.end()

    async def _take(self, session: Session, message: model.AgentMessage) -> None:
        if message.acknowledge is not None:
            self._acks.record(session.node_id, message.acknowledge.index)
        elif message.statuses is not None:
            sequence = message.statuses.sequence
            self._writer.put(session.node_id, message.statuses, lambda: session.committed(sequence))
        elif message.description is not None:
            await self._describe(session.node_id, message.description)
        elif message.unseen is not None:
            session.gossip = message.unseen
            self._lookout.look()
        elif message.attachments is not None:
            await self._attach(session, message.attachments.held)
        elif message.ask is not None:
            self._checks.asked(session, message.ask)
        elif message.report is not None:
            self._checks.reported(session.node_id, message.report)

    async def _attach(self, session: Session, held: tuple[model.ContainerAttachment, ...]) -> None:
        def change(tx: Transaction) -> tuple[model.AttachmentRefused, ...]:
            written, refused = attachments.settle(tx.view, session.node_id, held, self._clock.now_ns())
            for task in written:
                tx.put(task)
            return refused

        if refused := await self._store.update(change):
            session.refuse(refused)

    async def _describe(self, node_id: str, description: model.NodeDescription) -> None:
        def change(tx: Transaction) -> None:
            node = tx.view.nodes.get(node_id)
            if node is None:
                return
            hello = model.Hello(description=description, addr=node.status.addr)
            if (described := registration.ready_node(node, hello, node.status.addr)) != node:
                tx.put(described)

        await self._store.update(change)

    # ---- to the agent

    async def _send(self, session: Session) -> AsyncIterator[model.ManagerMessage]:
        loop = asyncio.get_running_loop()
        session.welcomed = self._welcome(session)
        yield model.ManagerMessage(welcome=session.welcomed)
        while not session.over:
            if session.greet:
                session.greet = False
                welcome = self._welcome(session)
                if replace(welcome, fence=session.welcomed.fence) != session.welcomed:
                    session.welcomed = welcome
                    yield model.ManagerMessage(update=welcome)
            if session.taken is not None:
                taken, session.taken = session.taken, None
                yield model.ManagerMessage(taken=model.StatusesTaken(taken))
            while session.refused:
                yield model.ManagerMessage(refused=session.refused.pop(0))
            while session.told:
                yield session.told.pop(0)
            if session.assign:
                session.assign = False
                for message in self._assignments(session):
                    yield model.ManagerMessage(assignments=message)
                await _pause(session, loop.time() + COALESCE)
                continue
            await session.wake.wait()
            session.wake.clear()
        if session.error is not None:
            raise session.error

    def _welcome(self, session: Session) -> model.Welcome:
        view = self._store.view()
        node = view.nodes.get(session.node_id)
        if node is None:
            raise errors.PermissionDenied("this node was removed from the swarm")
        return registration.welcome(view, node, session.id, self._fence())

    def _assignments(self, session: Session) -> list[model.Assignments]:
        view, feed = self._store.view(), session.feed
        wanted = desired(view, self._members, self._interned, session.node_id, self._peers_ready, feed.fresh)
        return feed.step(wanted, self._fence())

    # ---- network checks

    def _plan_check(self, ask: model.CheckAsk, asker: str) -> check_plan.Planned:
        nonce = self._new_id().encode()
        return check_plan.planned(self._store.view(), self._members, ask, asker, self._sessions, nonce)

    def _services_of(self, network_id: str) -> tuple[model.CheckService, ...]:
        view = self._store.view()
        network = view.networks.get(network_id)
        return () if network is None else tuple(check_plan.services(view, self._members, network))

    def _fence(self) -> model.Fence:
        view = self._store.view()
        cluster = view.cluster
        return model.Fence(cluster_id=cluster.id, epoch=cluster.epoch, term=self._term(), index=view.index)

    def _peers_ready(self, task: model.Task) -> bool:
        """Every other node that takes part and has a session has this task's legs in its kernel."""
        if task.status.state >= model.TaskState.TASK_RUNNING:
            return True
        return not any(
            self._acks.index(node_id) < task.assigned_index
            for node_id in self._members.peers(task)
            if node_id != task.node_id and self._acks.live(node_id)
        )


def _more(session: Session) -> bool:
    """Whether there is something to say beside assignments."""
    return session.over or session.greet or session.taken is not None or bool(session.refused or session.told)


async def _pause(session: Session, until: float) -> None:
    """Lets changes gather until `until`, unless the session ends or has something else to say."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            while not _more(session):
                session.wake.clear()
                await session.wake.wait()
