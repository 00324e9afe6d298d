"""What agent/network/manager.py says of a network that it cannot set up: before the kernel is asked, and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.network import bridges, dual, names
from agent.network.kernel import describe
from agent.network.legs import Leg
from agent.network.underlay import Underlay, is_encrypted, overlay_mtu
from agent.state import NodeState
from common import errors, model


def refuse_impossible(state: NodeState, task: model.Task, lacks: str = "") -> None:
    """Raises what can be told of a task before the kernel is asked. `lacks` names the module that sealing would need."""
    me = state.nodes.get(state.node_id)
    for attachment in task.networks:
        network = state.networks.get(attachment.network_id)
        if network is None:
            raise errors.NotFound(f"network {attachment.network_id} not found")
        name = network.spec.name
        if not network.vni:
            raise errors.Internal(f"could not attach to network {name}: no VXLAN id was allocated")
        if not attachment.addresses:
            raise errors.Internal(f"could not attach to network {name}: no address was allocated")
        if me is None or not me.vtep:
            raise errors.Internal(
                f"could not create the sandbox of network {name}: this node has no data path address"
            )
        if lacks and is_encrypted(network):
            raise errors.FailedPrecondition(
                f"could not create the sandbox of network {name}: encrypted networks need ESP with AES-GCM,"
                f" and this node's kernel has no module {lacks}"
            )


def refuse_without_ipv6(legs: Sequence[Leg], underlay: Underlay) -> None:
    """Raises when a task is to have an IPv6 address that this machine can't give it; the routing mesh does without."""
    for leg in (leg for leg in legs if not leg.network.spec.ingress):
        said = f"could not attach to network {leg.network.spec.name}: "
        if leg.address6 and not underlay.ipv6:
            raise errors.FailedPrecondition(f"{said}the kernel of this node has no IPv6")
        if leg.address6 and (mtu := overlay_mtu(leg.network, underlay)) < dual.LEAST_MTU:
            raise errors.FailedPrecondition(
                f"{said}its MTU is {mtu} on this node, and IPv6 needs {dual.LEAST_MTU}"
            )


def refuse_busy(task: model.Task, busy: tuple[str, int] | None) -> None:
    """Raises when a process of the node has a host-mode port of the task."""
    if busy is not None:
        raise errors.Internal(
            f"driver failed programming external connectivity on endpoint {task.name}: "
            f"failed to bind host port for 0.0.0.0:{busy[1]}/{busy[0]}: address already in use"
        )


def refuse_allocated(task: model.Task, ports: Sequence[tuple[str, int]], local: bridges.Local) -> None:
    """Raises when a single container has a host-mode port of the task."""
    bindings = (b for wired in local.containers.values() for b in wired.bindings)
    held = {(b.protocol, b.port) for b in bindings if b.version == 4}  # as tasks publish
    for port in ports:
        if port in held:
            raise errors.Internal(
                f"driver failed programming external connectivity on endpoint {task.name}: "
                f"Bind for 0.0.0.0:{port[1]} failed: port is already allocated"
            )


def refuse_failed(failed: Mapping[str, Exception], own: str, legs: Sequence[Leg]) -> None:
    """Raises the failure that keeps the task in the namespace `own` from its networks, if one does."""
    for leg in legs:
        cause = failed.get(names.network_namespace(leg.network.id))
        if cause is not None:
            raise errors.Internal(
                f"could not create the sandbox of network {leg.network.spec.name}: {describe(cause)}"
            )
    if own in failed:
        networks = ", ".join(leg.network.spec.name for leg in legs) or names.GATEWAY_BRIDGE
        raise errors.Internal(f"could not attach to network {networks}: {describe(failed[own])}")
    if names.HOST in failed:
        raise errors.Internal(f"could not set up {names.GATEWAY_BRIDGE}: {describe(failed[names.HOST])}")


def first_failure(failed: Mapping[str, Exception]) -> str:
    """The first cause by name, and how many more there are."""
    name, error = sorted(failed.items())[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{name or 'host'}: {describe(error)}{more}"
