"""What sessions write about nodes and tasks, and what a session is welcomed with. Pure; used by service.py and lookout.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from common import model
from common.model import NodeState, TaskState
from manager import claims, lifecycle
from manager.store.view import ReadView

DEFAULT_PERIOD: Final = 2 * lifecycle.SECOND
_REPORTED: Final = range(TaskState.TASK_ACCEPTED, TaskState.TASK_REJECTED + 1)


def period_of(cluster: model.Cluster) -> int:
    """Time between two heartbeats, ns."""
    return cluster.spec.dispatcher.heartbeat_period or DEFAULT_PERIOD


def ready_node(node: model.Node, hello: model.Hello, address: str) -> model.Node:
    """The node as its agent describes it, Ready."""
    described = claims.description(hello.description)
    if not described.machine:
        described = replace(described, machine=node.description.machine)
    message = node.status.message if node.status.state == NodeState.NODE_READY else ""
    addr = claims.address(hello.addr, otherwise=address)
    status = model.NodeStatus(state=NodeState.NODE_READY, message=message, addr=addr)
    return replace(node, description=described, status=status, down_since=0)


def down_node(node: model.Node, now: int, why: str = "heartbeat failure") -> model.Node:
    """The node after too many missed heartbeats, or when gossip knows sooner."""
    status = replace(node.status, state=NodeState.NODE_DOWN, message=why)
    return replace(node, status=status, down_since=now)


def with_status(task: model.Task | None, node_id: str, status: model.TaskStatus) -> model.Task | None:
    """The task as its agent reports it; None when the report is no news: states only grow, and the last is final."""
    if task is None or task.node_id != node_id or lifecycle.ended(task):
        return None
    if status.state < task.status.state or int(status.state) not in _REPORTED:
        return None
    if replace(status, timestamp=task.status.timestamp) == task.status:
        return None
    return replace(task, status=status)


def welcome(view: ReadView, node: model.Node, session_id: str, fence: model.Fence) -> model.Welcome:
    """What a node is told of the swarm. The fence says how new that is: a role from the past must not count."""
    cluster = view.cluster
    managers = tuple(
        model.ManagerAddress(node_id=n.id, addr=n.manager_status.addr)
        for n in sorted(view.nodes.all(), key=lambda n: n.id)
        if n.manager_status is not None and n.manager_status.addr
    )
    return model.Welcome(
        session_id=session_id,
        heartbeat_period=period_of(cluster),
        managers=managers,
        root_ca=cluster.root_ca.cert,
        role=node.role,
        node_id=node.id,
        cluster_id=cluster.id,
        network_keys=cluster.network_keys,
        availability=node.spec.availability,
        fence=fence,
    )
