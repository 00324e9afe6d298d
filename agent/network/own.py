"""What wanted.py knows of single containers and of this node's own bridges, beside the assignments. Pure but for what it keeps.

agent/single says through manager.py what there is; here it becomes tasks for plan.py and facts for the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.network import bridges
from agent.network.bridges import Local, Wired
from agent.network.facts import Facts, KernelView
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import model

Tasks = Mapping[str, model.TaskAssignment]


class Own:
    """See the module's text."""

    def __init__(self) -> None:
        self.local = Local()
        self.present: set[str] = set()  # containers that have a namespace
        self._places: dict[str, model.TaskAssignment] = {}  # theirs in overlays, as long as they have them
        self._udp: frozenset[int] = frozenset()  # ports that lead to them

    def tell(self, local: Local, tasks: Tasks) -> None:
        """There is something else than before."""
        self.local = local
        self.remember(tasks)

    def remember(self, tasks: Tasks) -> None:
        """A place that the managers have dropped stays for as long as its container has it."""
        held = {leg.attachment for wired in self.local.containers.values() for leg in wired.overlays}
        known = {**self._places, **tasks}
        self._places = {id: known[id] for id in held if id in known}

    def forget_places(self) -> None:
        """The node has left its swarm."""
        self._places.clear()

    def wired(self, container_id: str) -> Wired:
        """Nothing for a task."""
        nothing = Wired()
        return self.local.containers.get(container_id, nothing) if container_id in self.present else nothing

    def assignment(self, container_id: str) -> model.TaskAssignment | None:
        """A container as plan.py sees it; None for a task."""
        if container_id not in self.present:
            return None
        return bridges.assignment(container_id, self.wired(container_id), self._places)

    def assignments(self) -> dict[str, model.TaskAssignment]:
        """All of them."""
        return {id: made for id in self.present if (made := self.assignment(id)) is not None}

    def subnets(self) -> tuple[str, ...]:
        """Of this node's own bridges."""
        return tuple(network.subnet for network in self.local.networks.values())

    def idle(self) -> bool:
        """Whether there is nothing that the kernel should have."""
        return not self.present and not self.local.needs_kernel

    def laid_over(self, view: KernelView, state: NodeState, underlay: Underlay) -> dict[str, Facts]:
        """`view` with all of it."""
        return bridges.laid_over(view, self.local, frozenset(self.present), state, underlay)

    def new_datagram_ports(self) -> list[int]:
        """UDP ports that lead to a container since the last time this was asked."""
        before, self._udp = self._udp, bridges.udp_bindings(self.local, self.present)
        return sorted(self._udp - before)
