"""Networks in the Control API. Mixed into service.Control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager.control import conflicts, lookup, predefined, validation
from manager.control.base import ControlBase
from manager.store.store import Transaction
from manager.store.view import ReadView

_TESTS: Final[Mapping[str, Callable[[model.Network, Sequence[str]], bool]]] = {
    "id": lambda network, values: lookup.begins(network.id, values),
    "name": lambda network, values: network.spec.name in values,
    "label": lambda network, values: lookup.labelled(network.spec.labels, values),
    "driver": lambda network, values: (network.spec.driver or model.Driver("overlay")).name in values,
    "scope": lambda network, values: "swarm" in values,
}


class NetworkMethods(ControlBase):
    """ListNetworks, GetNetwork, GetNetworkUse, CreateNetwork, RemoveNetwork."""

    async def list_networks(self, request: model.ListRequest, caller: Caller) -> model.NetworksReply:
        validation.filters(request.filters, tuple(_TESTS))
        view = await self.read()
        terms = lookup.grouped(request.filters)
        meant = "id" in terms or "name" in terms
        known = (
            network
            for network in view.networks.all()
            if not network.pending_delete and (meant or not predefined.hidden(network))
        )
        return model.NetworksReply(tuple(lookup.select(known, terms, _TESTS)))

    async def get_network(self, request: model.GetRequest, caller: Caller) -> model.NetworkReply:
        return model.NetworkReply(lookup.network(await self.read(), request.ref))

    async def get_network_use(self, request: model.GetRequest, caller: Caller) -> model.NetworkUse:
        view = await self.read()
        return network_use(view, lookup.network(view, request.ref))

    async def create_network(self, request: model.CreateNetworkRequest, caller: Caller) -> model.NetworkReply:
        validation.network(request.spec)
        network_id = self.new_id()
        spec = replace(
            request.spec, scope="swarm", driver=request.spec.driver or model.Driver(name="overlay")
        )
        if spec.driver is not None and not spec.driver.name:
            spec = replace(spec, driver=replace(spec.driver, name="overlay"))

        def change(tx: Transaction) -> None:
            conflicts.network_addable(tx.view, spec)
            tx.put(model.Network(id=network_id, spec=spec))

        await self.store.update(change)
        return model.NetworkReply(lookup.network(self.store.view(), network_id))

    async def remove_network(self, request: model.RemoveRequest, caller: Caller) -> model.Nothing:
        def change(tx: Transaction) -> None:
            network = lookup.network(tx.view, request.ref)
            if predefined.hidden(network):
                name = network.spec.name
                raise errors.PermissionDenied(f"{name} is a pre-defined network and cannot be removed")
            conflicts.network_removable(tx.view, network)
            if conflicts.network_occupied(tx.view, network):
                tx.put(replace(network, pending_delete=True))  # the allocator removes it
            else:
                tx.remove(network)

        await self.store.update(change)
        return model.Nothing()


def network_use(view: ReadView, network: model.Network) -> model.NetworkUse:
    """Services with live tasks in a network, and the nodes that take part in it."""
    by_service: dict[str, list[model.Task]] = {}
    nodes: set[str] = set()
    running = model.TaskState.TASK_RUNNING
    for task in view.tasks.all():
        alive = task.status.state <= running and task.desired_state <= running
        if alive and any(a.network_id == network.id for a in task.networks):
            by_service.setdefault(task.service_id, []).append(task)
            nodes.add(task.node_id)
    services = [_use(view, network.id, service_id, tasks) for service_id, tasks in sorted(by_service.items())]
    if network.spec.ingress:
        nodes.update(n.id for n in view.nodes.all() if any(a.network_id == network.id for a in n.attachments))
    peers = [node for node_id in sorted(nodes) if (node := view.nodes.get(node_id)) is not None]
    return model.NetworkUse(tuple(services), tuple(peers))


def _use(
    view: ReadView, network_id: str, service_id: str, tasks: list[model.Task]
) -> model.NetworkUseService:
    service = view.services.get(service_id)
    name = service.spec.name if service is not None else tasks[0].service_name
    vips = service.endpoint.virtual_ips if service is not None else ()
    vip = next((v.addr for v in vips if v.network_id == network_id), "")
    return model.NetworkUseService(service_id, name, vip, tuple(sorted(tasks, key=lambda t: t.slot)))
