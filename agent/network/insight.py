"""What somebody who looks for a fault may see of the kernel: is it as planned, and what is inside its namespaces. Used by agent/check.

It only looks: what differs is repaired by manager.py's own loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from agent.network import names
from agent.network.encryption import sealed_mtu
from agent.network.facts import Forward, KernelView, Namespace, Neighbour, Sysctl, Table, Vxlan, difference
from agent.network.kernel import Kernel, KernelError, describe
from agent.network.thread import NetThread
from agent.network.underlay import Underlay, is_encrypted, overlay_mtu
from agent.state import NodeState

T = TypeVar("T")
_LOOKS: Final = 4
_PAUSE: Final = 0.25  # s; what differs for shorter than all looks take is a change under way
_SHOWN: Final = 3


class Insight:
    """`state` is what the kernel is to be like, `planned` as a plan, `failing` what could not be done, by namespace."""

    def __init__(
        self,
        thread: NetThread,
        kernel: Kernel,
        state: Callable[[], NodeState],
        planned: Callable[[], Awaitable[KernelView]],
        underlay: Callable[[], Awaitable[Underlay]],
        failing: Callable[[], Mapping[str, str]],
    ) -> None:
        self._thread, self._kernel = thread, kernel
        self._state, self._planned, self._underlay, self._failing = state, planned, underlay, failing

    def state(self) -> NodeState:
        """What the kernel is to be like."""
        return self._state()

    async def stands(self, network_id: str) -> bool:
        """Whether the network is in this kernel."""
        existing = await self._thread.run(self._kernel.sandboxes)
        return names.network_namespace(network_id) in existing

    async def mtu(self, network_id: str) -> tuple[int, int]:
        """What the network's packets may have here, and then have on the wire; of one that is not here, what any overlay's may."""
        network, underlay = self._state().networks.get(network_id), await self._underlay()
        if network is None:
            return underlay.mtu - names.VXLAN_OVERHEAD, underlay.mtu
        mtu, sealed = overlay_mtu(network, underlay), is_encrypted(network)
        overhead = underlay.mtu - sealed_mtu(underlay.mtu) if sealed else names.VXLAN_OVERHEAD
        return mtu, mtu + overhead

    async def inside(self, namespace: str, work: Callable[[], T]) -> T:
        """Runs `work` in a namespace: sockets that it makes stay there. Raises OSError."""

        def enter() -> T:
            with self._thread.namespaces.inside(namespace):
                return work()

        return await self._thread.run(enter)

    async def tasks(self, network_id: str) -> list[tuple[str, str]]:
        """(id, name) of the tasks here that are in the network and have their namespaces."""
        existing = await self._thread.run(self._thread.namespaces.existing)
        found = ((task_id, a.task) for task_id, a in sorted(self._state().tasks.items()))
        return [
            (task_id, task.name or task_id)
            for task_id, task in found
            if names.task_namespace(task_id) in existing
            and any(n.network_id == network_id for n in task.networks)
        ]

    async def faults(self, network_id: str) -> list[str]:
        """What the kernel lacks of the network, in words; nothing of what is only just being changed."""
        namespaces = [names.network_namespace(network_id)]
        namespaces += [names.task_namespace(task_id) for task_id, _ in await self.tasks(network_id)]
        failing = self._failing()
        told = [failing[name] for name in (names.HOST, *namespaces) if name in failing]
        if told:
            return told
        missing: list[str] = []
        for _ in range(_LOOKS):
            missing = await self._missing(namespaces)
            if not missing:
                return []
            await asyncio.sleep(_PAUSE)
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return [f"the kernel is not as planned: {', '.join(missing[:_SHOWN])}{more} missing"]

    async def _missing(self, namespaces: list[str]) -> list[str]:
        view = await self._planned()
        found: list[str] = []
        for name in namespaces:
            wanted = view.get(name, frozenset())
            try:
                actual = await self._thread.run(self._kernel.reader.read, name, wanted)
            except KernelError as error:
                return [describe(error)]
            found += [
                _words(change.fact)
                for change in difference({name: actual}, {name: wanted})
                if not change.remove
            ]
        return found


def _words(fact: object) -> str:
    match fact:
        case Vxlan(name=name):
            return f"tunnel {name}"
        case Forward(vtep=vtep, mac=mac):
            return f"way to {mac} by {vtep}"
        case Neighbour(address=address):
            return f"neighbour {address}"
        case Table():
            return "balancers"
        case Sysctl(path=path):
            return path
        case Namespace():
            return "the namespace"
        case _:
            return str(
                getattr(fact, "name", "") or getattr(fact, "address", "") or type(fact).__name__.lower()
            )
