"""Who takes part in a network, kept up to date change by change: tasks by network, and nodes by network.

A node takes part while it has a task there that has been assigned and has not ended; in the ingress network every node
with an address in it does, for the mesh answers on each. Used by endpoints, allocator and dispatcher. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from common import model
from manager import lifecycle
from manager.plan import Change
from manager.store.view import ReadView


def takes_part(task: model.Task) -> bool:
    """The task has a leg on its node: bound to one, and not over."""
    return bool(task.node_id) and not lifecycle.ended(task)


def networks_of(thing: object) -> frozenset[str]:
    """Networks in which a task or a node has an address."""
    if isinstance(thing, model.Task):
        return (
            frozenset(a.network_id for a in thing.networks if a.addresses)
            if takes_part(thing)
            else frozenset()
        )
    if isinstance(thing, model.Node):
        return frozenset(a.network_id for a in thing.attachments if a.addresses)
    return frozenset()


class Membership:
    """Follows the store; `apply` each change, in order."""

    __slots__ = ("_nodes", "_tasks")

    def __init__(self) -> None:
        self._tasks: dict[str, dict[str, None]] = {}
        self._nodes: dict[str, Counter[str]] = {}

    def reset(self, view: ReadView) -> None:
        """Starts over from a view."""
        self._tasks.clear()
        self._nodes.clear()
        for task in view.tasks.all():
            self._add(task)
        for node in view.nodes.all():
            self._add(node)

    def apply(self, change: Change) -> None:
        """Follows one change."""
        self._drop(change.old)
        self._add(change.new)

    def tasks(self, network_id: str) -> Iterable[str]:
        """Ids of the tasks that have a leg in a network."""
        return self._tasks.get(network_id, {}).keys()

    def nodes(self, network_id: str) -> Iterable[str]:
        """Ids of the nodes that take part in a network."""
        return self._nodes.get(network_id, {}).keys()

    def takes_part(self, node_id: str, network_id: str) -> bool:
        """Whether this node does."""
        return node_id in self._nodes.get(network_id, ())

    def networks(self, node_id: str) -> list[str]:
        """Networks in which a node takes part."""
        return [n for n, members in self._nodes.items() if node_id in members]

    def peers(self, task: model.Task) -> set[str]:
        """Nodes that take part in any of a task's networks."""
        return {node for a in task.networks for node in self.nodes(a.network_id)}

    def _add(self, thing: object) -> None:
        for network in networks_of(thing):
            if isinstance(thing, model.Task):
                self._tasks.setdefault(network, {})[thing.id] = None
            self._nodes.setdefault(network, Counter())[_node_id(thing)] += 1

    def _drop(self, thing: object) -> None:
        for network in networks_of(thing):
            if isinstance(thing, model.Task):
                self._tasks[network].pop(thing.id, None)
            members, node_id = self._nodes[network], _node_id(thing)
            members[node_id] -= 1
            if not members[node_id]:
                del members[node_id]


def _node_id(thing: object) -> str:
    if isinstance(thing, model.Task):
        return thing.node_id
    return thing.id if isinstance(thing, model.Node) else ""
