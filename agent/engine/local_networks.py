"""Networks of this node's own in the Engine API: what is asked for, and what they look like. Pure; for networks.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from agent.engine import network_requests
from agent.engine.http import Fields
from agent.engine.network_shapes import Shape, blank, stable_id
from agent.network.names import mac
from agent.single.addressing import ends
from agent.single.networks import ICC, MASQUERADE, NAME
from agent.single.record import BRIDGE, Leg, LocalNetwork, Pool6
from common import errors, model

MAIN_OPTIONS: Final = {
    "com.docker.network.bridge.default_bridge": "true",
    ICC: "true",
    MASQUERADE: "true",
    "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
    NAME: "docker0",
    "com.docker.network.driver.mtu": "1500",
}


def requested(fields: Fields, name: str, network_id: str, now: int) -> LocalNetwork:
    """A bridge network as the user asks for it; errors.InvalidArgument for what makes no sense."""
    if fields.get("EnableIPv4") is False:
        if fields.flag("EnableIPv6"):
            raise errors.Unimplemented("bridge networks without IPv4 are not supported yet")
        raise errors.InvalidArgument("IPv4 or IPv6 must be enabled")
    if fields.flag("Ingress"):
        raise errors.InvalidArgument("Ingress network can only be global scope network")
    ipam = fields.part("IPAM", "network.IPAM")
    asked = ipam.objects("Config", "network.IPAMConfig")
    pools = [pool for pool in asked if ":" not in pool.text("Subnet")]
    pools6 = [pool for pool in asked if ":" in pool.text("Subnet")]
    if len(pools) > 1 or len(pools6) > 1:
        raise errors.PermissionDenied("bridge driver doesn't support multiple subnets")
    driver = ipam.text("Driver") or "default"
    if driver not in ("default", "null"):
        raise errors.NotFound(f'plugin "{driver}" not found')
    if fields.flag("ConfigOnly") and fields.part("ConfigFrom", "network.ConfigReference").text("Network"):
        raise errors.InvalidArgument("a configuration network cannot depend on another configuration network")
    if driver == "null" and not fields.flag("ConfigOnly"):
        raise errors.InvalidArgument("ipv4 pool is empty")
    found = network_requests.pool(pools[0]) if pools else None
    found6 = network_requests.pool(pools6[0]) if pools6 else None
    for pool in filter(None, (found, found6)):
        _refuse_taken(pool)
    chosen = found is not None
    return LocalNetwork(
        network_id,
        name,
        now,
        "",
        str(network_requests.parse(found.subnet)) if found is not None and chosen else "",
        found.gateway.partition("/")[0] if found is not None else "",
        found.range if found is not None else "",
        dict(found.reserved) if found is not None else {},
        chosen,
        fields.flag("Internal"),
        fields.flag("Attachable"),
        fields.table("Labels"),
        fields.table("Options"),
        tuple(_shown(pool) for pool in (*pools, *pools6)),
        driver,
        ipam.table("Options") if ipam.get("Options") is not None else None,
        fields.flag("ConfigOnly"),
        six=_six(found6) if fields.flag("EnableIPv6") else None,
    )


def _six(pool: model.IPAMConfig | None) -> Pool6:
    """What of IPv6 the user has chosen; without --ipv6 a subnet is shown, and no more than that, as in Docker."""
    if pool is None:
        return Pool6("")
    gateway = pool.gateway.partition("/")[0]
    reserved = {name: str(ipaddress.ip_address(text)) for name, text in pool.reserved.items()}
    return Pool6(
        str(network_requests.parse(pool.subnet)),
        str(ipaddress.ip_address(gateway)) if gateway else "",
        pool.range,
        reserved,
        True,
    )


def _refuse_taken(pool: model.IPAMConfig) -> None:
    """Raises for addresses that a user names and that are some other's already: the subnet's own, or named twice."""
    subnet = ipaddress.ip_network(pool.subnet, strict=False)
    taken = set(ends(subnet))
    named = {f"gateway ({pool.gateway})": pool.gateway} if pool.gateway else {}
    named |= {f"secondary ip address ({name}:{text})": text for name, text in sorted(pool.reserved.items())}
    for what, text in named.items():
        address = ipaddress.ip_address(text)
        if address in taken:
            raise errors.PermissionDenied(f"failed to allocate {what}: Address already in use")
        taken.add(address)


def configured(asked: LocalNetwork, source: str, known: Sequence[LocalNetwork]) -> LocalNetwork:
    """A network with what another one holds for it; it may say nothing of its own then."""
    found = next((n for n in known if n.config_only and source in (n.name, n.id)), None)
    if found is None:
        raise errors.NotFound(f'configuration network "{source}" does not exist')
    if asked.options or asked.pools or asked.internal or asked.labels or asked.six is not None:
        raise errors.InvalidArgument(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    return replace(
        found, id=asked.id, name=asked.name, created_at=asked.created_at, config_only=False, config_from=found.name,
        attachable=asked.attachable,
    )  # fmt: skip


def refuse_configuring(network: LocalNetwork, known: Sequence[LocalNetwork]) -> None:
    """Raises where another network has its configuration from this one."""
    if network.config_only and any(n.config_from == network.name for n in known):
        raise errors.PermissionDenied(f'configuration network "{network.name}" is in use')


def _shown(pool: Fields) -> Mapping[str, Any]:
    found: dict[str, Any] = {key: pool.text(key) for key in ("Subnet", "IPRange", "Gateway")}
    return {k: v for k, v in {**found, "AuxiliaryAddresses": pool.table("AuxiliaryAddresses")}.items() if v}


def identity(network: LocalNetwork, node: str) -> str:
    """The id that the API shows: the default bridge's stays with the installation."""
    return stable_id(node, BRIDGE) if network.id == BRIDGE else network.id


def shown(network: LocalNetwork, node: str, members: Mapping[str, Leg], names: Mapping[str, str]) -> Shape:
    """A network with the containers on it; `names` by container."""
    pools: Sequence[Mapping[str, Any]] = network.pools
    if not pools and not network.config_only:
        pools = ({"Subnet": network.subnet, "Gateway": network.gateway},)
    options = {**MAIN_OPTIONS, NAME: network.bridge} if network.id == BRIDGE else dict(network.options)
    own = identity(network, node)
    driver = "null" if network.config_only else "bridge"
    made = blank(
        network.name, own, network.created_at, "local", driver, [dict(pool) for pool in pools], options
    )
    made["IPAM"]["Driver"] = network.ipam_driver
    options_of_ipam = network.ipam_options
    made["IPAM"]["Options"] = dict(options_of_ipam) if options_of_ipam is not None else None
    made["EnableIPv6"] = network.six is not None
    made["Internal"], made["Attachable"] = network.internal, network.attachable
    made["Labels"] = dict(network.labels)
    made["ConfigOnly"], made["ConfigFrom"] = network.config_only, {"Network": network.config_from}
    length = network.subnet.rpartition("/")[2]
    length6 = network.six.subnet.rpartition("/")[2] if network.six is not None else ""
    made["Containers"] = {
        id: {
            "Name": names.get(id, ""),
            "EndpointID": stable_id(own, id),
            "MacAddress": leg.mac or mac(leg.address),
            "IPv4Address": f"{leg.address}/{length}",
            "IPv6Address": f"{leg.address6}/{length6}" if leg.address6 else "",
        }
        for id, leg in sorted(members.items())
        if leg.address
    }
    return made
