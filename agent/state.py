"""What the managers have assigned to this node, as one immutable value.

The session (agent/session.py) folds each Assignments message into it; worker, network and DNS are functions of it.
The agent's database keeps the last one, so that a node brings everything back without any manager.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from common import model


@dataclass(frozen=True, slots=True)
class NodeState:
    """All assignments, keyed as their names say; `endpoints` by (task id, network id)."""

    node_id: str = ""
    fence: model.Fence = field(default_factory=model.Fence)
    chain: str = ""
    tasks: Mapping[str, model.TaskAssignment] = field(default_factory=dict)
    networks: Mapping[str, model.Network] = field(default_factory=dict)
    services: Mapping[str, model.ServiceRecord] = field(default_factory=dict)
    endpoints: Mapping[tuple[str, str], model.EndpointRecord] = field(default_factory=dict)
    nodes: Mapping[str, model.NodeRecord] = field(default_factory=dict)
    configs: Mapping[str, model.ConfigRecord] = field(default_factory=dict)
    lost: Collection[str] = frozenset()  # tasks that gossip speaks against (agent/verdicts.py); never stored

    def with_changes(
        self, changes: Iterable[model.AssignmentChange], fence: model.Fence, chain: str, complete: bool
    ) -> NodeState:
        """This state after `changes`; a complete set replaces everything. Raises ValueError for an unknown key."""
        tables: dict[str, dict[Any, Any]] = {
            "task": {} if complete else dict(self.tasks),
            "network": {} if complete else dict(self.networks),
            "service": {} if complete else dict(self.services),
            "endpoint": {} if complete else dict(self.endpoints),
            "node": {} if complete else dict(self.nodes),
            "config": {} if complete else dict(self.configs),
        }
        for change in changes:
            kind, _, rest = change.key.partition("/")
            if kind not in tables:
                raise ValueError(f"assignment of an unknown kind: {change.key}")
            key: Any = tuple(rest.split("/", 1)) if kind == "endpoint" else rest
            if change.remove:
                tables[kind].pop(key, None)
                continue
            item = getattr(change.assignment, kind)
            tables[kind][key] = item.network if kind == "network" else item
        return replace(
            self, fence=fence, chain=chain, tasks=tables["task"], networks=tables["network"],
            services=tables["service"], endpoints=tables["endpoint"], nodes=tables["node"],
            configs=tables["config"],
        )  # fmt: skip
