"""Nodes in the Control API. Mixed into service.Control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager.control import conflicts, lookup, validation
from manager.control.base import ControlBase
from manager.store.store import Transaction

_MEMBERSHIPS: Final = ("accepted", "pending")
_ROLES: Final = ("manager", "worker")
_TESTS: Final[Mapping[str, Callable[[model.Node, Sequence[str]], bool]]] = {
    "id": lambda node, values: lookup.begins(node.id, values),
    "name": lambda node, values: lookup.begins(node.description.hostname, values),
    "label": lambda node, values: lookup.labelled(node.description.engine.labels, values),
    "node.label": lambda node, values: lookup.labelled(node.spec.labels, values),
    "membership": lambda node, values: "accepted" in values,
    "role": lambda node, values: node.spec.role.name.lower() in values,
}


class NodeMethods(ControlBase):
    """ListNodes, GetNode, UpdateNode, RemoveNode."""

    async def list_nodes(self, request: model.ListRequest, caller: Caller) -> model.NodesReply:
        validation.filters(request.filters, tuple(_TESTS))
        terms = lookup.grouped(request.filters)
        for key, known in (("membership", _MEMBERSHIPS), ("role", _ROLES)):
            for value in terms.get(key, ()):
                if value not in known:
                    raise errors.InvalidArgument(f"Invalid {key} filter: '{value}'")
        view = await self.read()
        return model.NodesReply(tuple(self.shown(n) for n in lookup.select(view.nodes.all(), terms, _TESTS)))

    async def get_node(self, request: model.GetRequest, caller: Caller) -> model.NodeReply:
        return model.NodeReply(self.shown(lookup.node(await self.read(), request.ref)))

    def shown(self, node: model.Node) -> model.Node:
        """A node as answers have it: a manager shows whether it leads."""
        if node.manager_status is None:
            return node
        leads = node.id == self.consensus.leader_id
        return replace(node, manager_status=replace(node.manager_status, leader=leads))

    async def update_node(self, request: model.UpdateNodeRequest, caller: Caller) -> model.NodeReply:
        def change(tx: Transaction) -> str:
            node = lookup.node(tx.view, request.ref)
            tx.expect(node, request.version)
            conflicts.node_updatable(tx.view, node, request.spec, self.consensus.members())
            tx.put(replace(node, spec=request.spec))
            return node.id

        node_id = await self.store.update(change)
        return model.NodeReply(self.shown(lookup.node(self.store.view(), node_id)))

    async def remove_node(self, request: model.RemoveRequest, caller: Caller) -> model.Nothing:
        def change(tx: Transaction) -> None:
            node = lookup.node(tx.view, request.ref)
            conflicts.node_removable(node, request.force, self.consensus.members())
            tx.remove(node)

        await self.store.update(change)
        return model.Nothing()
