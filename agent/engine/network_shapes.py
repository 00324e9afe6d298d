"""What a network looks like in the Engine API: local ones, overlays as managers know them, overlays on this node. Pure.

Called by networks.py. These shapes are the engine's own and not the store's: Docker joins two kinds of networks in
them.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agent.engine.backend import InterfaceAddress
from agent.network.names import GATEWAY_BRIDGE, mac
from agent.runtime.api import ContainerState, Status
from agent.state import NodeState
from common import apijson, model

Shape = dict[str, Any]
HOST: Final = "host"
PREDEFINED: Final = ("bridge", HOST, "none")
SWARM_PREDEFINED: Final = "com.docker.swarm.predefined"
TASK_LABEL: Final = "com.docker.swarm.task.id"
VNI_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
_BRIDGE_OPTION: Final = "com.docker.network.bridge"
_NO_VIP: Final = "<nil>"  # Go's word, which clients know
_FIRST_BALANCER: Final = 256


def stable_id(*parts: str) -> str:
    """64 hexadecimal digits that stay the same for the same things."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def blank(
    name: str,
    identity: str,
    created: int,
    scope: str,
    driver: str,
    pools: Sequence[Shape] | None,
    options: Mapping[str, str] | None,
) -> Shape:
    return {
        "Name": name,
        "Id": identity,
        "Created": apijson.format_time(created),
        "Scope": scope,
        "Driver": driver,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": None if pools is None else [dict(pool) for pool in pools],
        },
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": None if options is None else dict(sorted(options.items())),
        "Labels": {},
    }


# ---- local


def local_networks(node: str, created: int, addresses: Iterable[InterfaceAddress]) -> list[Shape]:
    """docker_gwbridge once it exists, and two that every engine has; the third, the default bridge, is in local_networks.py."""
    own = {
        item.interface: ipaddress.ip_interface(item.address) for item in addresses if ":" not in item.address
    }
    found: list[Shape] = []
    if gateway := own.get(GATEWAY_BRIDGE):
        pool = {"Subnet": str(gateway.network), "Gateway": str(gateway.ip)}
        options = {
            f"{_BRIDGE_OPTION}.enable_icc": "false",
            f"{_BRIDGE_OPTION}.enable_ip_masquerade": "true",
            f"{_BRIDGE_OPTION}.name": GATEWAY_BRIDGE,
        }
        identity = stable_id(node, GATEWAY_BRIDGE)
        found.append(blank(GATEWAY_BRIDGE, identity, created, "local", "bridge", [pool], options))
    for name, driver in (("none", "null"), ("host", "host")):
        found.append(blank(name, stable_id(node, name), created, "local", driver, [], {}))
    return found


def with_containers(
    network: Shape,
    containers: Mapping[str, ContainerState],
    gateways: Mapping[str, str],
    meshed: str,
    here: Mapping[str, str],
) -> Shape:
    """A local network with the containers of this node that are in it; in docker_gwbridge are those with an address,
    and the routing mesh, which goes in and out by the bridge's own address; `meshed` is the name of its network, if any.

    `containers` and `gateways`, the addresses on docker_gwbridge, are by task; `here` are the names, by id, of those that
    are in `host` or `none`, where nobody has an address from us.
    """
    if network["Name"] != GATEWAY_BRIDGE:
        return {**network, "Containers": _without_addresses(network["Id"], here)}
    subnets = [ipaddress.ip_network(pool["Subnet"]) for pool in network["IPAM"]["Config"]]
    inside = {
        c.id: _member(f"gateway_{c.id[:12]}", network["Id"], c.id, gateways[task_id], subnets)
        for task_id, c in containers.items()
        if c.status is Status.RUNNING and gateways.get(task_id)
    }
    if meshed:
        own = network["IPAM"]["Config"][0]["Gateway"]
        sandbox = f"{meshed}-sbox"
        inside[sandbox] = _member(f"gateway_{sandbox[:12]}", network["Id"], sandbox, own, subnets)
    return {**network, "Containers": inside}


def _without_addresses(network_id: str, names: Mapping[str, str]) -> Shape:
    blank_member = {"MacAddress": "", "IPv4Address": "", "IPv6Address": ""}
    return {
        id: {"Name": name, "EndpointID": stable_id(network_id, id), **blank_member}
        for id, name in sorted(names.items())
    }


def host_of_the_swarm() -> Shape:
    """The node's own network as services may ask for it, before the first of them does: its name stands for its id."""
    shape = blank(HOST, HOST, 0, "swarm", HOST, [], None)
    return {**shape, "Containers": None, "Labels": {SWARM_PREDEFINED: "true"}}


# ---- overlays


def overlay(network: model.Network) -> Shape:
    """An overlay as managers know it."""
    spec = network.spec
    pools = [_pool(config) for config in network.ipam.configs] if network.ipam else []
    options = dict(spec.driver.options) if spec.driver else {}
    if network.vni:
        options[VNI_OPTION] = str(network.vni)
    if network.driver_state:
        options |= network.driver_state.options
    driver = spec.driver.name if spec.driver is not None else ""
    shape = blank(
        spec.name,
        network.id,
        network.created_at,
        "swarm",
        driver or "overlay",
        pools or None,
        options or None,
    )
    shape["EnableIPv6"] = spec.ipv6_enabled
    if network.ipam is not None:
        given = network.ipam.driver or model.Driver()
        shape["IPAM"]["Driver"] = given.name or "default"
        shape["IPAM"]["Options"] = dict(given.options) or None
    else:
        shape["IPAM"]["Driver"] = ""
    shape["Internal"], shape["Attachable"], shape["Ingress"] = spec.internal, spec.attachable, spec.ingress
    shape["Containers"] = None
    shape["Labels"] = dict(spec.labels) or None
    return shape


def _pool(config: model.IPAMConfig) -> Shape:
    given = {
        "Subnet": config.subnet,
        "IPRange": config.range,
        "Gateway": config.gateway,
        "AuxiliaryAddresses": dict(config.reserved),
    }
    return {key: value for key, value in given.items() if value}


def overlay_here(
    network: model.Network, state: NodeState, containers: Mapping[str, ContainerState], verbose: bool
) -> Shape:
    """An overlay that this node takes part in: with its own containers, the other nodes and, `verbose`, the services."""
    shape = overlay(network)
    subnets = [ipaddress.ip_network(pool["Subnet"], strict=False) for pool in shape["IPAM"]["Config"] or ()]
    legs = sorted(
        (e for e in state.endpoints.values() if e.network_id == network.id),
        key=lambda e: (e.task_name, e.task_id),
    )
    inside = {
        containers[leg.task_id].id: _leg(network.id, leg, subnets)
        for leg in legs
        if leg.node_id == state.node_id and leg.task_id in containers
    }
    own = state.nodes.get(state.node_id)
    if network.spec.ingress and own is not None and own.ingress_addr:
        inside[f"{network.spec.name}-sbox"] = _member(
            f"{network.spec.name}-endpoint", network.id, own.id, own.ingress_addr, subnets
        )
    elif not network.spec.ingress and shape["IPAM"]["Config"]:
        inside[f"lb-{network.spec.name}"] = _balancer(network, state.node_id, shape, subnets)
    shape["Containers"] = inside
    shape["Labels"] = dict(network.spec.labels)
    shape["Peers"] = _peers(network, state, legs)
    if verbose:
        shape["Services"] = _services(network, state, legs)
    return shape


def _balancer(network: model.Network, node_id: str, shape: Shape, subnets: Sequence[Any]) -> dict[str, str]:
    """The node's load balancer, which Docker shows as an endpoint. Ours is in every container's own namespace and takes
    up no address, so that the network's own, the gateway's, stands here."""
    own = shape["IPAM"]["Config"][0]["Gateway"]
    return _member(f"{network.spec.name}-endpoint", network.id, f"lb-{node_id}", own, subnets)


def _leg(network_id: str, leg: model.EndpointRecord, subnets: Sequence[Any]) -> dict[str, str]:
    return _member(leg.task_name, network_id, leg.task_id, leg.addr, subnets, leg.addr6, leg.mac)


def _member(
    name: str,
    network_id: str,
    member: str,
    addr: str,
    subnets: Sequence[Any],
    addr6: str = "",
    own_mac: str = "",
) -> dict[str, str]:
    return {
        "Name": name,
        "EndpointID": stable_id(network_id, member),
        "MacAddress": own_mac or mac(addr),
        "IPv4Address": _with_length(addr, subnets),
        "IPv6Address": _with_length(addr6, subnets),
    }


def _with_length(addr: str, subnets: Sequence[Any]) -> str:
    """An address with the length of its subnet; of one that no subnet is shown for, nothing is said in IPv6."""
    if not addr:
        return ""
    address = ipaddress.ip_address(addr)
    length = next((subnet.prefixlen for subnet in subnets if address in subnet), None)
    if length is None:
        return f"{addr}/{address.max_prefixlen}" if address.version == 4 else ""
    return f"{addr}/{length}"


def _peers(
    network: model.Network, state: NodeState, legs: Sequence[model.EndpointRecord]
) -> list[dict[str, str]]:
    """The nodes that take part, this one too."""
    taking_part = {leg.node_id for leg in legs}
    if network.spec.ingress:
        taking_part |= {node.id for node in state.nodes.values() if node.ingress_addr}
    nodes = [node for key, node in sorted(state.nodes.items()) if key in taking_part and node.vtep]
    return [{"Name": stable_id(node.id)[:12], "IP": node.vtep} for node in nodes]


def _services(
    network: model.Network, state: NodeState, legs: Sequence[model.EndpointRecord]
) -> dict[str, Any]:
    """Services with their tasks; under an empty name what belongs to none, as Docker has it."""
    vteps = {node.id: node.vtep for node in state.nodes.values()}
    shown: dict[str, Any] = {}
    loose = _tasks(network, vteps, [leg for leg in legs if leg.service_id not in state.services])
    if network.spec.ingress:
        loose += [_mesh(network, node) for _, node in sorted(state.nodes.items()) if node.ingress_addr]
    if loose:
        shown[""] = {"VIP": _NO_VIP, "Ports": [], "LocalLBIndex": 0, "Tasks": loose}
    for number, service in enumerate(sorted(state.services.values(), key=lambda s: s.name)):
        own = [leg for leg in legs if leg.service_id == service.id]
        vip = next((v.addr for v in service.virtual_ips if v.network_id == network.id), "")
        if not own and not vip:
            continue
        published = service.ports if network.spec.ingress else ()
        shown[service.name] = {
            "VIP": vip.partition("/")[0] or _NO_VIP,
            "Ports": [f"Target: {p.target_port}, Publish: {p.published_port}" for p in published],
            "LocalLBIndex": _FIRST_BALANCER + number if vip else 0,
            "Tasks": _tasks(network, vteps, own),
        }
    return shown


def _mesh(network: model.Network, node: model.NodeRecord) -> Shape:
    """A node's own place in the mesh."""
    return {
        "Name": f"{network.spec.name}-endpoint",
        "EndpointID": stable_id(network.id, node.id),
        "EndpointIP": node.ingress_addr,
        "Info": {"Host IP": node.vtep},
    }


def _tasks(
    network: model.Network, vteps: Mapping[str, str], legs: Iterable[model.EndpointRecord]
) -> list[Shape]:
    return [
        {
            "Name": leg.task_name,
            "EndpointID": stable_id(network.id, leg.task_id),
            "EndpointIP": leg.addr,
            "Info": {"Host IP": vteps.get(leg.node_id, "")},
        }
        for leg in legs
    ]
