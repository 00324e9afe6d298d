"""POST /networks/{id}/connect and disconnect: single containers come to networks and leave them. Routes of networks.py."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from agent.engine import container_requests, containers, network_finding, telling
from agent.engine.http import Call, Fields, empty, finish
from agent.network.names import GATEWAY_BRIDGE
from agent.runtime.api import ContainerState
from agent.single import addressing
from agent.single.record import HOST, JOINED, NONE, Leg, SingleRecord
from common import errors

_HOST: Final = "container cannot be disconnected from host network or connected to host network"


async def connect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/connect: for containers that run and others, on this node's bridges and in overlays."""
    fields = await call.fields("network.ConnectOptions")
    container, record, network = await _both(call, fields)
    name = network if isinstance(network, str) else network_finding.name_of(network)
    _refuse_kinds(record, name)
    macs = call.version >= container_requests.OWN_MACS
    part = fields.part("EndpointConfig", "network.EndpointSettings")
    asked = container_requests.leg(name, part, macs)
    asked = container_requests.named(asked, container.config.hostname if container.config else "")
    ours = network_finding.own(call, network) if isinstance(network, dict) else None
    if _leg_in(call, record, network) is not None:
        if ours is None:
            raise errors.Conflict(f"{container.name} is already attached to network {name}")
        raise errors.PermissionDenied(f"endpoint with name {container.name} already exists in network {name}")
    if ours is not None:
        for address in asked.wishes:
            addressing.refuse_wanted(ours, address)
    await finish(call.backend.singles.connect(container.id, asked))
    await telling.networks_changed(call.backend, container.id)
    return empty(200)


async def disconnect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/disconnect."""
    fields = await call.fields("network.DisconnectOptions")
    fields.flag("Force")  # there is nothing here that takes force
    container, record, network = await _both(call, fields)
    name = network if isinstance(network, str) else network_finding.name_of(network)
    if HOST in (name, record.network_mode):
        raise errors.PermissionDenied(_HOST)
    leg = _leg_in(call, record, network)
    if leg is None and isinstance(network, str):
        raise errors.NotFound(f"network {name} not found")
    if leg is None:
        raise errors.ShoalError(f"container {container.id} is not connected to network {name}")
    await finish(call.backend.singles.disconnect(container.id, leg))
    await telling.networks_changed(call.backend, container.id)
    return empty(200)


async def _both(call: Call, fields: Fields) -> tuple[ContainerState, SingleRecord, network_finding.Network]:
    """The network first, as Docker looks for them. A worker doesn't know overlays in which it has nothing."""
    if not fields.text("Container"):
        raise errors.InvalidArgument('invalid name or ID supplied: ""')
    ref = call.names["id"]
    network: network_finding.Network = ref
    try:
        network = await network_finding.find(call, ref)
    except errors.NotFound:
        if not call.backend.swarm.membership().node_id:
            raise
    container = await containers.find(call, fields.text("Container"))
    record = call.backend.singles.record(container.id)
    if record is None:
        raise errors.PermissionDenied(
            f"container {container.id} belongs to a task: its networks are those of its service"
        )
    return container, record, network


def _refuse_kinds(record: SingleRecord, name: str) -> None:
    mode = record.network_mode
    if mode == HOST or mode.startswith(JOINED):
        raise errors.InvalidArgument(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if name == HOST:
        raise errors.InvalidArgument(_HOST)
    if NONE in (name, mode):
        raise errors.InvalidArgument(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if name == GATEWAY_BRIDGE:
        raise errors.PermissionDenied(f"network {name} is this node's own way out of overlays")


def _leg_in(call: Call, record: SingleRecord, network: network_finding.Network) -> Leg | None:
    """The container's part in a network, whatever name it was asked for by."""
    known = call.backend.singles.networks
    local = network_finding.own(call, network) if isinstance(network, dict) else None
    for leg in record.legs:
        if local is not None and known.find(leg.network) is local:
            return leg
        if local is None and known.find(leg.network) is None and _means(leg.network, network):
            return leg
    return None


def _means(ref: str, network: network_finding.Network) -> bool:
    if isinstance(network, str):
        return ref == network
    return ref == network_finding.name_of(network) or network_finding.id_of(network).startswith(ref)
