"""Who stands behind a service's addresses, and where, by the endpoints' records. Pure.

The plan makes balancers and tunnels' entries of it; forgetting.py sees by it who has gone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from agent.network import dual, names
from agent.network.dual import Serving
from agent.network.rules import Balancer
from agent.state import NodeState
from common import model

_SERVING: Final = model.EndpointState.ENDPOINT_SERVING


def present(state: NodeState) -> Serving:
    """Addresses by service and network, offered or not."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for e in state.endpoints.values():
        if e.service_id and e.addr:
            found[e.service_id, e.network_id] = (*found.get((e.service_id, e.network_id), ()), e.addr)
    return found


def serving(state: NodeState) -> Serving:
    """Addresses that are offered, by service and network."""
    found: dict[tuple[str, str], set[str]] = {}
    for endpoint in state.endpoints.values():
        if endpoint.state is _SERVING and endpoint.service_id and endpoint.addr:
            found.setdefault((endpoint.service_id, endpoint.network_id), set()).add(endpoint.addr)
    return {key: tuple(sorted(addrs, key=ipaddress.IPv4Address)) for key, addrs in found.items()}


def balancers(
    state: NodeState, network_id: str, offered: Serving, six: Serving, marks: Serving
) -> tuple[Balancer, ...]:
    """Of both families."""
    found: list[Balancer] = []
    for service in state.services.values():
        key = service.id, network_id
        for vip in service.virtual_ips:
            if vip.network_id == network_id and ":" in vip.addr:
                found.append(Balancer(service.id, dual.plain(vip.addr), six.get(key, ()), marks.get(key, ())))
            elif vip.network_id == network_id and vip.addr:
                found.append(Balancer(service.id, dual.plain(vip.addr), offered.get(key, ())))
    return tuple(found)


def peers(state: NodeState, network: model.Network) -> Iterator[tuple[str, str, str]]:
    """(address, MAC, VTEP) of every endpoint, offered or not, and every ingress leg on other nodes. Where users gave one MAC to
    several containers, one of those has it."""
    vteps = {node.id: node.vtep for node in state.nodes.values() if node.vtep and node.id != state.node_id}
    homes: dict[str, str] = {}
    for _, endpoint in sorted(state.endpoints.items()):
        if endpoint.network_id == network.id and endpoint.addr and endpoint.node_id in vteps:
            mac, vtep = endpoint.mac or names.mac(endpoint.addr), vteps[endpoint.node_id]
            yield endpoint.addr, mac, homes.setdefault(mac, vtep)
    if network.spec.ingress:
        for node in state.nodes.values():
            if node.ingress_addr and node.id in vteps:
                yield node.ingress_addr, names.mac(node.ingress_addr), vteps[node.id]


def endpoint_addresses(state: NodeState) -> frozenset[tuple[str, str]]:
    """(network id, address) of all who could be behind a balancer here: conntrack forgets those that leave this."""
    return frozenset((e.network_id, e.addr) for e in state.endpoints.values() if e.addr)


def lost_addresses(state: NodeState) -> frozenset[tuple[str, str]]:
    """(network id, address) of endpoints that are there no more, as far as gossip or the managers know."""
    down = {node.id for node in state.nodes.values() if node.down}
    return frozenset(
        (e.network_id, e.addr)
        for e in state.endpoints.values()
        if e.addr and e.state is not _SERVING and (e.task_id in state.lost or e.node_id in down)
    )
