"""From a manager's assignments to what stands on this node: believe, remember, apply, acknowledge.

`take` checks the fence and the chain, folds the message into the state and writes it down; `run` then brings kernel, DNS and
worker to the newest state, however many messages came meanwhile, and says which store index stands in the kernel. The
session calls `take`; the daemon runs `run`; nothing here knows of gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from agent import fence
from agent.network.api import Network
from agent.state import NodeState
from common import errors, model

log = logging.getLogger("applier")
_RETRY: Final = (0.2, 5.0)


_KINDS: Final = ("task", "network", "service", "endpoint", "node", "config")


def _known(change: model.AssignmentChange) -> bool:
    """Whether this version knows the kind of thing; newer managers may send more."""
    known = change.key.partition("/")[0] in _KINDS
    if not known:
        log.info("an assignment of an unknown kind is left out: %s", change.key)
    return known


class Refused(errors.ShoalError):
    """A message from a manager that must not be believed."""

    code = "FailedPrecondition"


class OutOfChain(errors.ShoalError):
    """A change on top of a state that this node does not have: everything is needed anew."""

    code = "Aborted"


class StateMemory(Protocol):
    async def put_state(self, state: NodeState) -> None: ...


class Tasks(Protocol):
    """agent/worker/worker.py."""

    def update(self, state: NodeState, complete: bool = False) -> None: ...


class Applier:
    """The one owner of the node's state."""

    def __init__(self, state: NodeState, memory: StateMemory, network: Network, tasks: Tasks) -> None:
        self.state = state
        self.acknowledged: Callable[[int], None] = lambda index: None
        self.changed: Callable[[NodeState], None] = lambda state: None  # names and addresses: DNS
        self.narrow: Callable[[NodeState], NodeState] = lambda state: (
            state
        )  # what gossip leaves of what is offered
        self._memory = memory
        self._network = network
        self._tasks = tasks
        self._partial: list[model.AssignmentChange] = []
        self._in_parts = False
        self._complete = False
        self._news = asyncio.Event()
        self._applied = state
        self._stands = asyncio.Condition()

    @property
    def applied_index(self) -> int:
        """The store index that stands in the kernel."""
        return self._applied.fence.index

    def begin(self) -> None:
        """A new connection: half a complete set from the last one means nothing."""
        self._partial, self._in_parts = [], False

    def reset(self, state: NodeState) -> None:
        """Another swarm, or none."""
        self.begin()
        self.state = self._applied = state
        self._complete = False
        self._news.clear()
        self.changed(state)

    async def take(self, message: model.Assignments) -> None:
        """Takes one message in; raises Refused or OutOfChain and changes nothing then."""
        if reason := fence.refusal(self.state.fence, message.fence):
            raise Refused(f"assignments refused: {reason}")
        complete = message.complete or self._in_parts
        if not complete and message.applies_to != self.state.chain:
            raise OutOfChain(
                f"assignments on top of {message.applies_to!r}, this node has {self.state.chain!r}"
            )
        if message.complete and not message.applies_to:
            self._partial = []
        self._partial += [change for change in message.changes if _known(change)]
        self._in_parts = complete and message.more
        if self._in_parts:
            return
        changes, self._partial = self._partial, []
        before = self.state
        state = before.with_changes(changes, message.fence, message.results_in, complete)
        await self._memory.put_state(state)
        if self.state is not before:
            raise Refused("assignments refused: the node has left the swarm that they are from")
        self.state = state
        self._complete = self._complete or complete
        self._news.set()

    def retry(self) -> None:
        """Has `run` apply the present state."""
        self._news.set()

    async def stands(self, task_id: str) -> None:
        """Returns once the kernel stands as a state says that has the task's endpoints as the newest one has."""
        async with self._stands:
            await self._stands.wait_for(lambda: self._has_legs(task_id))

    def _has_legs(self, task_id: str) -> bool:
        wanted, applied = self.state.tasks.get(task_id), self._applied.tasks.get(task_id)
        if wanted is None or applied is None:
            return wanted is None
        return wanted.task.networks == applied.task.networks

    async def run(self) -> None:
        """Until cancelled: what is new is applied, failures are tried again."""
        delay = _RETRY[0]
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.apply()
                delay = _RETRY[0]
            except errors.ShoalError as exc:
                log.warning("the kernel is not as it should be: %s; again in %.1f s", exc.message, delay)
            except Exception:
                log.exception("applying the assignments failed; again in %.1f s", delay)
            else:
                continue
            self._news.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY[1])

    async def apply(self) -> None:
        """Once: the newest state, in kernel, DNS and worker; then it is acknowledged."""
        state = self.state
        complete, self._complete = self._complete, False
        offered = self.narrow(state)
        self.changed(offered)
        self._tasks.update(state, complete)
        await self._network.apply(offered)
        if (state.node_id, state.fence.cluster_id) != (self.state.node_id, self.state.fence.cluster_id):
            return  # the node has left meanwhile
        self._applied = state
        async with self._stands:
            self._stands.notify_all()
        self.acknowledged(state.fence.index)
        log.debug(
            "applied store index %d: %d tasks, %d endpoints",
            state.fence.index,
            len(state.tasks),
            len(state.endpoints),
        )
