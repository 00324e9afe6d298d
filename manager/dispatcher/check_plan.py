"""What the nodes are told before a `network check`: who takes part, where they are, and what they should find. Pure; used by checks.py."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from common import errors, model, overlays
from common.model import EndpointState, TaskState
from manager import lifecycle
from manager.dispatcher.assignments import node_record, plain
from manager.membership import Membership
from manager.store.view import ReadView

MOST_NODES: Final = 64
"""In a larger swarm only those that are on the network probe each other: pairs grow with the square."""
_MOST_SERVICES: Final = 32


class _Leg(NamedTuple):
    """One in the network that lives on a node."""

    address: str = ""
    mac: str = ""  # another one than belongs to the address


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan for the nodes, and what only the leader needs of it."""

    plan: model.CheckPlan
    lives_on: Mapping[str, str] = field(default_factory=dict)  # nodes by the addresses of backends
    down: Mapping[str, str] = field(
        default_factory=dict
    )  # nodes without a session, and what their status says
    sealed: bool = False  # the network is encrypted


def planned(
    view: ReadView,
    members: Membership,
    ask: model.CheckAsk,
    asker: str,
    sessions: Collection[str],
    nonce: bytes,
) -> Planned:
    """Raises errors.ShoalError where there is nothing to check. A worker may ask for the networks that it is on."""
    network = view.networks.get(ask.network_id)
    node = view.nodes.get(asker)
    allowed = node is not None and (
        node.role == model.NodeRole.MANAGER or members.takes_part(asker, ask.network_id)
    )
    if network is None or not allowed:
        raise errors.NotFound(f"network {ask.network_id} not found")
    if not lifecycle.is_overlay(network):
        raise errors.InvalidArgument(
            f"network {network.spec.name} is no overlay: it connects no nodes with each other"
        )
    legs = _legs(view, members, network)
    chosen = sorted(view.nodes.all(), key=lambda n: (n.description.hostname, n.id))
    if len(chosen) > MOST_NODES:
        chosen = [n for n in chosen if n.id in legs][:MOST_NODES]
    nodes = []
    for n in chosen:
        record, leg = node_record(view, n), legs.get(n.id, _Leg())
        nodes.append(
            model.CheckNode(
                n.id, record.hostname, record.vtep, n.status.addr, leg.address, n.id in sessions, leg.mac
            )
        )
    plan = model.CheckPlan(nonce, network.id, tuple(nodes), tuple(services(view, members, network)))
    down = {
        n.id: n.status.message if lifecycle.down(n) else "its session has just ended"
        for n in chosen
        if n.id not in sessions
    }
    return Planned(
        plan,
        {a: t.node_id for a, t in _offered(view, members, network)},
        down,
        overlays.is_encrypted(network.spec),
    )


def _legs(view: ReadView, members: Membership, network: model.Network) -> Mapping[str, _Leg]:
    """One leg in the network for each node that is on it."""
    found: dict[str, _Leg] = {}
    if network.spec.ingress:
        for node in view.nodes.all():
            if address := _address(node.attachments, network.id):
                found[node.id] = _Leg(address)
        return found
    for task_id in sorted(members.tasks(network.id)):
        task = view.tasks.get(task_id)
        if task is None or task.status.state != TaskState.TASK_RUNNING or not lifecycle.wanted(task):
            continue
        if address := _address(task.networks, network.id):
            mac = next((item.mac for item in task.networks if item.network_id == network.id), "")
            found.setdefault(task.node_id, _Leg(address, mac))
    return found


def _address(attachments: tuple[model.NetworkAttachment, ...], network_id: str) -> str:
    addresses = (a for item in attachments if item.network_id == network_id for a in item.addresses)
    return next((plain(a) for a in addresses if ":" not in a), "")


def _offered(view: ReadView, members: Membership, network: model.Network) -> Iterator[tuple[str, model.Task]]:
    """Every task of the network that is in its balancers, with its address there."""
    for task_id in sorted(members.tasks(network.id)):
        task = view.tasks.get(task_id)
        if task is None or task.endpoint != EndpointState.ENDPOINT_SERVING:
            continue
        if address := _address(task.networks, network.id):
            yield address, task


def services(view: ReadView, members: Membership, network: model.Network) -> Iterator[model.CheckService]:
    """What names and VIPs of the network lead to. The ingress network has neither."""
    if network.spec.ingress:
        return
    backends: dict[str, list[str]] = {}
    for address, task in _offered(view, members, network):
        backends.setdefault(task.service_id, []).append(address)
    known = [view.services.get(service_id) for service_id in backends]
    there = [s for s in known if s is not None and not s.pending_delete]
    for service in sorted(there, key=lambda s: s.spec.name)[:_MOST_SERVICES]:
        vips = (v.addr for v in service.endpoint.virtual_ips if v.network_id == network.id)
        vip = next((plain(v) for v in vips if ":" not in v), "") if lifecycle.uses_vip(service.spec) else ""
        yield model.CheckService(service.spec.name, vip, tuple(backends[service.id]))
