"""Places of single containers in networks of the swarm: asked of the managers, kept, given back.

The agent names all of its places to the managers, on every session and whenever they change (agent/session.py); what they give
comes back as a task in its assignments, under the id that was chosen here. Nothing is said twice: a place that isn't named any
more is over. agent/single/containers.py asks for places, agent/daemon.py hands in every new state.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from agent.single.record import Leg, SingleRecord
from agent.state import NodeState
from agent.statuses import StatusQueue
from common import errors, ids, model
from common.clock import Clock

log = logging.getLogger("single")

S = model.TaskState
PATIENCE: Final = 20.0  # seconds for the managers to give a place
PEERS: Final = 2.0  # seconds for the other nodes to know of it, as for a task
TAKEN: Final = 5.0  # seconds for whoever has the address that a container asks for to give it back
_FAILED: Final = (
    "attaching to network failed, make sure your network options are correct and check manager logs: "
)
_TOO_LATE: Final = f"{_FAILED}context deadline exceeded"


class Refused(Exception):
    """What the managers say of a place that cannot be had."""

    def __init__(self, refusal: model.AttachmentRefused) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Attachments:
    """See the module's text. `stands` waits until a task's legs may be made in the kernel."""

    def __init__(
        self, statuses: StatusQueue, clock: Clock, stands: Callable[[str], Awaitable[None]],
        patience: float = PATIENCE, peers: float = PEERS,
    ) -> None:  # fmt: skip
        self.declare: Callable[[], None] = lambda: None  # `held` has changed
        self._statuses = statuses
        self._clock = clock
        self._stands = stands
        self._patience = patience
        self._peers = peers
        self._state = NodeState()
        self._held: dict[str, model.ContainerAttachment] = {}
        self._running: dict[str, model.TaskStatus] = {}
        self._told: set[str] = set()
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._limits: dict[str, asyncio.Timeout] = {}
        self._why: dict[str, str] = {}  # it takes so long

    # ---- the session's side

    @property
    def held(self) -> model.ContainerAttachments:
        """All places that containers here have or want."""
        return model.ContainerAttachments(tuple(self._held.values()))

    def refused(self, refusal: model.AttachmentRefused) -> None:
        """The managers' answer where they give nothing."""
        asking = self._asking.get(refusal.id)
        if refusal.waits:
            limit = self._limits.get(refusal.id)
            if limit is not None and not limit.expired():
                self._why[refusal.id] = f": {refusal.message}"
                limit.reschedule(min(TAKEN, self._patience) + asyncio.get_running_loop().time())
        elif asking is not None and not asking.done():
            asking.set_exception(Refused(refusal))
        elif refusal.id in self._held:
            log.warning("container's place in network %s is lost: %s", refusal.network, refusal.message)

    def update(self, state: NodeState) -> None:
        """The newest assignments."""
        before, self._state = self._state.node_id, state
        if before and state.node_id != before:  # another swarm, where these places mean nothing
            for id in [id for id in self._held if id not in self._asking]:
                self.release(id)
        for id, asking in self._asking.items():
            if not asking.done() and self._given(id):
                asking.set_result(None)
        for id in self._running.keys() - self._told:
            self._tell(id)

    def _given(self, id: str) -> bool:
        assignment = self._state.tasks.get(id)
        return assignment is not None and assignment.task.status.state >= S.TASK_ASSIGNED

    def _ready(self, id: str) -> bool:
        assignment = self._state.tasks.get(id)
        return assignment is not None and assignment.peers_ready

    # ---- the containers' side

    def keep(self, records: Iterable[SingleRecord]) -> None:
        """Those that there were when the agent ended."""
        for record in records:
            for leg in record.legs:
                if leg.attachment:
                    self._held[leg.attachment] = _attachment(leg.attachment, record, leg)

    def leads_out(self, id: str) -> bool:
        """Whether it is in a network that isn't an internal one."""
        assignment = self._state.tasks.get(id)
        networks = assignment.task.networks if assignment is not None else ()
        known = (self._state.networks.get(attachment.network_id) for attachment in networks)
        return any(network is not None and not network.spec.internal for network in known)

    def addresses(self, id: str) -> tuple[str, ...]:
        """What the managers have given for a place, without prefix lengths."""
        assignment = self._state.tasks.get(id)
        networks = assignment.task.networks if assignment is not None else ()
        return tuple(address.partition("/")[0] for network in networks for address in network.addresses)

    def mac(self, id: str) -> str:
        """Another one than belongs to the address."""
        assignment = self._state.tasks.get(id)
        networks = assignment.task.networks if assignment is not None else ()
        return next((network.mac for network in networks), "")

    async def acquire(self, record: SingleRecord, leg: Leg) -> str:
        """A container's place in a network; its id is the task's. Raises errors.ShoalError with Docker's texts."""
        if not self._state.node_id:
            raise errors.NotFound(f"network {leg.network} not found")
        id = ids.new_id()
        asking = asyncio.get_running_loop().create_future()
        self._held[id] = _attachment(id, record, leg)
        self._asking[id] = asking
        try:
            async with asyncio.timeout(self._patience) as self._limits[id]:
                self.declare()
                await asking
                self._check(id, leg)
                await self._stands(id)
            del self._limits[id]
            await self._await_peers(id)
        except BaseException as error:
            self.release(id)
            if isinstance(error, Refused):
                raise _could_not(error.refusal) from error
            if isinstance(error, TimeoutError):
                raise errors.ShoalError(_TOO_LATE + self._why.get(id, "")) from error
            raise
        finally:
            for about in (self._asking, self._limits, self._why):
                about.pop(id, None)
        return id

    def _check(self, id: str, leg: Leg) -> None:
        """Managers from before addresses could be chosen give any."""
        given = set(map(ipaddress.ip_address, self.addresses(id)))
        asked = set(map(ipaddress.ip_address, leg.wishes))
        if asked - given or self.mac(id) != leg.mac:
            what = "address" if asked - given else "MAC address"
            raise errors.ShoalError(
                f"{_FAILED}the managers are too old to give a chosen {what}: upgrade them"
            )

    async def _await_peers(self, id: str) -> None:
        """Until every other node knows the place, or long enough."""
        deadline = self._clock.monotonic() + self._peers
        while not self._ready(id) and (left := deadline - self._clock.monotonic()) > 0:
            again = asyncio.get_running_loop().create_future()
            self._asking[id] = again
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await again

    def started(self, id: str, container_id: str, pid: int) -> None:
        """The container runs, or was found running: the managers are told."""
        if id in self._held:
            self._note_running(id, container_id, pid)

    def renamed(self, record: SingleRecord) -> None:
        """By its new name its places are told to the managers again, and by them to the other nodes."""
        for place in self._held.keys() & frozenset(record.attachments):
            self._held[place] = replace(self._held[place], name=record.name)
        self.declare()

    def release(self, id: str) -> None:
        """The place isn't needed any more."""
        self._running.pop(id, None)
        self._told.discard(id)
        self._statuses.drop(id)
        if self._held.pop(id, None) is not None:
            self.declare()

    def _note_running(self, id: str, container_id: str, pid: int) -> None:
        self._running[id] = model.TaskStatus(
            timestamp=self._clock.now_ns(),
            state=S.TASK_RUNNING,
            message="started",
            container=model.ContainerStatus(container_id, pid),
            healthy=True,
        )
        self._tell(id)

    def _tell(self, id: str) -> None:
        assignment = self._state.tasks.get(id)
        if assignment is not None:
            self._told.add(id)
            if assignment.task.status.state < S.TASK_RUNNING:
                self._statuses.put(id, self._running[id])


def _attachment(id: str, record: SingleRecord, leg: Leg) -> model.ContainerAttachment:
    network = model.NetworkAttachmentConfig(leg.network, leg.aliases, addresses=leg.wishes, mac=leg.mac)
    return model.ContainerAttachment(id, record.container_id, record.name, (network,))


def _could_not(refusal: model.AttachmentRefused) -> errors.ShoalError:
    if refusal.address:
        return errors.ShoalError(_FAILED + refusal.message)
    said = f"rpc error: code = {refusal.code} desc = {refusal.message}"
    return errors.ShoalError(f"Could not attach to network {refusal.network}: {said}")
