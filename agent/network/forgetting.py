"""Makes conntrack forget what leads nowhere any more, once the rules stand as planned. Used by manager.py after each move.

- Connections to an endpoint whose record is gone: its task is no more.
- Datagrams to an endpoint that is held lost, by gossip or by the managers, though its record stays.
- Datagrams to a UDP port that has been published, taken away or given to another service. A client that has sent to it
  before goes on with what was decided for its first datagram, for ever if it never pauses.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from agent.network import backends, names, published
from agent.network.endpoints_file import EndpointsFile
from agent.network.kernel import Kernel, KernelError, describe
from agent.network.legs import ingress_network
from agent.network.thread import NetThread
from agent.state import NodeState

_log: Final = logging.getLogger(__name__)
_SLICE: Final = 16  # namespaces in one piece of work

Ports = Mapping[int, frozenset[int]]  # by UDP port, the marks of who is behind it


class Forgetting:
    """What there was at the last look, so that the next one finds what has gone."""

    def __init__(self, thread: NetThread, kernel: Kernel, file: EndpointsFile) -> None:
        self._thread, self._kernel, self._file = thread, kernel, file
        self._endpoints: frozenset[tuple[str, str]] = frozenset()
        self._lost: frozenset[tuple[str, str]] = frozenset()
        self._ports: Ports = {}

    async def load(self) -> None:
        """Takes over what an earlier process knew."""
        self._endpoints = await self._thread.run(self._file.load)

    async def clear(self) -> None:
        """The node has left its swarm."""
        self._endpoints, self._lost, self._ports = frozenset(), frozenset(), {}
        await self._save()

    async def look(self, state: NodeState, attached: Mapping[str, str]) -> None:
        """The kernel stands as `state` says."""
        await self._gone(state, attached)
        await self._lost_ones(state, attached)
        await self.ports(state, attached)

    async def task(self, gateway_address: str) -> None:
        """A task with host-mode ports is gone."""
        await self._flush([names.HOST], frozenset({names.backend_mark(gateway_address)}))

    async def ports(self, state: NodeState, attached: Mapping[str, str]) -> None:
        """Other ports may be published than before."""
        before, self._ports = self._ports, published.datagram_ports(state, attached)
        if count := await self._forget(stale_flows(before, self._ports)):
            _log.info("%d UDP flows were balanced anew", count)

    async def early(self, ports: Collection[int]) -> None:
        """These UDP ports lead to a single container from now on: what came to them before is taken up."""
        await self._forget([(port, 0) for port in ports])

    async def _forget(self, flows: Sequence[tuple[int, int]]) -> int:
        if not flows:
            return 0
        try:
            return await self._thread.run(self._kernel.forget_datagrams, flows)
        except KernelError as error:
            _log.warning("conntrack keeps flows to UDP ports: %s", describe(error))
            return 0

    async def _gone(self, state: NodeState, attached: Mapping[str, str]) -> None:
        before, self._endpoints = self._endpoints, backends.endpoint_addresses(state)
        if self._endpoints == before:
            return
        gone, held = before - self._endpoints, {address for _, address in self._endpoints}
        for network in sorted({network for network, _ in gone}):
            marks = frozenset(names.backend_mark(a) for n, a in gone if n == network and a not in held)
            await self._flush(_balancing(state, attached, network), marks)
        await self._save()

    async def _save(self) -> None:
        """The kernel stands, whatever the disk says: without the file only the next process flushes less."""
        try:
            await self._thread.run(self._file.save, self._endpoints)
        except OSError as error:
            _log.warning("the next start of the agent will not know who has gone: %s", describe(error))

    async def _lost_ones(self, state: NodeState, attached: Mapping[str, str]) -> None:
        before, self._lost = self._lost, backends.lost_addresses(state)
        new = self._lost - before
        for network in sorted({network for network, _ in new}):
            marks = frozenset(names.backend_mark(a) | names.DATAGRAMS for n, a in new if n == network)
            await self._flush(_balancing(state, attached, network), marks, names.DATAGRAMS_MASK)

    async def _flush(
        self, scope: Sequence[str], marks: frozenset[int], mask: int = names.BACKEND_MASK
    ) -> None:
        if not marks:
            return
        try:
            for start in range(0, len(scope), _SLICE):
                part = scope[start : start + _SLICE]
                await self._thread.run(self._kernel.flush, part, marks, mask)
        except KernelError as error:
            _log.warning("conntrack keeps connections to tasks that are gone: %s", describe(error))


def _balancing(state: NodeState, attached: Mapping[str, str], network: str) -> Sequence[str]:
    """The namespaces in which something is sent to endpoints of a network."""
    scope = [
        names.task_namespace(task) for task in attached
        if task in state.tasks and any(n.network_id == network for n in state.tasks[task].task.networks)
    ]  # fmt: skip
    ingress = ingress_network(state)
    return [*scope, names.HOST] if ingress is not None and ingress.id == network else scope


def stale_flows(before: Ports, now: Ports) -> list[tuple[int, int]]:
    """(UDP port, mark) of what is to be forgotten: flows from before a port was published, which no rule has touched
    (0), and those to backends that are behind a port no more."""
    nothing: frozenset[int] = frozenset()
    early = [(port, 0) for port in now if port not in before]
    late = [
        (port, mark | names.DATAGRAMS)
        for port, marks in before.items()
        for mark in marks - now.get(port, nothing)
    ]
    return sorted(early + late)
