"""What a node must know and run, as a set of keyed assignments. Pure; used by feed.py.

A node gets its own tasks, and for each network in which it takes part: the network, the legs of every task in it, the
services reachable there, and the nodes that have a leg. Configs come with the tasks that use them. The routing mesh makes every node with an ingress address
take part in the ingress network. Objects are interned: what hasn't changed is the same object as before, so that two
sets are compared by identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from common import model, overlays, publishing
from common.model import EndpointState, TaskState
from manager import lifecycle
from manager.allocator.subnets import mesh_address
from manager.dispatcher.dependencies import config_record, configs_of
from manager.dispatcher.older import without_ipv6
from manager.membership import Membership, takes_part
from manager.store.view import ReadView

Assignments = Mapping[str, model.Assignment]
Ready = Callable[[model.Task], bool]

_ORDER: Final = ("network", "node", "service", "endpoint", "config", "task")


@dataclass(frozen=True, slots=True)
class Desired:
    """All assignments of a node; it must also hear of store index `heard`, so that it can acknowledge it."""

    items: Assignments
    heard: int
    waiting: bool  # a task's peers are not ready yet


@dataclass(slots=True)
class Interned:
    """The last assignment made for each key, shared by all nodes (tasks belong to one)."""

    known: dict[str, model.Assignment] = field(default_factory=dict)
    older: dict[str, tuple[model.Assignment, model.Assignment]] = field(default_factory=dict)

    def same(self, key: str, made: model.Assignment) -> model.Assignment:
        """The known assignment if it equals `made`, else `made`."""
        known = self.known.get(key)
        if known is not None and known == made:
            return known
        self.known[key] = made
        return made

    def for_older(self, key: str, item: model.Assignment) -> model.Assignment:
        """What an agent that knows IPv4 alone is told instead of `item`, the same object as long as that is."""
        made = self.older.get(key)
        if made is None or made[0] is not item:
            made = self.older[key] = item, without_ipv6(item)
        return made[1]

    def forget(self, key: str) -> None:
        """The object is gone."""
        self.known.pop(key, None)
        self.older.pop(key, None)


def desired(
    view: ReadView, members: Membership, interned: Interned, node_id: str, ready: Ready, fresh: bool = False
) -> Desired:
    """Everything for one node; with `fresh`, tasks come with their present statuses (for a complete set)."""
    items: dict[str, model.Assignment] = {}
    node = view.nodes.get(node_id)
    abilities = node.description.abilities if node is not None else ()
    networks, heard, waiting = [], 0, False
    for network_id in members.networks(node_id):
        network = view.networks.get(network_id)
        if network is None or overlays.suits(network.spec, abilities):
            networks.append(network_id)
            heard = max(heard, _network(view, members, interned, network_id, items))
        else:  # others still ask whether the node has heard of it
            heard = max(heard, _network(view, members, interned, network_id, {}))
    _nodes(view, members, interned, networks, items)
    _services(view, interned, frozenset(networks), items)
    for task in view.tasks.by_node(node_id):
        if given(task):
            peers_ready = ready(task)
            waiting |= not peers_ready
            items[f"task/{task.id}"] = _task(interned, task, peers_ready, fresh)
            _configs(view, interned, task, items)
            _foreign(view, interned, task, items)
    if overlays.OVERLAY_IPV6 not in abilities:
        items = {key: interned.for_older(key, item) for key, item in items.items()}
    return Desired(items, heard, waiting)


def _foreign(
    view: ReadView, interned: Interned, task: model.Task, items: dict[str, model.Assignment]
) -> None:
    """Networks that are none of ours, such as the node's own: a task is in them without an address."""
    for attachment in task.networks:
        network = view.networks.get(attachment.network_id)
        if network is not None and not lifecycle.is_overlay(network):
            key = f"network/{network.id}"
            items[key] = interned.same(
                key, model.Assignment(network=model.NetworkRecord(network=bare(network)))
            )


def _network(
    view: ReadView,
    members: Membership,
    interned: Interned,
    network_id: str,
    items: dict[str, model.Assignment],
) -> int:
    network = view.networks.get(network_id)
    if network is None:
        return 0
    key = f"network/{network_id}"
    items[key] = interned.same(key, model.Assignment(network=model.NetworkRecord(network=bare(network))))
    heard = max((hold.index for hold in network.held), default=0)
    for task_id in members.tasks(network_id):
        task = view.tasks.get(task_id)
        if task is None:
            continue
        if task.endpoint == EndpointState.ENDPOINT_WITHDRAWN:
            heard = max(heard, task.endpoint_index)
        if task.status.state < TaskState.TASK_RUNNING:
            heard = max(heard, task.assigned_index)
        for attachment in task.networks:
            if attachment.network_id == network_id and attachment.addresses:
                key = f"endpoint/{task_id}/{network_id}"
                items[key] = interned.same(key, model.Assignment(endpoint=endpoint_record(task, attachment)))
    return heard


def _configs(
    view: ReadView, interned: Interned, task: model.Task, items: dict[str, model.Assignment]
) -> None:
    for config_id in configs_of(task):
        key = f"config/{config_id}"
        if key not in items and (config := view.configs.get(config_id)) is not None:
            items[key] = interned.same(key, model.Assignment(config=config_record(config)))


def bare(network: model.Network) -> model.Network:
    """A network without what only the allocator needs, which changes all the time."""
    return replace(network, held=(), last_address="", last_address6="", version=0, updated_at=0, error="")


def endpoint_record(task: model.Task, attachment: model.NetworkAttachment) -> model.EndpointRecord:
    """One leg of a task."""
    return model.EndpointRecord(
        task_id=task.id,
        network_id=attachment.network_id,
        addr=plain(attachment.addresses[0]),
        addr6=next((plain(a) for a in attachment.addresses if ":" in a), ""),
        mac=attachment.mac,
        node_id=task.node_id,
        service_id=task.service_id,
        task_name=task.name,
        aliases=attachment.aliases,
        state=task.endpoint,
    )


def _nodes(
    view: ReadView,
    members: Membership,
    interned: Interned,
    networks: list[str],
    items: dict[str, model.Assignment],
) -> None:
    for node_id in {node_id for network in networks for node_id in members.nodes(network)}:
        node = view.nodes.get(node_id)
        if node is not None:
            key = f"node/{node_id}"
            items[key] = interned.same(key, model.Assignment(node=node_record(view, node)))


def node_record(view: ReadView, node: model.Node) -> model.NodeRecord:
    """Where a node's VTEP is, and its leg in the ingress network."""
    ingress = ingress6 = ""
    for attachment in node.attachments:
        network = view.networks.get(attachment.network_id)
        if network is not None and network.spec.ingress and attachment.addresses:
            ingress = plain(attachment.addresses[0])
            ingress6 = mesh_address(view.cluster.id, network, ingress)
    return model.NodeRecord(
        id=node.id,
        hostname=node.description.hostname,
        vtep=node.description.data_path_addr or node.status.addr,
        ingress_addr=ingress,
        ingress_addr6=ingress6,
        number=node.number,
        down=lifecycle.down(node),
        addr=node.status.addr,
        masquerade=node.description.masquerade,
    )


def _services(
    view: ReadView, interned: Interned, networks: frozenset[str], items: dict[str, model.Assignment]
) -> None:
    for service in view.services.all():
        if service.pending_delete or not concerns(service, networks):
            continue
        key = f"service/{service.id}"
        items[key] = interned.same(key, model.Assignment(service=service_record(service)))


def concerns(service: model.Service, networks: frozenset[str]) -> bool:
    """Whether a service is reachable in any of these networks."""
    if any(v.network_id in networks for v in service.endpoint.virtual_ips):
        return True
    return any(n.target in networks for n in lifecycle.networks_of(service.spec))


def service_record(service: model.Service) -> model.ServiceRecord:
    """A service as its clients see it."""
    vip = lifecycle.uses_vip(service.spec)
    labels = service.spec.labels
    return model.ServiceRecord(
        id=service.id,
        name=service.spec.name,
        mode=model.EndpointMode.VIP if vip else model.EndpointMode.DNSRR,
        virtual_ips=service.endpoint.virtual_ips,
        ports=service.endpoint.ports,
        publish_addresses=publishing.addresses(labels),
        masquerade=publishing.masquerade(labels),
    )


def _task(interned: Interned, task: model.Task, peers_ready: bool, fresh: bool) -> model.Assignment:
    key = f"task/{task.id}"
    known = interned.known.get(key)
    if not fresh and known is not None and known.task is not None:
        sent = known.task
        if sent.peers_ready == peers_ready and same_order(sent.task, task):
            return known
    made = model.Assignment(task=model.TaskAssignment(task=task, peers_ready=peers_ready))
    interned.known[key] = made
    return made


def given(task: model.Task) -> bool:
    """Whether its node has anything to do with a task: from its assignment (a place for a container is bound to its node
    before), until the node is held lost for good."""
    return TaskState.TASK_ASSIGNED <= task.status.state < TaskState.TASK_ORPHANED


def same_order(one: model.Task, other: model.Task) -> bool:
    """Whether two versions of a task ask the same of its agent: all but what the agent itself reports."""
    if one is other:
        return True
    return (
        one.desired_state == other.desired_state
        and given(one) == given(other)
        and one.endpoint == other.endpoint
        and one.endpoint_index == other.endpoint_index
        and one.start_after == other.start_after
        and one.networks == other.networks
        and one.ports == other.ports
        and one.node_id == other.node_id
        and one.spec == other.spec
        and one.labels == other.labels
        and one.service_labels == other.service_labels
    )


def plain(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]


def legs_changed(old: object, new: object) -> bool:
    """Whether a task's legs look different to the other nodes, or they are to say once more that they know them."""
    return _legs(old) != _legs(new)


def _legs(task: object) -> tuple[object, ...] | None:
    if not isinstance(task, model.Task) or not takes_part(task):
        return None
    return task.node_id, task.networks, task.endpoint, task.name, task.assigned_index


def diff(old: Assignments, new: Assignments) -> tuple[model.AssignmentChange, ...]:
    """What turns `old` into `new`: first what others need, tasks last; removals the other way round."""
    changed = [k for k, item in new.items() if old.get(k) is not item]
    gone = [k for k in old if k not in new]
    changed.sort(key=_position)
    gone.sort(key=_position, reverse=True)
    return (
        *(model.AssignmentChange(key=key, assignment=new[key]) for key in changed),
        *(model.AssignmentChange(remove=True, key=key) for key in gone),
    )


def _position(key: str) -> int:
    return _ORDER.index(key.partition("/")[0])
