"""What all loops of the leader mean by running, ended, lost, stopped, due. Pure predicates on the state model."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from common import model
from common.model import Availability, NodeState, TaskState

SECOND: Final = 1_000_000_000
SKEW: Final = 10 * SECOND
"""Clocks of two machines may differ by so much without being wrong."""


def ended(task: model.Task) -> bool:
    """Its state is final."""
    return task.status.state > TaskState.TASK_RUNNING


def wanted(task: model.Task) -> bool:
    """It runs or is to run: it occupies its slot."""
    return task.desired_state <= TaskState.TASK_RUNNING


def ended_by_itself(task: model.Task) -> bool:
    """It exited, failed or could not be started; nobody had asked it to stop."""
    return task.status.state in (TaskState.TASK_COMPLETE, TaskState.TASK_FAILED, TaskState.TASK_REJECTED)


def serving(task: model.Task) -> bool:
    """It runs and, where it has a health check, is healthy."""
    return task.status.state == TaskState.TASK_RUNNING and task.status.healthy


def down(node: model.Node | None) -> bool:
    """Nothing is to be expected from this node: it was removed or is Down."""
    return node is None or node.status.state == NodeState.NODE_DOWN


def leaving(node: model.Node | None) -> bool:
    """Tasks must leave this node: it was removed, is Down or is drained."""
    return down(node) or (node is not None and node.spec.availability == Availability.DRAIN)


def hostname(node: model.Node | None, node_id: str) -> str:
    """The name of a node in log sentences."""
    return node.description.hostname if node is not None and node.description.hostname else node_id


def due(deadline: int, now: int, longest: int) -> bool:
    """Whether `deadline` has passed. One that lies much further ahead than it ever can was made by a clock that was
    wrong, or has jumped since: it counts as passed, so that nothing hangs on it."""
    return now >= deadline or deadline - now > longest + SKEW


def with_status(task: model.Task, now: int, state: TaskState, message: str, err: str = "") -> model.Task:
    """`task` in `state`, as the manager itself says."""
    status = replace(task.status, timestamp=now, state=state, message=message, err=err)
    return replace(task, status=status)


def stop(task: model.Task, now: int, desired: TaskState = TaskState.TASK_SHUTDOWN) -> model.Task:
    """`task` with a desired state beyond running. One that no node has heard of is over at once."""
    if task.desired_state < desired:
        task = replace(task, desired_state=desired, start_after=0)
    if not task.node_id and not ended(task):
        task = with_status(
            task, now, TaskState.TASK_SHUTDOWN, "stopped before it was assigned", task.status.err
        )
    return task


def networks_of(spec: model.ServiceSpec) -> tuple[model.NetworkAttachmentConfig, ...]:
    """The networks that a service asks for (before API 1.25 they stood in the service's spec)."""
    return spec.task.networks or spec.networks


def is_overlay(network: model.Network) -> bool:
    """Whether the network is one of ours; others (a node's own `host`) have neither addresses nor numbers."""
    return network.spec.driver is None or network.spec.driver.name in ("", "overlay")


def ingress_ports(ports: tuple[model.PortConfig, ...]) -> tuple[model.PortConfig, ...]:
    """Those of `ports` that the routing mesh publishes."""
    return tuple(p for p in ports if p.publish_mode != model.PublishMode.HOST)


def host_ports(ports: tuple[model.PortConfig, ...]) -> tuple[model.PortConfig, ...]:
    """Those of `ports` that are published on the task's own node only."""
    return tuple(p for p in ports if p.publish_mode == model.PublishMode.HOST)


def spec_ports(spec: model.ServiceSpec) -> tuple[model.PortConfig, ...]:
    """The published ports that a service asks for."""
    return spec.endpoint.ports if spec.endpoint is not None else ()


def uses_vip(spec: model.ServiceSpec) -> bool:
    """Whether the service has virtual IPs; VIP is the default mode."""
    return spec.endpoint is None or spec.endpoint.mode != model.EndpointMode.DNSRR


def state_name(task: model.Task) -> str:
    """The state's word, as users know it."""
    return task.status.state.name.removeprefix("TASK_").lower()
