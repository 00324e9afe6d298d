"""/networks: the swarm's overlays and this node's own bridges in one list. Routes for app.py; shapes in network_shapes.py.

A manager knows all overlays; a worker only those which its tasks use, as Docker does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from agent.engine import filters, lookup, moments, network_requests
from agent.engine import network_shapes as shapes
from agent.engine.http import Call, answer, empty, routes
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
_EVER: Final = 1 << 63


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
    return shapes.local_networks(info.id, info.started_at, await call.backend.host.addresses())


async def _swarm_networks(call: Call, *terms: model.FilterTerm) -> Sequence[model.Network]:
    """The overlays that this node knows; `terms` narrow down what a manager answers."""
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        return (await call.ask(control.ListNetworks, model.ListRequest(terms))).networks
    known = call.backend.swarm.state().networks.values()
    return tuple(n for n in known if not n.pending_delete and shapes.SWARM_PREDEFINED not in n.spec.labels)


async def _find(call: Call, ref: str, scope: str = "") -> shapes.Shape | model.Network:
    """The one network that `ref` means, by id, name or the beginning of an id; `scope` is swarm, local or both."""
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
        raise errors.InvalidArgument(
            f"network {ref} is ambiguous ({len(matches)} matches found based on {by})"
        )
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
        used = await _used(call)
        chosen = [network for network in chosen if _dangles(network, used) is dangling]
    return answer(chosen)


async def _used(call: Call) -> frozenset[str]:
    """Ids of the overlays that something uses."""
    if not call.backend.swarm.membership().manager:
        return frozenset(call.backend.swarm.state().networks)
    control = call.backend.swarm.control()
    services = (await call.ask(control.ListServices, model.ListRequest())).services
    return frozenset(attachment.target for s in services for attachment in s.spec.task.networks)


def _dangles(network: shapes.Shape, used: frozenset[str]) -> bool:
    """Nobody uses it; what every node needs never dangles."""
    return network["Scope"] == "swarm" and not network["Ingress"] and network["Id"] not in used


def _of_type(network: shapes.Shape, values: Sequence[str]) -> bool:
    for value in values:
        if value not in ("builtin", "custom"):
            raise errors.InvalidArgument(f"Invalid filter: 'type'='{value}'")
    return ("builtin" if network["Name"] in shapes.PREDEFINED else "custom") in values


_TESTS: Final[Mapping[str, Callable[[shapes.Shape, Sequence[str]], bool]]] = {
    "driver": lambda network, values: network["Driver"] in values,
    "id": lambda network, values: any(network["Id"].startswith(value) for value in values),
    "name": lambda network, values: any(filters.within(network["Name"], value) for value in values),
    "scope": lambda network, values: network["Scope"] in values,
    "type": _of_type,
    "label": lambda network, values: filters.labels_match(network["Labels"] or {}, values),
    "dangling": lambda network, values: True,  # needs to know who uses what
}


async def inspect(call: Call) -> web.StreamResponse:
    """GET /networks/{id}?scope&verbose: an overlay with its containers and peers where this node takes part in it."""
    scope = call.text("scope")
    network = await _find(call, call.names["id"], scope)
    state = call.backend.swarm.state()
    if not isinstance(network, model.Network):
        own = state.nodes.get(state.node_id)
        meshes = [n.spec.name for n in state.networks.values() if n.spec.ingress]
        meshed = meshes[0] if meshes and own is not None and own.ingress_addr else ""
        gateways = call.backend.gateway_addresses()
        return answer(shapes.with_containers(network, await _containers(call), gateways, meshed))
    if scope == "swarm" or network.id not in state.networks:
        return answer(shapes.overlay(network))
    return answer(shapes.overlay_here(network, state, await _containers(call), call.flag("verbose")))


# ---- changing


async def create(call: Call) -> web.StreamResponse:
    """POST /networks/create: overlays; the order of the checks is Docker's."""
    fields = await call.fields()
    name, driver = fields.text("Name"), fields.text("Driver") or "bridge"
    membership = call.backend.swarm.membership()
    await _refuse_name(call, name)
    if fields.text("Scope") == "swarm" and not fields.text("Driver"):
        driver = _OVERLAY
    if driver in _NOT_OURS:
        raise errors.Unimplemented(f"networks of driver {driver} are not supported yet: use driver overlay")
    if fields.flag("ConfigOnly") or (fields.get("ConfigFrom") or {}).get("Network"):
        raise errors.Unimplemented("networks that hold only a configuration are not supported yet")
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
    return answer({"Id": reply.network.id, "Warning": ""}, 201)


async def _refuse_name(call: Call, name: str) -> None:
    """A name that is taken, by an overlay or on this node."""
    if call.backend.swarm.membership().manager and name:
        known = await _swarm_networks(call, model.FilterTerm("name", name))
        if any(network.spec.name == name for network in known):
            raise errors.AlreadyExists(f"network with name {name} already exists")
    if name in shapes.PREDEFINED:
        raise errors.PermissionDenied(f"operation is not permitted on predefined {name} network ")
    if any(network["Name"] == name for network in await _local(call)):
        raise errors.AlreadyExists(f"network with name {name} already exists")


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /networks/{id}."""
    found = await _find(call, call.names["id"])
    if not isinstance(found, model.Network):
        if found["Name"] in shapes.PREDEFINED:
            raise errors.PermissionDenied(f"{found['Name']} is a pre-defined network and cannot be removed")
        raise errors.PermissionDenied(
            f"error while removing network: network {found['Name']} id {found['Id']} has active endpoints"
        )
    control = call.backend.swarm.control()
    await call.ask(control.RemoveNetwork, model.RemoveRequest(found.id))
    return empty(204)


async def prune(call: Call) -> web.StreamResponse:
    """POST /networks/prune: removes the overlays that no service uses."""
    wanted = filters.parse(call.text("filters"), _PRUNE_FILTERS)
    until = _until(wanted.get("until", ()), call.backend.now_ns())
    removed: list[str] = []
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        for network in await _swarm_networks(call):
            if network.spec.ingress or network.created_at > until or not _prunable(network, wanted):
                continue
            try:
                await call.ask(control.RemoveNetwork, model.RemoveRequest(network.id))
            except (errors.FailedPrecondition, errors.NotFound):
                continue  # in use, or gone already
            removed.append(network.spec.name)
    return answer({"NetworksDeleted": removed or None})


def _until(values: Sequence[str], now: int) -> int:
    """Only what was made before this goes."""
    if len(values) > 1:
        raise errors.InvalidArgument("more than one until filter specified")
    return moments.moment(values[0], now) if values else _EVER


def _prunable(network: model.Network, wanted: filters.Filters) -> bool:
    labels = network.spec.labels
    if not filters.labels_match(labels, wanted.get("label", ())):
        return False
    return not any(filters.labels_match(labels, (term,)) for term in wanted.get("label!", ()))


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
