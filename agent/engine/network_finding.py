"""Which network a request means: this node's own and the swarm's, by id, name or the beginning of an id. For networks.py and network_members.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agent.engine import local_networks, lookup
from agent.engine import network_shapes as shapes
from agent.engine.http import Call
from agent.runtime.api import ContainerState
from agent.single.record import LocalNetwork
from common import errors, model

_LOCAL: Final = (
    "network {} not found in the swarm: it is this node's own. Only networks scoped to the swarm can be used by "
    "services, such as those created with the overlay driver"
)

Network = shapes.Shape | model.Network | str  # a network that this node doesn't know is what it was called


async def members(call: Call) -> Mapping[str, ContainerState]:
    """This node's containers by task; single ones by what the network knows them by."""
    found = await call.backend.runtime.containers()
    by_id = {c.id: c for c in found}
    singles = {key: by_id[id] for key, id in call.backend.singles.sandboxes().items() if id in by_id}
    return {**{c.labels[shapes.TASK_LABEL]: c for c in found if shapes.TASK_LABEL in c.labels}, **singles}


async def of_this_node(call: Call) -> list[shapes.Shape]:
    """The networks that are this node's alone."""
    info = call.backend.host.info()
    found = shapes.local_networks(info.id, info.started_at, await call.backend.host.addresses())
    return [*found, *(shown(call, network) for network in call.backend.singles.networks.all())]


def shown(call: Call, network: LocalNetwork, full: bool = False) -> shapes.Shape:
    """A bridge of this node's own; its containers only where one is inspected, as in Docker."""
    singles = call.backend.singles
    members = singles.wiring.members(network.id) if full else {}
    names = {id: record.name for id, record in singles.records().items()}
    return local_networks.shown(network, call.backend.host.info().id, members, names)


def own(call: Call, shape: shapes.Shape) -> LocalNetwork | None:
    """The record of a local network that this node makes and removes."""
    node = call.backend.host.info().id
    known = call.backend.singles.networks.all()
    return next((n for n in known if local_networks.identity(n, node) == shape["Id"]), None)


async def of_the_swarm(call: Call, *terms: model.FilterTerm) -> Sequence[model.Network]:
    """The overlays that this node knows; `terms` narrow down what a manager answers."""
    if call.backend.swarm.membership().manager:
        control = call.backend.swarm.control()
        return (await call.ask(control.ListNetworks, model.ListRequest(terms))).networks
    known = call.backend.swarm.state().networks.values()
    return tuple(n for n in known if not n.pending_delete and shapes.SWARM_PREDEFINED not in n.spec.labels)


async def find(call: Call, ref: str, scope: str = "", reading: bool = False) -> shapes.Shape | model.Network:
    """The one network that `ref` means, by id, name or the beginning of an id; `scope` is swarm, local or both. Where it
    means several, Docker has other words for those who only read."""
    found: list[shapes.Shape | model.Network] = []
    local = await of_this_node(call)
    if scope in ("", "local"):
        found += local
    if scope in ("", "swarm") and ref:
        named = await of_the_swarm(call, model.FilterTerm("name", ref))
        found += named or await of_the_swarm(call, model.FilterTerm("id", ref))
    if scope == "swarm" and ref == shapes.HOST and not found:
        return shapes.host_of_the_swarm()
    matches = lookup.matches(found, ref, id_of, name_of)
    if ref in shapes.PREDEFINED and scope == "":
        matches = matches[
            :1
        ]  # this node's own; the swarm's of that name is asked for by its scope, or its id
    if len(matches) > 1:
        by = "name" if name_of(matches[0]) == ref else "ID prefix"
        count, ambiguous = f"{len(matches)} matches found based on {by}", f"network {ref} is ambiguous"
        raise errors.InvalidArgument(f"{count}: {ambiguous}" if reading else f"{ambiguous} ({count})")
    if not matches:
        if scope == "swarm" and lookup.matches(local, ref, id_of, name_of):
            raise errors.NotFound(_LOCAL.format(ref))
        raise errors.NotFound(f"network {ref} not found")
    return matches[0]


def id_of(network: shapes.Shape | model.Network) -> str:
    """Of either kind."""
    return network.id if isinstance(network, model.Network) else str(network["Id"])


def name_of(network: shapes.Shape | model.Network) -> str:
    """Of either kind."""
    return network.spec.name if isinstance(network, model.Network) else str(network["Name"])
