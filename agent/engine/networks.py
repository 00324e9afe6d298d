"""/networks: the swarm's overlays and this node's own bridges in one list. Routes for app.py; shapes in network_shapes.py.

A manager knows all overlays; a worker only those which its tasks use, as Docker does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from agent.engine import (
    container_requests,
    containers,
    filters,
    local_networks,
    lookup,
    moments,
    network_check,
    network_requests,
    telling,
)
from agent.engine import network_shapes as shapes
from agent.engine.http import Call, Fields, answer, empty, finish, routes
from agent.network.names import GATEWAY_BRIDGE
from agent.runtime.api import ContainerState, Status
from agent.single import addressing
from agent.single.record import HOST, JOINED, NONE, Leg, LocalNetwork, SingleRecord
from common import errors, ids, model

WORKER: Final = (
    "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
)
_LOCAL: Final = (
    "network {} not found in the swarm: it is this node's own. Only networks scoped to the swarm can be used by "
    "services, such as those created with the overlay driver"
)
_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNE_FILTERS: Final = ("label", "label!", "until")
_NOT_OURS: Final = ("ipvlan", "macvlan")
_OVERLAY: Final = "overlay"
_BRIDGE: Final = "bridge"
_DEFAULT: Final = "default"  # what `--network default` means isn't to be asked twice
_HOST: Final = "container cannot be disconnected from host network or connected to host network"
_EVER: Final = 1 << 63


_Network = shapes.Shape | model.Network | str  # a network that this node doesn't know is what it was called


# ---- finding


async def _containers(call: Call) -> Mapping[str, ContainerState]:
    """This node's containers by task; single ones by what the network knows them by."""
    found = await call.backend.runtime.containers()
    by_id = {c.id: c for c in found}
    singles = {key: by_id[id] for key, id in call.backend.singles.sandboxes().items() if id in by_id}
    return {**{c.labels[shapes.TASK_LABEL]: c for c in found if shapes.TASK_LABEL in c.labels}, **singles}


async def _local(call: Call) -> list[shapes.Shape]:
    """The networks that are this node's alone."""
    info = call.backend.host.info()
    found = shapes.local_networks(info.id, info.started_at, await call.backend.host.addresses())
    return [*found, *(_shown(call, network) for network in call.backend.singles.networks.all())]


def _shown(call: Call, network: LocalNetwork, full: bool = False) -> shapes.Shape:
    """A bridge of this node's own; its containers only where one is inspected, as in Docker."""
    singles = call.backend.singles
    members = singles.wiring.members(network.id) if full else {}
    names = {id: record.name for id, record in singles.records().items()}
    return local_networks.shown(network, call.backend.host.info().id, members, names)


def _own(call: Call, shape: shapes.Shape) -> LocalNetwork | None:
    """The record of a local network that this node makes and removes."""
    node = call.backend.host.info().id
    known = call.backend.singles.networks.all()
    return next((n for n in known if local_networks.identity(n, node) == shape["Id"]), None)


async def _swarm_networks(call: Call, *terms: model.FilterTerm) -> Sequence[model.Network]:
    """The overlays that this node knows; `terms` narrow down what a manager answers."""
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        return (await call.ask(control.ListNetworks, model.ListRequest(terms))).networks
    known = call.backend.swarm.state().networks.values()
    return tuple(n for n in known if not n.pending_delete and shapes.SWARM_PREDEFINED not in n.spec.labels)


async def _find(call: Call, ref: str, scope: str = "", reading: bool = False) -> shapes.Shape | model.Network:
    """The one network that `ref` means, by id, name or the beginning of an id; `scope` is swarm, local or both. Where it
    means several, Docker has other words for those who only read."""
    found: list[shapes.Shape | model.Network] = []
    local = await _local(call)
    if scope in ("", "local"):
        found += local
    if scope in ("", "swarm") and ref:
        named = await _swarm_networks(call, model.FilterTerm("name", ref))
        found += named or await _swarm_networks(call, model.FilterTerm("id", ref))
    if scope == "swarm" and ref == shapes.HOST and not found:
        return shapes.host_of_the_swarm()
    matches = lookup.matches(found, ref, _id, _name)
    if ref in shapes.PREDEFINED and scope == "":
        matches = matches[
            :1
        ]  # this node's own; the swarm's of that name is asked for by its scope, or its id
    if len(matches) > 1:
        by = "name" if _name(matches[0]) == ref else "ID prefix"
        count, ambiguous = f"{len(matches)} matches found based on {by}", f"network {ref} is ambiguous"
        raise errors.InvalidArgument(f"{count}: {ambiguous}" if reading else f"{ambiguous} ({count})")
    if not matches:
        if scope == "swarm" and lookup.matches(local, ref, _id, _name):
            raise errors.NotFound(_LOCAL.format(ref))
        raise errors.NotFound(f"network {ref} not found")
    return matches[0]


def _id(network: shapes.Shape | model.Network) -> str:
    return network.id if isinstance(network, model.Network) else str(network["Id"])


def _name(network: shapes.Shape | model.Network) -> str:
    return network.spec.name if isinstance(network, model.Network) else str(network["Name"])


# ---- reading


async def list_networks(call: Call) -> web.StreamResponse:
    """GET /networks."""
    wanted = filters.parse(call.text("filters"), _FILTERS)
    found = [shapes.overlay(network) for network in await _swarm_networks(call)]
    found += await _local(call)
    chosen = [network for network in found if all(_TESTS[key](network, wanted[key]) for key in wanted)]
    if (dangling := filters.truth(wanted.get("dangling", ()))) is not None:
        used = await _used(call) | _used_here(call)
        chosen = [network for network in chosen if _dangles(network, used) is dangling]
    return answer(chosen)


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
    """GET /networks/{id}?scope&verbose: an overlay with its containers and peers where this node takes part in it."""
    scope, verbose = call.text("scope"), call.boolean("verbose")
    network = await _find(call, call.names["id"], scope, reading=True)
    state = call.backend.swarm.state()
    if not isinstance(network, model.Network) and (ours := _own(call, network)) is not None:
        return answer(_shown(call, ours, full=True))
    if not isinstance(network, model.Network):
        own = state.nodes.get(state.node_id)
        meshes = [n.spec.name for n in state.networks.values() if n.spec.ingress]
        meshed = meshes[0] if meshes and own is not None and own.ingress_addr else ""
        gateways = call.backend.gateway_addresses()
        here = await _in_mode(call, _name(network))
        return answer(shapes.with_containers(network, await _containers(call), gateways, meshed, here))
    if network.id not in state.networks:
        return answer(shapes.overlay(network))
    return answer(shapes.overlay_here(network, state, await _containers(call), verbose))


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
    network = await _find(call, call.names["id"])
    if not isinstance(network, model.Network):
        raise errors.InvalidArgument(
            f"network {network['Name']} is this node's own: it connects no nodes with each other"
        )
    found = await call.backend.swarm.check_network(network.id)
    return answer(network_check.shape(network, found))


# ---- changing


async def create(call: Call) -> web.StreamResponse:
    """POST /networks/create: overlays; the order of the checks is Docker's."""
    fields = await call.fields()
    name, driver = fields.text("Name"), fields.text("Driver") or "bridge"
    membership = call.backend.swarm.membership()
    await _refuse_name(call, name)
    if fields.text("Scope") == "swarm" and not fields.text("Driver"):
        driver = _OVERLAY
    config_from, config_only = (
        Fields(fields.get("ConfigFrom") or {}).text("Network"),
        fields.flag("ConfigOnly"),
    )
    if driver in ("host", "null") and not config_only:
        raise errors.PermissionDenied(f'only one instance of "{driver}" network is allowed')
    if config_only or (driver == _BRIDGE and fields.text("Scope") in ("", "local")):
        network_requests.refuse_nameless(name)
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
        known = await _swarm_networks(call, model.FilterTerm("name", name))
        if any(network.spec.name == name for network in known):
            raise errors.AlreadyExists(f"network with name {name} already exists")
    if name in (*shapes.PREDEFINED, _DEFAULT):
        raise errors.PermissionDenied(f"operation is not permitted on predefined {name} network ")
    if any(network["Name"] == name for network in await _local(call)):
        raise errors.AlreadyExists(f"network with name {name} already exists")


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /networks/{id}."""
    found = await _find(call, call.names["id"])
    if not isinstance(found, model.Network):
        if found["Name"] in shapes.PREDEFINED:
            raise errors.PermissionDenied(f"{found['Name']} is a pre-defined network and cannot be removed")
        if (ours := _own(call, found)) is not None:
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
        for network in await _swarm_networks(call):
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


# ---- containers come and go


async def connect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/connect: for containers that run and others, on this node's bridges and in overlays."""
    fields = await call.fields()
    container, record, network = await _both(call, fields)
    name = network if isinstance(network, str) else _name(network)
    _refuse_kinds(record, name)
    asked = container_requests.leg(name, Fields(fields.get("EndpointConfig") or {}))
    asked = container_requests.named(asked, container.config.hostname if container.config else "")
    ours = _own(call, network) if isinstance(network, dict) else None
    if _leg_in(call, record, network) is not None:
        if ours is None:
            raise errors.Conflict(f"{container.name} is already attached to network {name}")
        raise errors.PermissionDenied(f"endpoint with name {container.name} already exists in network {name}")
    if ours is not None and asked.wanted:
        addressing.refuse_wanted(ours, asked.wanted)
    if ours is None and asked.wanted:
        raise errors.Unimplemented("--ip in networks of the swarm is not supported yet for single containers")
    await finish(call.backend.singles.connect(container.id, asked))
    await telling.networks_changed(call.backend, container.id)
    return empty(200)


async def disconnect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/disconnect."""
    fields = await call.fields()
    fields.flag("Force")  # there is nothing here that takes force
    container, record, network = await _both(call, fields)
    name = network if isinstance(network, str) else _name(network)
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


async def _both(call: Call, fields: Fields) -> tuple[ContainerState, SingleRecord, _Network]:
    """The network first, as Docker looks for them. A worker doesn't know overlays in which it has nothing."""
    if not fields.text("Container"):
        raise errors.InvalidArgument('invalid name or ID supplied: ""')
    ref = call.names["id"]
    network: _Network = ref
    try:
        network = await _find(call, ref)
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
    if name == HOST:
        raise errors.PermissionDenied(_HOST)
    if mode == HOST or mode.startswith(JOINED):
        raise errors.PermissionDenied(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if NONE in (name, mode):
        raise errors.PermissionDenied(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if name == GATEWAY_BRIDGE:
        raise errors.PermissionDenied(f"network {name} is this node's own way out of overlays")


def _leg_in(call: Call, record: SingleRecord, network: _Network) -> Leg | None:
    """The container's part in a network, whatever name it was asked for by."""
    known = call.backend.singles.networks
    local = _own(call, network) if isinstance(network, dict) else None
    for leg in record.legs:
        if local is not None and known.find(leg.network) is local:
            return leg
        if local is None and known.find(leg.network) is None and _means(leg.network, network):
            return leg
    return None


def _means(ref: str, network: _Network) -> bool:
    if isinstance(network, str):
        return ref == network
    return ref == _name(network) or _id(network).startswith(ref)


ROUTES: Final = routes({
    "GET /networks": list_networks,
    "GET /networks/": list_networks,
    "POST /networks/create": create,
    "POST /networks/prune": prune,
    "GET /networks/{id}/check": check,
    "GET /networks/{id:path}": inspect,  # names may hold slashes
    "DELETE /networks/{id:path}": remove,
    "POST /networks/{id:path}/connect": connect,
    "POST /networks/{id:path}/disconnect": disconnect,
})  # fmt: skip
