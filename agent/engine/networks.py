"""/networks: the swarm's overlays and this node's own bridges in one list. Routes for app.py; shapes in network_shapes.py.

A manager knows all overlays; a worker only those which its tasks use, as Docker does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from agent.engine import (
    filters,
    local_networks,
    moments,
    network_check,
    network_finding,
    network_members,
    network_requests,
    telling,
    versions,
)
from agent.engine import network_shapes as shapes
from agent.engine.http import Call, answer, empty, finish, routes
from agent.network.names import GATEWAY_BRIDGE
from agent.runtime.api import Status
from agent.single.record import HOST, NONE
from common import errors, ids, model

WORKER: Final = (
    "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
)
_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNE_FILTERS: Final = ("label", "label!", "until")
_NOT_OURS: Final = ("ipvlan", "macvlan")
_OVERLAY: Final = "overlay"
_BRIDGE: Final = "bridge"
_DEFAULT: Final = "default"  # what `--network default` means isn't to be asked twice
_EVER: Final = 1 << 63


# ---- reading


async def list_networks(call: Call) -> web.StreamResponse:
    """GET /networks."""
    wanted = filters.parse(call.text("filters"), _FILTERS)
    found = [shapes.overlay(network) for network in await network_finding.of_the_swarm(call)]
    found += await network_finding.of_this_node(call)
    chosen = [network for network in found if all(_TESTS[key](network, wanted[key]) for key in wanted)]
    if (dangling := filters.truth(wanted.get("dangling", ()))) is not None:
        used = await _used(call) | _used_here(call)
        chosen = [network for network in chosen if _dangles(network, used) is dangling]
    return answer([versions.network(network, call.version) for network in chosen])


async def _used(call: Call) -> frozenset[str]:
    """Ids of the overlays that something uses."""
    if not call.backend.swarm.membership().manager:
        return frozenset(call.backend.swarm.state().networks)
    control = call.backend.swarm.control()
    services = (await call.ask(control.ListServices, model.ListRequest())).services
    return frozenset(attachment.target for s in services for attachment in s.spec.task.networks)


def _used_here(call: Call) -> frozenset[str]:
    """Ids of this node's own networks that containers are on now."""
    singles = call.backend.singles
    return frozenset(n.id for n in singles.networks.all() if singles.wiring.members(n.id))


def _dangles(network: shapes.Shape, used: frozenset[str]) -> bool:
    """Nobody uses it; what every node needs never dangles."""
    needed = network["Ingress"] or network["Name"] in (*shapes.PREDEFINED, GATEWAY_BRIDGE)
    return not needed and network["Id"] not in used


def _of_type(network: shapes.Shape, values: Sequence[str]) -> bool:
    for value in values:
        if value not in ("builtin", "custom"):
            raise errors.InvalidArgument(f"invalid filter: 'type'='{value}'")
    return ("builtin" if network["Name"] in shapes.PREDEFINED else "custom") in values


_TESTS: Final[Mapping[str, Callable[[shapes.Shape, Sequence[str]], bool]]] = {
    "driver": lambda network, values: network["Driver"] in values,
    "id": lambda network, values: filters.matches(network["Id"], values),
    "name": lambda network, values: filters.matches(network["Name"], values),
    "scope": lambda network, values: network["Scope"] in values,
    "type": _of_type,
    "label": lambda network, values: filters.labels_match(network["Labels"] or {}, values),
    "dangling": lambda network, values: True,  # needs to know who uses what
}


async def inspect(call: Call) -> web.StreamResponse:
    """GET /networks/{id}?scope&verbose."""
    return answer(versions.network(await _inspected(call), call.version))


async def _inspected(call: Call) -> shapes.Shape:
    """An overlay with its containers and peers where this node takes part in it."""
    scope, verbose = call.text("scope"), call.boolean("verbose")
    network = await network_finding.find(call, call.names["id"], scope, reading=True)
    state = call.backend.swarm.state()
    if not isinstance(network, model.Network) and (ours := network_finding.own(call, network)) is not None:
        return network_finding.shown(call, ours, full=True)
    if not isinstance(network, model.Network):
        own = state.nodes.get(state.node_id)
        meshes = [n.spec.name for n in state.networks.values() if n.spec.ingress]
        meshed = meshes[0] if meshes and own is not None and own.ingress_addr else ""
        gateways = call.backend.gateway_addresses()
        here = await _in_mode(call, network_finding.name_of(network))
        return shapes.with_containers(network, await network_finding.members(call), gateways, meshed, here)
    if network.id not in state.networks:
        return shapes.overlay(network)
    return shapes.overlay_here(network, state, await network_finding.members(call), verbose)


async def _in_mode(call: Call, name: str) -> Mapping[str, str]:
    """Names of the running containers, by id, that have this node's `host` or `none` for their network."""
    if name not in (HOST, NONE):
        return {}
    running = [c for c in await call.backend.runtime.containers() if c.status is Status.RUNNING]
    if name == HOST:  # tasks, too
        return {c.id: c.name for c in running if c.config is not None and c.config.host_network}
    records = call.backend.singles.records()
    return {c.id: c.name for c in running if c.id in records and records[c.id].network_mode == NONE}


async def check(call: Call) -> web.StreamResponse:
    """GET /networks/{id}/check, not Docker's: has the nodes probe each other."""
    network = await network_finding.find(call, call.names["id"])
    if not isinstance(network, model.Network):
        raise errors.InvalidArgument(
            f"network {network['Name']} is this node's own: it connects no nodes with each other"
        )
    found = await call.backend.swarm.check_network(network.id)
    return answer(network_check.shape(network, found))


# ---- changing


async def create(call: Call) -> web.StreamResponse:
    """POST /networks/create: overlays; the order of the checks is Docker's."""
    fields = await call.fields("network.CreateRequest")
    name, driver = fields.text("Name"), fields.text("Driver") or "bridge"
    membership = call.backend.swarm.membership()
    fields.flag("CheckDuplicate")  # always
    network_requests.refuse_nameless(name)
    await _refuse_name(call, name)
    if fields.text("Scope") == "swarm" and not fields.text("Driver"):
        driver = _OVERLAY
    config_from = fields.part("ConfigFrom", "network.ConfigReference").text("Network")
    config_only = fields.flag("ConfigOnly")
    if driver in ("host", "null") and not config_only:
        raise errors.PermissionDenied(f'only one instance of "{driver}" network is allowed')
    if config_only or (driver == _BRIDGE and fields.text("Scope") in ("", "local")):
        asked = local_networks.requested(fields, name, ids.new_container_id(), call.backend.now_ns())
        if config_from:
            asked = local_networks.configured(asked, config_from, call.backend.singles.networks.all())
        made = await finish(call.backend.singles.add_network(asked))
        telling.network(call.backend, "create", made.id, made.name, _BRIDGE)
        return answer({"Id": made.id, "Warning": ""}, 201)
    if config_from:
        raise errors.Unimplemented(
            "a network of this driver takes no configuration from another one yet: only bridges do"
        )
    if driver in _NOT_OURS:
        raise errors.Unimplemented(
            f"networks of driver {driver} are not supported yet: use overlay or bridge"
        )
    if driver == _BRIDGE:
        raise errors.Unimplemented("bridge networks of the swarm's scope are not supported yet")
    if driver != _OVERLAY:
        raise errors.NotFound(f'plugin "{driver}" not found')
    if fields.text("Scope") == "local":
        raise errors.PermissionDenied("cannot downgrade network scope for overlay networks")
    if membership.node_id and not membership.manager:
        raise errors.PermissionDenied(WORKER)
    if fields.get("EnableIPv4") is False:
        raise errors.InvalidArgument("IPv4 cannot be disabled in a Swarm scoped network")
    try:
        control = call.backend.swarm.control()
    except errors.Unavailable as exc:
        raise errors.ShoalError(exc.message) from exc  # Docker's status is 500 here
    spec = network_requests.spec(fields, name, driver)
    reply = await call.ask(control.CreateNetwork, model.CreateNetworkRequest(spec))
    telling.network(call.backend, "create", reply.network.id, name, _OVERLAY)
    return answer({"Id": reply.network.id, "Warning": ""}, 201)


async def _refuse_name(call: Call, name: str) -> None:
    """A name that is taken, by an overlay or on this node."""
    if call.backend.swarm.membership().manager and name:
        known = await network_finding.of_the_swarm(call, model.FilterTerm("name", name))
        if any(network.spec.name == name for network in known):
            raise errors.AlreadyExists(f"network with name {name} already exists")
    if name in (*shapes.PREDEFINED, _DEFAULT):
        raise errors.PermissionDenied(f"operation is not permitted on predefined {name} network ")
    if any(network["Name"] == name for network in await network_finding.of_this_node(call)):
        raise errors.AlreadyExists(f"network with name {name} already exists")


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /networks/{id}."""
    found = await network_finding.find(call, call.names["id"])
    if not isinstance(found, model.Network):
        if found["Name"] in shapes.PREDEFINED:
            raise errors.PermissionDenied(f"{found['Name']} is a pre-defined network and cannot be removed")
        if (ours := network_finding.own(call, found)) is not None:
            local_networks.refuse_configuring(ours, call.backend.singles.networks.all())
            await finish(call.backend.singles.drop_network(ours))
            telling.network(call.backend, "destroy", ours.id, ours.name, _BRIDGE)
            return empty(204)
        raise errors.PermissionDenied(
            f"error while removing network: network {found['Name']} id {found['Id']} has active endpoints"
        )
    control = call.backend.swarm.control()
    await call.ask(control.RemoveNetwork, model.RemoveRequest(found.id))
    telling.network(call.backend, "remove", found.id, found.spec.name, _OVERLAY)
    return empty(204)


async def prune(call: Call) -> web.StreamResponse:
    """POST /networks/prune: removes the overlays that no service uses."""
    wanted = filters.parse(call.text("filters"), _PRUNE_FILTERS)
    until = _until(wanted.get("until", ()), call.backend.now_ns())
    removed = await _prune_local(call, wanted, until)
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        for network in await network_finding.of_the_swarm(call):
            if (
                network.spec.ingress
                or network.created_at > until
                or not _prunable(network.spec.labels, wanted)
            ):
                continue
            try:
                await call.ask(control.RemoveNetwork, model.RemoveRequest(network.id))
            except (errors.FailedPrecondition, errors.NotFound):
                continue  # in use, or gone already
            telling.network(call.backend, "remove", network.id, network.spec.name, _OVERLAY)
            removed.append(network.spec.name)
    telling.pruned(call.backend, "network")
    return answer({"NetworksDeleted": removed or None})


def _until(values: Sequence[str], now: int) -> int:
    """Only what was made before this goes."""
    if len(values) > 1:
        raise errors.InvalidArgument("more than one until filter specified")
    return moments.moment(values[0], now) if values else _EVER


async def _prune_local(call: Call, wanted: filters.Filters, until: int) -> list[str]:
    """Bridges of this node's own that no container is in, or will be when it starts."""
    singles = call.backend.singles
    removed: list[str] = []
    for network in singles.networks.all():
        if network.name in shapes.PREDEFINED or network.created_at > until:
            continue
        if network.id not in _used_here(call) and _prunable(network.labels, wanted):
            await finish(singles.drop_network(network))
            telling.network(call.backend, "destroy", network.id, network.name, _BRIDGE)
            removed.append(network.name)
    return removed


def _prunable(labels: Mapping[str, str], wanted: filters.Filters) -> bool:
    if not filters.labels_match(labels, wanted.get("label", ())):
        return False
    return not any(filters.labels_match(labels, (term,)) for term in wanted.get("label!", ()))


ROUTES: Final = routes({
    "GET /networks": list_networks,
    "GET /networks/": list_networks,
    "POST /networks/create": create,
    "POST /networks/prune": prune,
    "GET /networks/{id}/check": check,
    "GET /networks/{id:path}": inspect,  # names may hold slashes
    "DELETE /networks/{id:path}": remove,
    "POST /networks/{id:path}/connect": network_members.connect,
    "POST /networks/{id:path}/disconnect": network_members.disconnect,
})  # fmt: skip
