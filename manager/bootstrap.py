"""What a new swarm consists of: the cluster, its first node, the network of the routing mesh. Pure.

`plan` checks an InitRequest and makes the objects; local.py writes them to a new log.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common import errors, model, pki
from manager import autolock, keys
from manager.ca import authority
from manager.control import defaults, validation

_LARGEST_SUBNET_SIZE: Final = 29
NO_ADDRESS: Final = (
    "advertise address must be a non-zero IP address or network interface (with optional port number)"
)
BAD_LISTEN: Final = "listen address must be an IP address or network interface (with optional port number)"


@dataclass(frozen=True, slots=True)
class NewSwarm:
    """The first objects of a swarm."""

    cluster: model.Cluster
    node: model.Node
    network: model.Network

    def objects(self) -> tuple[model.Cluster, model.Node, model.Network]:
        """All of them, for one transaction."""
        return self.cluster, self.node, self.network


def host_port(addr: str, what: str) -> tuple[str, int]:
    """IP address and port of host:port; raises errors.InvalidArgument."""
    host, _, port = addr.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError as exc:
        raise errors.InvalidArgument(what) from exc
    if not 0 < number < 65536:
        raise errors.InvalidArgument(what)
    return host.strip("[]"), number


def routable(addr: str, what: str) -> tuple[str, int]:
    """The same for an address that others are to reach."""
    host, port = host_port(addr, what)
    if ipaddress.ip_address(host).is_unspecified:
        raise errors.InvalidArgument(what)
    return host, port


def check(request: model.InitRequest) -> None:
    """Refuses what no swarm can be made of."""
    routable(request.advertise_addr, NO_ADDRESS)
    host_port(request.listen_addr, BAD_LISTEN)
    if request.data_path_port and not 1024 <= request.data_path_port <= 49151:
        raise errors.InvalidArgument("Datapath port should be between 1024 and 49151")
    validation.cluster(request.spec)
    address_pools(request.default_address_pool, request.subnet_size)


def address_pools(pools: Sequence[str], subnet_size: int) -> None:
    """Address pools must be IPv4 subnets that overlap one another nowhere, and larger than what is cut from them."""
    size = subnet_size or defaults.SUBNET_SIZE
    if size > _LARGEST_SUBNET_SIZE:
        raise errors.InvalidArgument(f"subnet size is out of range: {size}")
    seen: list[ipaddress.IPv4Network] = []
    for text in pools:
        try:
            pool = ipaddress.IPv4Network(text)
        except ValueError as exc:
            raise errors.InvalidArgument(f"invalid CIDR address: {text}") from exc
        if pool.prefixlen > size:
            raise errors.InvalidArgument(f"subnet size {size} is larger than the address pool {pool}")
        for other in seen:
            if pool.overlaps(other):
                raise errors.InvalidArgument(f"address pool {pool} overlaps address pool {other}")
        seen.append(pool)


def plan(
    request: model.InitRequest,
    root: pki.Authority,
    new_id: Callable[[], str],
    entropy: Callable[[int], bytes],
    raft_id: int = 1,
) -> NewSwarm:
    """The objects of the swarm that `request` asks for; raises errors.InvalidArgument."""
    check(request)
    secrets = {role: entropy(authority.SECRET_BYTES) for role in model.NodeRole}
    ring = tuple(model.EncryptionKey(use, entropy(keys.LENGTH), 1) for use in keys.SUBSYSTEMS)
    info, spec = model.TLSInfo(*pki.tls_info(root.cert)), defaults.merged_cluster(request.spec)
    locked = spec.encryption.auto_lock_managers
    cluster = model.Cluster(
        id=new_id(),
        spec=spec,
        tls_info=info,
        default_address_pool=request.default_address_pool or (defaults.ADDRESS_POOL,),
        subnet_size=request.subnet_size or defaults.SUBNET_SIZE,
        data_path_port=request.data_path_port or defaults.DATA_PATH_PORT,
        root_ca=authority.new_root(root, secrets),
        epoch=1,
        network_keys=ring,
        key_clock=1,
        unlock_key=entropy(autolock.KEY_BYTES) if locked else b"",
        unlock_generation=int(locked),
    )
    return NewSwarm(cluster, _first_node(request, new_id(), info, raft_id), _ingress(new_id()))


def _first_node(request: model.InitRequest, node_id: str, info: model.TLSInfo, raft_id: int) -> model.Node:
    host, _ = host_port(request.advertise_addr, NO_ADDRESS)
    return model.Node(
        id=node_id,
        spec=model.NodeSpec(role=model.NodeRole.MANAGER, availability=request.availability),
        description=model.NodeDescription(
            hostname=request.hostname,
            tls_info=info,
            routes=request.routes,
            data_path_addr=request.data_path_addr or host,
            machine=request.machine,
        ),
        status=model.NodeStatus(state=model.NodeState.NODE_UNKNOWN, addr=host),
        manager_status=model.ManagerStatus(
            reachability=model.Reachability.REACHABLE,
            addr=request.advertise_addr,
            raft_id=raft_id,
        ),
        role=model.NodeRole.MANAGER,
        certificate_key=pki.public_key_digest(request.csr),
        certificate_number=1,
    )


def _ingress(network_id: str) -> model.Network:
    """The routing mesh's network; the allocator finds its subnet."""
    spec = model.NetworkSpec(name="ingress", driver=model.Driver(name="overlay"), ingress=True, scope="swarm")
    return model.Network(id=network_id, spec=replace(spec, ipam=None))
