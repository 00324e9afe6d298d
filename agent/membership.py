"""Whether and as what this node belongs to a swarm: init, join, leave, and the session while it is a member.

The engine (agent/engine) calls it for `swarm …`, `info` and for the way to this node's own manager. Each change is whole or
not at all: what a failed init or join left behind is taken back. Texts are Docker's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent import admission, backups, description, fence, identity
from agent.applier import Applier
from agent.bootstrap import Bootstrap
from agent.check.checks import Checks
from agent.database import Contact, Database, TaskRecord
from agent.engine import backend
from agent.engine.backend import ALREADY_MEMBER, NOT_MEMBER, InitOptions, JoinOptions, RestoreOptions
from agent.identity import Identity
from agent.network.api import Network
from agent.own_manager import OwnManager
from agent.promotion import Promotion
from agent.renewal import Renewal
from agent.session import Link, Places, Session
from agent.standing import Standing
from agent.state import NodeState
from agent.statuses import StatusQueue
from agent.worker.worker import Worker
from common import errors, model
from common.model.stubs import ControlStub

log = logging.getLogger("membership")

NO_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm'
    " and try again."
)
NOT_MANAGER: Final = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this"
    " command on a manager node or promote the current node to a manager."
)
_UNLOCK_TIMEOUT: Final = 30.0
_LOCAL_TIMEOUT: Final = 20.0
_WELCOME_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The agent's other parts, made by agent/composition.py."""

    folder: Path
    database: Database
    applier: Applier
    statuses: StatusQueue
    worker: Worker
    network: Network
    routes: Callable[[], Awaitable[tuple[str, ...]]]
    manager_socket: str
    places: Places | None = None
    checks: Checks | None = None


async def _nothing() -> None:
    pass


class Membership:
    """agent/engine/backend.py's Swarm. One per agent. `run` keeps the session up while the node is a member."""

    def __init__(self, parts: Parts, contact: Contact) -> None:
        self._parts = parts
        self._standing = Standing(parts.folder, contact)
        self._session: Session | None = None
        self._pending = False
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._instance = os.urandom(16)
        self._manager = OwnManager(parts.manager_socket)
        self._bootstrap = Bootstrap(self._manager, parts.routes)
        self._promotion = Promotion(self._standing, self._manager)
        self._renewal = Renewal(self._standing)
        # Of agent/liveness.py: papers, managers, keys or the session may be others now; the node leaves its swarm.
        self.on_contact: Callable[[], None] = lambda: None
        self.on_leaving: Callable[[], Awaitable[None]] = _nothing
        if self.identity:
            self._begin_session()

    # ---- what info shows

    @property
    def identity(self) -> Identity | None:
        return self._standing.identity

    @property
    def contact(self) -> Contact:
        """What the managers said last."""
        return self._standing.contact

    @property
    def node_id(self) -> str:
        return self._standing.node_id

    def addresses(self) -> list[str]:
        """Where managers are, the best first."""
        return self._standing.addresses()

    def declare(self) -> None:
        """Single containers have other places in the swarm's networks."""
        if self._session is not None:
            self._session.declare()

    def tell(self, message: model.AgentMessage) -> bool:
        """Through the session; whether there is one."""
        return self._session is not None and self._session.tell(message)

    async def check_network(self, network_id: str) -> model.NetworkCheck:
        """Has the managers find out what keeps nodes apart on a network."""
        if self._parts.checks is None:
            raise errors.Unimplemented("this node cannot check networks")
        return await self._parts.checks.ask(network_id)

    @property
    def link(self) -> Link:
        return self._session.link if self._session else Link()

    def membership(self) -> backend.Membership:
        """Where the node stands, without asking anybody."""
        return self._standing.shown(self.link.error, joining=self._pending)

    def state(self) -> NodeState:
        """What the managers have assigned to this node."""
        return self._parts.applier.state

    async def describe(self) -> model.NodeDescription:
        """The node as it is now."""
        mine = self.identity
        return description.describe(
            mine.root.encode() if mine else b"",
            identity.machine_hash(),
            await self._parts.routes(),
            (mine.data_path_addr or mine.advertise_addr) if mine else "",
            encryption_lacks=self._parts.network.lacks_for_seals,
            masquerade=not self._parts.network.routes_by_mark,
        )

    # ---- this node's own manager

    def control(self) -> ControlStub:
        """The cluster's API; raises errors.Unavailable, as Docker words it, on a node that is no manager."""
        if self.identity is None:
            raise errors.Unavailable(NO_SWARM)
        if not self.identity.manager:
            raise errors.Unavailable(NOT_MANAGER)
        return ControlStub(self._manager.channel())

    async def wake_manager(self) -> None:
        """Connects to this node's manager, if it has one: under systemd that starts it after a reboot."""
        if self.identity and self.identity.manager:
            await self._manager.ask("Status", model.StatusRequest(), _LOCAL_TIMEOUT)

    # ---- init and join

    async def init(self, options: InitOptions) -> str:
        """Makes a swarm with this node as its first manager; answers with the node's id."""
        async with self._changing:
            if options.force_new_cluster:
                return await self._force_new_cluster(options)
            if self.identity:
                raise errors.Unavailable(ALREADY_MEMBER)
            papers = await self._bootstrap.init(options)
            try:
                await self._become(papers)
            except BaseException:
                await self._bootstrap.undo()
                raise
            return papers.node_id

    async def _force_new_cluster(self, options: InitOptions) -> str:
        """The swarm goes on with this node's manager alone. Tasks and networks stay as they are."""
        mine = self.identity
        if mine is None or not mine.manager:
            raise errors.Unavailable(NO_SWARM if mine is None else NOT_MANAGER)
        papers = await self._bootstrap.force_new_cluster(options, mine)
        self._standing.keep(papers)
        own = (model.ManagerAddress(mine.node_id, papers.manager_addr),)
        await self._known(replace(self.contact, managers=own))
        return mine.node_id

    async def join(self, options: JoinOptions) -> None:
        """Makes this node a member of an existing swarm; returns once a manager has welcomed it."""
        async with self._changing:
            if self.identity:
                raise errors.Unavailable(ALREADY_MEMBER)
            self._pending = True
            try:
                papers, role = await admission.admit(options)
                await self._become(papers)
                if role == model.NodeRole.MANAGER:
                    await self._as_manager(papers)
            finally:
                self._pending = False

    async def _as_manager(self, papers: Identity) -> None:
        """The second half of a join by a manager's token; without it the first one does not count either."""
        try:
            await self._promotion.now(papers)
        except BaseException as exc:
            log.warning("this node does not become a manager: %s", exc)
            await self._take_back()
            if isinstance(exc, errors.ShoalError):
                await self._promotion.undo(papers.node_id)
                raise type(exc)(exc.described()) from exc
            raise

    async def _become(self, papers: Identity) -> None:
        """Takes the papers and waits for a manager's welcome; without it nothing is kept."""
        self._standing.keep(papers)
        self._parts.applier.reset(NodeState(node_id=papers.node_id, fence=model.Fence(papers.cluster_id)))
        session = self._begin_session()
        try:
            async with asyncio.timeout(_WELCOME_TIMEOUT):
                await session.settled.wait()
            if not session.link.connected:
                raise errors.Unavailable(session.link.error or "the manager did not take this node in")
        except BaseException as exc:
            log.warning("this node does not become a member: %s", exc)
            await self._take_back()
            if isinstance(exc, TimeoutError):
                raise errors.Unavailable(
                    f"the manager at {', '.join(papers.managers)} issued a certificate but took no session of this node"
                ) from exc
            raise

    # ---- backups

    def backup(self, passphrase: str) -> AsyncIterator[bytes]:
        """The swarm's backup, from this node's manager; raises errors.Unavailable where there is none."""
        self.control()
        return backups.save(self._manager.channel(), passphrase)

    async def restore(self, options: RestoreOptions, data: bytes) -> model.RestoreReply:
        """Makes this node the only manager of the swarm in a backup, whatever it was before."""
        self._promotion.stop()
        async with self._changing:
            if self.identity and not options.force:
                raise errors.Unavailable(ALREADY_MEMBER)
            reply, papers = await self._bootstrap.restore(options, data)
            await self._restored(papers)
            return reply

    async def _restored(self, papers: Identity) -> None:
        """The manager is what it is to be: the node follows. What it ran for another swarm, or as another node, ends;
        what it ran as the same node goes on. There is no way back from here: the session comes when it comes."""
        before = self.identity
        self._standing.keep(papers)
        if before is None or (before.node_id, before.cluster_id) != (papers.node_id, papers.cluster_id):
            self._session = None
            self._changed.set()
            self._parts.applier.reset(NodeState())
            if before is not None:
                await self._clear_away()
            self._parts.applier.reset(NodeState(node_id=papers.node_id, fence=model.Fence(papers.cluster_id)))
        await self._known(Contact())

    async def _known(self, contact: Contact) -> None:
        """A new session, by what is known of this node's own manager: that stands, so the welcome may come later."""
        self._standing.contact = contact
        await self._parts.database.put_contact(contact)
        session = self._begin_session()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WELCOME_TIMEOUT):
                await session.settled.wait()

    # ---- unlock and leave

    async def unlock(self, key: str) -> None:
        """Gives this node's manager the key that it needs; raises Conflict when it needs none."""
        if self.identity is None or not self.identity.manager:
            raise errors.Conflict("swarm is not locked")
        await self._manager.ask("Unlock", model.UnlockRequest(key), _UNLOCK_TIMEOUT)

    async def leave(self, force: bool = False) -> None:
        """Leaves the swarm: tasks end, networks go, identity and state are erased."""
        self._promotion.stop()
        async with self._changing:
            if self.identity is None:
                raise errors.Unavailable(NOT_MEMBER)
            if self.identity.manager:
                try:
                    await self._manager.ask("Leave", model.LeaveRequest(force), _LOCAL_TIMEOUT)
                except errors.ShoalError as exc:
                    if not force:
                        raise
                    log.warning("leaving though this node's manager says: %s", exc.message)
            elif self.identity.joining:
                await self._promotion.undo(self.identity.node_id)
            await self.on_leaving()
            await self._forget()
            await self._clear_away()
            log.info("this node has left its swarm")

    async def _forget(self) -> None:
        """No member any more: what follows cleans up after a state that a later start finds the same way."""
        self._standing.forget()
        self._session = None
        self._changed.set()
        self._parts.applier.reset(NodeState())
        self.on_contact()
        await self._parts.database.put_contact(self.contact)

    async def _clear_away(self) -> None:
        """Nothing of the swarm is left on this machine: no task, no network, no assignment."""
        await self._parts.worker.stop_all()
        await self._parts.network.teardown()
        await self._parts.database.clear()

    async def _take_back(self) -> None:
        """What made the node a member, if only for a moment: managers may have given it tasks in that."""
        await self._forget()
        try:
            await self._clear_away()
        except errors.ShoalError as exc:  # the first cause is the one to tell
            log.warning("not all of the swarm is cleared away here: %s", exc.message)

    # ---- the session

    def _begin_session(self) -> Session:
        parts = self._parts
        self._session = Session(
            self, parts.applier, parts.statuses, self._renewal.dial, places=parts.places, checks=parts.checks
        )
        self._changed.set()
        return self._session

    async def run(self) -> None:
        """Until cancelled: the session of the swarm that the node belongs to, if any."""
        while True:
            self._changed.clear()
            session = self._session
            async with asyncio.TaskGroup() as group:
                jobs = []
                if session:
                    jobs = [
                        group.create_task(session.run()),
                        group.create_task(self._renewal.run()),
                        group.create_task(self._promotion.run()),
                    ]
                await self._changed.wait()
                for job in jobs:
                    job.cancel()

    async def hello(self, chain: str, seen: model.Fence) -> model.Hello:
        """The first word of a session."""
        addr = self.identity.advertise_addr if self.identity else ""
        return model.Hello(await self.describe(), addr, chain, seen, self._instance)

    async def welcomed(self, welcome: model.Welcome) -> None:
        """Keeps what a manager says of the swarm."""
        if old := fence.refusal(self.contact.fence, welcome.fence):
            log.warning("a manager's welcome does not count: %s", old)
            return
        contact = Contact(
            welcome.managers, welcome.network_keys, welcome.role, welcome.availability, welcome.fence
        )
        self._promotion.heard()
        before, self._standing.contact = self.contact, contact
        self.on_contact()
        if contact == before:
            return
        await self._parts.database.put_contact(contact)

    def connected(self) -> None:
        """A session is up: gossip has to be compared with it."""
        self.on_contact()

    def asked(self) -> None:
        """No session, and why: gossip goes on without one, or must not."""
        self.on_contact()

    def report(self, unseen: model.Unseen) -> None:
        """Tells the managers which nodes gossip does not see."""
        if self._session:
            self._session.report(unseen)

    async def committed(self, statuses: dict[str, model.TaskStatus]) -> None:
        """Marks statuses that the managers have, unless newer ones came meanwhile."""
        done: list[TaskRecord] = self._parts.worker.acknowledge(statuses)
        if done:
            await self._parts.database.put_tasks(done)

    async def close(self) -> None:
        """Lets go of the local manager's socket."""
        await self._manager.close()
