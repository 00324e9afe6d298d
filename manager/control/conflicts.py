"""What is wrong with a spec because of the cluster's other objects, in Docker's words. Pure functions of a view.

Used by the control service inside its transactions, so that nothing can come between check and write.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace

from common import errors, model
from manager import lifecycle, roles
from manager.allocator.allocate import VXLAN_OPTION
from manager.allocator.subnets import MESH_PREFIXES, VNI_END, lies_in, site
from manager.membership import takes_part
from manager.raft.consensus import MemberStatus
from manager.store.view import ReadView

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
_INGRESS = "an ingress port"
_HOST = "a host-published port"


def parse_subnet(text: str) -> Subnet | None:
    """The subnet in `text`, host bits allowed; None for what is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


# ---- services


def service_networks(view: ReadView, spec: model.ServiceSpec) -> model.ServiceSpec:
    """The spec with its networks by id; raises when one does not exist or may not be used."""
    attached: list[model.NetworkAttachmentConfig] = []
    for attachment in spec.task.networks:
        network = view.networks.get(attachment.target) or view.networks.by_name(attachment.target)
        if network is None or network.pending_delete:
            raise errors.NotFound(f"network {attachment.target} not found")
        if network.spec.ingress:
            raise errors.InvalidArgument(
                f'Service cannot be explicitly attached to the ingress network "{network.spec.name}"'
            )
        if any(network.id == other.target for other in attached):
            continue
        attached.append(replace(attachment, target=network.id))
    return replace(spec, task=replace(spec.task, networks=tuple(attached)))


def needs_ingress(spec: model.ServiceSpec) -> bool:
    """Whether a service publishes a port through the routing mesh."""
    ports = spec.endpoint.ports if spec.endpoint is not None else ()
    return any(port.publish_mode is not model.PublishMode.HOST for port in ports)


def ingress_present(view: ReadView, spec: model.ServiceSpec) -> None:
    """The mesh needs its network."""
    if needs_ingress(spec) and ingress_network(view) is None:
        raise errors.FailedPrecondition("service needs ingress network, but no ingress network is present")


def ingress_network(view: ReadView) -> model.Network | None:
    """The network of the routing mesh, if it is there."""
    return next((n for n in view.networks.all() if n.spec.ingress), None)


def service_name_free(view: ReadView, name: str) -> None:
    """Names of services are unique."""
    if view.services.by_name(name) is not None:
        raise errors.AlreadyExists(f"name conflicts with an existing object: service {name} already exists")


def ports_free(view: ReadView, spec: model.ServiceSpec, own_id: str) -> None:
    """No other service may publish the same port: the mesh takes it on every node, host mode on those of its tasks."""
    wanted = [p for p in (spec.endpoint.ports if spec.endpoint is not None else ()) if p.published_port]
    if not wanted:
        return
    for other in view.services.all():
        if other.id == own_id:
            continue
        for taken in _published(other):
            for port in wanted:
                if _collide(port, taken):
                    kind = _HOST if taken.publish_mode is model.PublishMode.HOST else _INGRESS
                    raise errors.InvalidArgument(
                        f"port '{port.published_port}' is already in use by service "
                        f"'{other.spec.name}' ({other.id}) as {kind}"
                    )


def _published(service: model.Service) -> Iterator[model.PortConfig]:
    if service.spec.endpoint is not None:
        yield from service.spec.endpoint.ports
    yield from service.endpoint.ports


def _collide(one: model.PortConfig, other: model.PortConfig) -> bool:
    both_host = one.publish_mode is other.publish_mode is model.PublishMode.HOST
    same = (one.published_port, one.protocol) == (other.published_port, other.protocol)
    return same and not both_host


# ---- networks


def network_addable(view: ReadView, spec: model.NetworkSpec) -> None:
    """Name, the one ingress network, and subnets that overlap nothing."""
    if view.networks.by_name(spec.name) is not None:
        raise errors.Conflict(f"network with name {spec.name} already exists")
    present = ingress_network(view)
    if spec.ingress and present is not None:
        raise errors.AlreadyExists(f"ingress network ({present.id}) is already present")
    subnets: list[Subnet] = []
    for config in spec.ipam.configs if spec.ipam is not None else ():
        if not config.subnet:
            continue
        subnet = _subnet(config)
        if any(subnet.overlaps(other) for other in subnets):
            raise errors.InvalidArgument(f"subnet {subnet} overlaps another one of the same network")
        if subnet.version == 6 and not spec.ipv6_enabled:
            raise errors.InvalidArgument(f"IPv6 subnet {subnet} in a network without IPv6: it needs --ipv6")
        subnets.append(subnet)
        free_of(view, subnet)
    if spec.ingress:
        _ingress_subnets(subnets)
    _vni_free(view, spec)


def _ingress_subnets(subnets: Sequence[Subnet]) -> None:
    """One of each family; IPv6 addresses of the mesh are made of the IPv4 ones."""
    if any(sum(s.version == version for s in subnets) > 1 for version in (4, 6)):
        raise errors.Unimplemented("an ingress network with several subnets is not supported yet")
    for subnet in subnets:
        if subnet.version == 6 and subnet.prefixlen not in MESH_PREFIXES:
            raise errors.InvalidArgument(
                f"subnet {subnet} is too small: an ingress network needs at least a /{MESH_PREFIXES[-1]}"
            )


def _vni_free(view: ReadView, spec: model.NetworkSpec) -> None:
    asked = spec.driver.options.get(VXLAN_OPTION, "") if spec.driver is not None else ""
    if not asked:
        return
    if not asked.isdigit() or not 0 < int(asked) < VNI_END:
        raise errors.InvalidArgument(f"invalid vxlan id {asked}: one number below {VNI_END} is expected")
    for other in view.networks.all():
        if other.vni == int(asked):
            raise errors.InvalidArgument(f"vxlan id {asked} is already in use by network {other.spec.name}")


def _subnet(config: model.IPAMConfig) -> Subnet:
    subnet = parse_subnet(config.subnet)
    if subnet is None:
        raise errors.ShoalError(f"Invalid subnet {config.subnet} : invalid CIDR address: {config.subnet}")
    if subnet.is_multicast or (subnet.version == 6 and (subnet.is_link_local or subnet.is_loopback)):
        raise errors.InvalidArgument(
            f"subnet {subnet} can't be a network's: its addresses mean something else"
        )
    if subnet.num_addresses < 8:
        least = subnet.max_prefixlen - 3
        raise errors.InvalidArgument(f"subnet {subnet} is too small: a network needs at least a /{least}")
    if config.range:
        part = parse_subnet(config.range)
        if part is None or not lies_in(part, subnet):
            raise errors.InvalidArgument(
                f"invalid ip-range {config.range}: parent subnet {subnet} doesn't contain ip-range"
            )
    _addresses(config, subnet)
    return subnet


def _addresses(config: model.IPAMConfig, subnet: Subnet) -> None:
    """Those that a user names lie in the subnet, each once, and could be some host's."""
    given = {f"auxiliary address {name}": address for name, address in config.reserved.items()}
    if config.gateway:
        given["gateway"] = config.gateway
    seen = {subnet.network_address, subnet.broadcast_address}
    for what, text in given.items():
        try:
            address = ipaddress.ip_address(text)
        except ValueError as exc:
            raise errors.InvalidArgument(f"invalid {what} {text}: invalid address") from exc
        if address not in subnet:
            raise errors.InvalidArgument(
                f"invalid {what} {text}: parent subnet {subnet} doesn't contain this address"
            )
        if address in seen:
            raise errors.InvalidArgument(f"failed to allocate {what} ({text}): Address already in use")
        seen.add(address)


def free_of(view: ReadView, subnet: Subnet) -> None:
    """A subnet may overlap no other network's, and no route of any node: packets would go the wrong way. A network that
    only waits for its last tasks is in nobody's way: each has namespaces of its own."""
    for network in view.networks.all():
        if network.pending_delete:
            continue
        for other in network_subnets(network):
            if subnet.overlaps(other):
                raise errors.InvalidArgument(
                    f"subnet {subnet} overlaps subnet {other} of network {network.spec.name}"
                )
    if subnet.version == 6 and view.cluster.id:
        mesh = next(site(view.cluster.id).subnets(new_prefix=64))
        if subnet.overlaps(mesh):
            raise errors.InvalidArgument(f"subnet {subnet} overlaps subnet {mesh} of the routing mesh")
    for node in view.nodes.all():
        for route in node_routes(node):
            if subnet.overlaps(route):
                raise errors.InvalidArgument(
                    f"subnet {subnet} overlaps route {route} of node {node.description.hostname or node.id}"
                )


def network_subnets(network: model.Network) -> Iterator[Subnet]:
    """A network's subnets, allocated or asked for."""
    options = network.ipam if network.ipam is not None else network.spec.ipam
    for config in options.configs if options is not None else ():
        if (subnet := parse_subnet(config.subnet)) is not None:
            yield subnet


def node_routes(node: model.Node) -> Iterator[Subnet]:
    """A node's routes other than the default."""
    for text in node.description.routes:
        route = parse_subnet(text)
        if route is not None and route.prefixlen:
            yield route


def network_removable(view: ReadView, network: model.Network) -> None:
    """Nobody may use a network that goes."""
    for service in view.services.all():
        if network.spec.ingress and needs_ingress(service.spec):
            raise errors.FailedPrecondition(
                f"ingress network cannot be removed because service {service.id} depends on it"
            )
        if any(a.target == network.id for a in service.spec.task.networks):
            raise errors.FailedPrecondition(f"network {network.id} is in use by service {service.id}")
    running = model.TaskState.TASK_RUNNING
    for task in view.tasks.all():
        alive = task.desired_state <= running and task.status.state <= running
        if alive and any(a.network_id == network.id for a in task.networks):
            raise errors.FailedPrecondition(f"network {network.id} is in use by task {task.id}")


def network_occupied(view: ReadView, network: model.Network) -> bool:
    """Whether tasks that are to stop still use it: it stays for them, unseen, until they have ended. The routing mesh's
    goes at once, for another may come in its place."""
    return not network.spec.ingress and any(
        takes_part(task)
        and not lifecycle.down(view.nodes.get(task.node_id))
        and any(a.network_id == network.id and a.addresses for a in task.networks)
        for task in view.tasks.all()
    )


# ---- nodes


def node_updatable(
    view: ReadView, node: model.Node, spec: model.NodeSpec, members: Sequence[MemberStatus]
) -> None:
    """Role changes: the last manager stays one, and whoever is left must be able to go on."""
    if spec.role is not node.spec.role and spec.role is model.NodeRole.WORKER:
        roles.demotable(view, members, node.id)


def node_removable(node: model.Node, force: bool, members: Sequence[MemberStatus]) -> None:
    """Managers are demoted first; without force only nodes that are down go. One that was to become a manager and never
    did is no member, and one that is to be a worker leaves the agreement whether its node is there or not."""
    if node.spec.role is model.NodeRole.MANAGER and roles.member_of(members, node.id) is not None:
        raise errors.FailedPrecondition(
            f"node {node.id} is a cluster manager and is a member of the raft cluster. "
            "It must be demoted to worker before removal"
        )
    if not force and node.status.state is model.NodeState.NODE_READY:
        raise errors.FailedPrecondition(f"node {node.id} is not down and can't be removed")
