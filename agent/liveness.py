"""Gossip's place in the agent: says which member is wanted, hears its verdicts, and narrows what this node offers. agent/daemon.py runs it.

`look` is called whenever the node's papers or what the managers say may have changed, `ended` when a task of this node is over, and
agent/applier.py asks `narrow` for what to apply. What verdicts count for is agent/verdicts.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from agent import description, verdicts
from agent.database import Contact
from agent.gossip import plan
from agent.gossip.api import Change, Event, MemberEvent, Overflow, UserMessage, UserState
from agent.gossip.messages import State
from agent.gossip.service import Gossip, source_towards
from agent.identity import Identity
from agent.session import Link
from agent.state import NodeState
from common import errors, model

log = logging.getLogger("liveness")

GONE = (State.DEAD, State.LEFT)


class Node(Protocol):
    """agent/membership.py."""

    @property
    def identity(self) -> Identity | None: ...

    @property
    def link(self) -> Link: ...

    @property
    def contact(self) -> Contact: ...

    def addresses(self) -> list[str]: ...

    def report(self, unseen: model.Unseen) -> None: ...


class Applier(Protocol):
    """agent/applier.py."""

    @property
    def state(self) -> NodeState: ...

    def retry(self) -> None: ...


class Liveness:
    """One per agent."""

    def __init__(
        self, gossip: Gossip, applier: Applier, node: Node, hostname: Callable[[], str] = description.hostname
    ) -> None:
        self._gossip = gossip
        self._applier = applier
        self._node = node
        self._hostname = hostname
        self._verdicts = verdicts.Verdicts()
        self._narrowed_by: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._to_tell: dict[str, None] = {}
        self._session_since = 0.0
        self._nodes: set[tuple[str, bool]] = set()
        self._news = asyncio.Event()
        gossip.on_event = self._heard
        gossip.on_start = self._started

    # ---- what is wanted

    def look(self) -> None:
        """Papers, managers, keys or the session may be others than before."""
        self._gossip.want(self._wanted())
        link = self._node.link
        if link.connected and link.since != self._session_since:
            self._session_since = link.since
            self._gossip.reunite()
        self._news.set()

    def _wanted(self) -> plan.Wanted | None:
        mine, keys = self._node.identity, plan.ring(self._node.contact.network_keys)
        if mine is None or not keys:
            return None
        link = self._node.link
        if not link.asked or link.turned_away:  # a copy of another node's disk would take that one's place
            return None
        seeds = plan.seeds(self._node.addresses())
        address = mine.advertise_addr or source_towards(host for host, _ in seeds) or mine.remote_addr
        if not address:
            return None
        if all(host == address for host, _ in seeds):
            seeds += plan.neighbours(self._applier.state.nodes.values(), mine.node_id)
        meta = plan.meta(self._hostname(), mine.manager, mine.data_path_addr or address)
        return plan.Wanted(mine.node_id, address, meta, keys, seeds)

    async def leave(self) -> None:
        """The node leaves its swarm: the others are told."""
        await self._gossip.leave()

    @property
    def unseen(self) -> tuple[str, ...]:
        """The nodes that gossip holds dead."""
        return self._verdicts.unseen.node_ids

    # ---- what is offered

    def narrow(self, state: NodeState) -> NodeState:
        """What to apply of what the managers say."""
        if self._verdicts.nodes:
            self._news.set()  # managers may contradict since now
        self._gossip.keep_telling(verdicts.ended_state(self._verdicts.disputed(state)))
        if (nodes := {(n.addr, n.down) for n in state.nodes.values()}) != self._nodes:
            self._nodes = nodes
            self.look()
        return verdicts.narrowed(state, self._verdicts.nodes, self._verdicts.tasks)

    def ended(self, task_id: str, status: model.TaskStatus) -> None:
        """A task of this node has got this status. If it was on offer and is over, everybody hears of it at once."""
        if status.state < model.TaskState.TASK_COMPLETE:
            return
        endpoints = self._applier.state.endpoints.values()
        if any(e.task_id == task_id and e.state is verdicts.SERVING for e in endpoints):
            self._over(task_id)

    def _over(self, task_id: str) -> None:
        if self._verdicts.ended(task_id):
            self._to_tell[task_id] = None
            self._news.set()

    # ---- what gossip says

    def _started(self) -> None:
        self._verdicts.restart()
        self._news.set()

    def _heard(self, event: Event) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(event, UserMessage):
            if task_id := verdicts.ended_task(event.data):
                self._over(task_id)
        elif isinstance(event, UserState):
            for task_id in verdicts.ended_tasks(event.data):
                self._over(task_id)
        elif isinstance(event, MemberEvent) and event.change is Change.FORGOTTEN:
            self._forgotten(event.member.name)
        elif isinstance(event, MemberEvent):
            self._state_of(event.member.name, event.member.state, now)
            if event.change is Change.CONFLICT:
                log.warning("another node gossips under the id of %s", self._name(event.member.name))
        elif isinstance(event, Overflow):
            for member in self._gossip.members():
                self._state_of(member.name, member.state, now)

    def _state_of(self, node_id: str, state: State, now: float) -> None:
        mine = self._node.identity
        if mine is not None and node_id == mine.node_id:
            return
        if state in GONE:
            self._verdicts.gone(node_id, now, left=state is State.LEFT)
        else:
            self._verdicts.back(node_id)
        self._news.set()

    def _forgotten(self, node_id: str) -> None:
        """Gossip has nothing to say of it any more. The last word counts for as long as managers offer anything there: they may
        be away as long as the node."""
        if node_id not in verdicts.offering(self._applier.state):
            self._verdicts.back(node_id)
            self._news.set()

    # ---- what follows

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            deadline = self._settle()
            await self._tell()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()

    def _settle(self) -> float | None:
        """Has the newest verdicts applied; says when the next one lapses."""
        now, link = asyncio.get_running_loop().time(), self._node.link
        since = link.since if link.connected else None
        offering = verdicts.offering(self._applier.state)
        for node_id in self._verdicts.lapse(now, since, offering):
            log.warning(
                "gossip does not reach node %s, but the managers do: its endpoints are offered again (is 7946 open,"
                " TCP and UDP, between the nodes?)", self._name(node_id),
            )  # fmt: skip
        self._node.report(self._verdicts.unseen)
        before, by = self._narrowed_by, (self._verdicts.nodes, self._verdicts.tasks)
        if by != before:
            self._narrowed_by = by
            for node_id in sorted((by[0] - before[0]) & offering):
                log.warning(
                    "gossip holds node %s dead: its endpoints are not offered here", self._name(node_id)
                )
            for node_id in sorted((before[0] - by[0]) & offering):
                log.info("the endpoints of node %s are offered again", self._name(node_id))
            self._applier.retry()
        return self._verdicts.deadline(since, offering)

    async def _tell(self) -> None:
        while self._to_tell:
            task_id = next(iter(self._to_tell))
            del self._to_tell[task_id]
            with suppress(errors.Unavailable):  # without a member there is nobody to tell
                await self._gossip.broadcast(task_id, verdicts.ended_message(task_id))

    def _name(self, node_id: str) -> str:
        record = self._applier.state.nodes.get(node_id)
        return record.hostname if record is not None and record.hostname else node_id
