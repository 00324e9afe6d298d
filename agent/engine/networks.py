"""/networks: the swarm's overlays and this node's own bridges in one list. Routes for app.py; shapes in network_shapes.py.

A manager knows all overlays; a worker only those which its tasks use, as Docker does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from agent.engine import filters, lookup
from agent.engine import network_shapes as shapes
from agent.engine.http import Call, Fields, answer, empty, routes
from agent.runtime.api import ContainerState
from common import errors, model

WORKER: Final = (
    "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
)
_LOCAL: Final = (
    "network {} not found in the swarm: it is this node's own. Only networks scoped to the swarm can be used by "
    "services, such as those created with the overlay driver"
)
_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNE_FILTERS: Final = ("label", "label!", "until")
_NOT_OURS: Final = ("bridge", "host", "ipvlan", "macvlan", "null")
_OVERLAY: Final = "overlay"


# ---- finding


async def _containers(call: Call) -> Mapping[str, ContainerState]:
    """This node's containers by task."""
    found = await call.backend.runtime.containers()
    return {c.labels[shapes.TASK_LABEL]: c for c in found if shapes.TASK_LABEL in c.labels}


async def _local(call: Call) -> list[shapes.Shape]:
    """The networks that are this node's alone."""
    info = call.backend.host.info()
    return shapes.local_networks(info.id, info.started_at, await call.backend.host.addresses())


async def _swarm_networks(call: Call) -> Sequence[model.Network]:
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        return (await call.ask(control.ListNetworks, model.ListRequest())).networks
    return tuple(call.backend.swarm.state().networks.values())


async def _swarm_network(call: Call, ref: str) -> model.Network | None:
    """The overlay that `ref` means, by id, name or the beginning of an id."""
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        try:
            return (await call.ask(control.GetNetwork, model.GetRequest(ref))).network
        except errors.NotFound:
            return None
    known = call.backend.swarm.state().networks.values()
    return next(iter(lookup.matches(known, ref, lambda n: n.id, lambda n: n.spec.name)), None)


def _match(networks: Sequence[shapes.Shape], ref: str) -> shapes.Shape | None:
    return next(iter(lookup.matches(networks, ref, lambda n: str(n["Id"]), lambda n: str(n["Name"]))), None)


# ---- reading


async def list_networks(call: Call) -> web.StreamResponse:
    """GET /networks."""
    wanted = filters.parse(call.text("filters"), _FILTERS)
    found = [shapes.overlay(network) for network in await _swarm_networks(call)]
    found += await _local(call)
    return answer([network for network in found if _meets(network, wanted)])


def _meets(network: shapes.Shape, wanted: filters.Filters) -> bool:
    tests = {
        "driver": lambda values: network["Driver"] in values,
        "id": lambda values: any(network["Id"].startswith(value) for value in values),
        "name": lambda values: any(value in network["Name"] for value in values),
        "scope": lambda values: network["Scope"] in values,
        "type": lambda values: ("builtin" if network["Name"] in shapes.PREDEFINED else "custom") in values,
        "label": lambda values: filters.labels_match(network["Labels"] or {}, values),
        "dangling": lambda values: (network["Name"] not in shapes.PREDEFINED) is filters.truth(values),
    }
    return all(tests[key](values) for key, values in wanted.items())


async def inspect(call: Call) -> web.StreamResponse:
    """GET /networks/{id}?scope&verbose: an overlay with its containers and peers where this node takes part in it."""
    ref, scope = call.names["id"], call.text("scope")
    if scope in ("", "local") and (found := _match(await _local(call), ref)):
        gateways = call.backend.gateway_addresses()
        return answer(shapes.with_containers(found, await _containers(call), gateways))
    network = await _swarm_network(call, ref) if scope in ("", "swarm") else None
    if network is None:
        if scope == "swarm" and _match(await _local(call), ref):
            raise errors.NotFound(_LOCAL.format(ref))
        raise errors.NotFound(f"network {ref} not found")
    state = call.backend.swarm.state()
    if scope == "swarm" or network.id not in state.networks:
        return answer(shapes.overlay(network))
    return answer(shapes.overlay_here(network, state, await _containers(call), call.flag("verbose")))


# ---- changing


async def create(call: Call) -> web.StreamResponse:
    """POST /networks/create: overlays; the order of the checks is Docker's."""
    fields = await call.fields()
    name, driver = fields.text("Name"), fields.text("Driver") or "bridge"
    membership = call.backend.swarm.membership()
    if membership.manager and name:
        known = (await call.ask(call.backend.swarm.control().ListNetworks, model.ListRequest())).networks
        if any(network.spec.name == name for network in known):
            raise errors.AlreadyExists(f"network with name {name} already exists")
    if name in shapes.PREDEFINED:
        raise errors.PermissionDenied(f"operation is not permitted on predefined {name} network ")
    if fields.text("Scope") == "swarm" and not fields.text("Driver"):
        driver = _OVERLAY
    if driver in _NOT_OURS:
        raise errors.Unimplemented(f"networks of driver {driver} are not supported yet: use driver overlay")
    if fields.flag("ConfigOnly"):
        raise errors.Unimplemented("networks that hold only a configuration are not supported yet")
    if driver != _OVERLAY:
        raise errors.NotFound(f'plugin "{driver}" not found')
    if fields.text("Scope") == "local":
        raise errors.PermissionDenied("cannot downgrade network scope for overlay networks")
    if membership.node_id and not membership.manager:
        raise errors.PermissionDenied(WORKER)
    try:
        control = call.backend.swarm.control()
    except errors.Unavailable as exc:
        raise errors.ShoalError(exc.message) from exc  # Docker's status is 500 here
    reply = await call.ask(control.CreateNetwork, model.CreateNetworkRequest(_spec(fields, name, driver)))
    return answer({"Id": reply.network.id, "Warning": ""}, 201)


def _spec(fields: Fields, name: str, driver: str) -> model.NetworkSpec:
    given = fields.get("IPAM")
    ipam = None
    if given is not None:
        pool = Fields(given)
        configs = tuple(_pool(Fields(item)) for item in pool.get("Config") or ())
        chosen = model.Driver(pool.text("Driver") or "default", pool.table("Options"))
        ipam = model.IPAMOptions(driver=chosen, configs=configs)
    return model.NetworkSpec(
        name=name,
        labels=fields.table("Labels"),
        driver=model.Driver(driver, fields.table("Options")),
        ipv6_enabled=fields.flag("EnableIPv6"),
        internal=fields.flag("Internal"),
        attachable=fields.flag("Attachable"),
        ingress=fields.flag("Ingress"),
        ipam=ipam,
    )


def _pool(fields: Fields) -> model.IPAMConfig:
    subnet = fields.text("Subnet")
    if fields.table("AuxiliaryAddresses"):
        raise errors.Unimplemented("auxiliary addresses of networks are not supported yet")
    try:
        ipaddress.ip_interface(subnet or "192.0.2.0/24")
        if subnet and "/" not in subnet:
            raise ValueError("no prefix length")
    except ValueError as exc:
        raise errors.ShoalError(f"Invalid subnet {subnet} : invalid CIDR address: {subnet}") from exc
    return model.IPAMConfig(subnet, fields.text("IPRange"), fields.text("Gateway"))


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /networks/{id}."""
    ref = call.names["id"]
    network = await _swarm_network(call, ref)
    if network is None:
        found = _match(await _local(call), ref)
        if found is None:
            raise errors.NotFound(f"network {ref} not found")
        if found["Name"] in shapes.PREDEFINED:
            raise errors.PermissionDenied(f"{found['Name']} is a pre-defined network and cannot be removed")
        raise errors.PermissionDenied(
            f"error while removing network: network {found['Name']} id {found['Id']} has active endpoints"
        )
    control = call.backend.swarm.control()
    await call.ask(control.RemoveNetwork, model.RemoveRequest(network.id))
    return empty(204)


async def prune(call: Call) -> web.StreamResponse:
    """POST /networks/prune: removes the overlays that no service uses."""
    wanted = filters.parse(call.text("filters"), _PRUNE_FILTERS)
    removed: list[str] = []
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        for network in (await call.ask(control.ListNetworks, model.ListRequest())).networks:
            labels = network.spec.labels
            excluded = wanted.get("label!", ())
            if (
                network.spec.ingress
                or not filters.labels_match(labels, wanted.get("label", ()))
                or any(filters.labels_match(labels, (term,)) for term in excluded)
            ):
                continue
            try:
                await call.ask(control.RemoveNetwork, model.RemoveRequest(network.id))
            except (errors.FailedPrecondition, errors.NotFound):
                continue  # in use, or gone already
            removed.append(network.spec.name)
    return answer({"NetworksDeleted": removed or None})


async def not_yet(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/connect and /disconnect."""
    raise errors.Unimplemented("connecting single containers to networks is not supported yet")


ROUTES: Final = routes({
    "GET /networks": list_networks,
    "POST /networks/create": create,
    "POST /networks/prune": prune,
    "GET /networks/{id}": inspect,
    "DELETE /networks/{id}": remove,
    "POST /networks/{id}/connect": not_yet,
    "POST /networks/{id}/disconnect": not_yet,
})  # fmt: skip
