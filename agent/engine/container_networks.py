"""A container's networks and ports in the Engine API. Pure; container_shapes.py has the rest of it and calls this, and telling.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.engine.network_shapes import TASK_LABEL, stable_id
from agent.network.bridges import ANY
from agent.network.names import mac
from agent.runtime.api import ContainerConfig, ContainerState, Status
from agent.runtime.image import ImageInfo
from agent.single import ports
from agent.single.record import BRIDGE, HOST, JOINED, NONE, Leg, LocalNetwork, SingleRecord
from agent.state import NodeState
from common import apijson, model


@dataclass(frozen=True, slots=True)
class Around:
    """What else there is to say of containers: the node's assignments, and of one container the record of a single one."""

    state: NodeState = field(default_factory=NodeState)
    single: SingleRecord | None = None
    locals: Mapping[str, LocalNetwork] = field(default_factory=dict)  # this node's own networks
    node: str = ""
    restarting: bool = False  # its policy is about to start it again
    names: tuple[str, ...] = ()  # others that containers which are linked to it have for it: "/own/alias"
    links: tuple[str, ...] = ()  # what it is linked to itself: "/other:/own/alias"


def networks(container: ContainerState, around: Around) -> dict[str, Any]:
    """The networks that a container is in, by name; a single one's also while it doesn't run, without addresses."""
    if (single := around.single) is not None:
        return _of_single(container, single, around)
    return _of_place(around.state, container.labels.get(TASK_LABEL, ""), container.id, ())


def _of_place(state: NodeState, task_id: str, container_id: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Of a task, or a single container's place in an overlay."""
    shown: dict[str, Any] = {}
    assignment = state.tasks.get(task_id)
    for attachment in assignment.task.networks if assignment else ():
        network = state.networks.get(attachment.network_id)
        if network is None or not attachment.addresses:
            continue
        address, _, length = attachment.addresses[0].partition("/")
        six, _, length6 = next((a for a in attachment.addresses if ":" in a), "").partition("/")
        aliases = (*wanted, *attachment.aliases, container_id[:12])
        shown[network.spec.name] = _endpoint(
            network.id, task_id, address, int(length or 32), tuple(dict.fromkeys(aliases))
        )
        if six:
            own = {"GlobalIPv6Address": six, "GlobalIPv6PrefixLen": int(length6 or 128)}
            shown[network.spec.name] |= own
            if given := shown[network.spec.name]["IPAMConfig"]:
                given["IPv6Address"] = six
        if attachment.mac:
            shown[network.spec.name]["MacAddress"] = attachment.mac
    return shown


def _of_single(container: ContainerState, single: SingleRecord, around: Around) -> dict[str, Any]:
    """In the order in which it came to them; without addresses where it has none now."""
    if single.network_mode.startswith(JOINED):
        return {}
    if single.network_mode in (HOST, NONE):
        running = container.status in (Status.RUNNING, Status.PAUSED)
        network_id = stable_id(around.node, single.network_mode)
        endpoint = single.container_id if running else ""
        return {single.network_mode: _endpoint(network_id, endpoint, "", 0, ())}
    shown: dict[str, Any] = {}
    for leg in single.legs:
        before = frozenset(shown)
        if leg.attachment and (found := _of_place(around.state, leg.attachment, container.id, leg.aliases)):
            shown |= found
        elif (network := _local(around, leg)) is not None:
            shown[network.name] = _on_bridge(network, leg, container.id, around.node)
        else:
            shown[leg.network] = _endpoint("", "", "", 0, leg.aliases)
            asked = {"IPv4Address": leg.wanted, "IPv6Address": leg.wanted6}
            if any(asked.values()):
                shown[leg.network]["IPAMConfig"] = {key: text for key, text in asked.items() if text}
        for name in shown.keys() - before:
            shown[name]["Links"] = list(leg.links) or None
    return shown


def _local(around: Around, leg: Leg) -> LocalNetwork | None:
    known = around.locals.values()
    named = [n for n in known if n.id == leg.network_id] or [n for n in known if n.name == leg.network]
    return next(iter(named or [n for n in known if n.id.startswith(leg.network)]), None)


def _on_bridge(network: LocalNetwork, leg: Leg, container_id: str, node: str) -> dict[str, Any]:
    default = network.id == BRIDGE
    own_name = (container_id[:12],) if leg.entered or leg.address else ()
    aliases = () if default else (*leg.aliases, *own_name)
    length = int(network.subnet.rpartition("/")[2]) if leg.address else 0
    own = stable_id(node, BRIDGE) if default else network.id
    shown = _endpoint(own, container_id if leg.address else "", leg.address, length, aliases)
    shown["IPAMConfig"] = {"IPv4Address": leg.wanted} if leg.wanted else (None if default else {})
    shown["Gateway"] = network.gateway if leg.address and not network.internal else ""
    if leg.wanted6:
        shown["IPAMConfig"] = {**(shown["IPAMConfig"] or {}), "IPv6Address": leg.wanted6}
    if leg.address6 and network.six is not None:
        shown["GlobalIPv6Address"] = leg.address6
        shown["GlobalIPv6PrefixLen"] = int(network.six.subnet.rpartition("/")[2])
        shown["IPv6Gateway"] = "" if network.internal else network.six.gateway
    if leg.link_local:
        shown["IPAMConfig"] = {**(shown["IPAMConfig"] or {}), "LinkLocalIPs": list(leg.link_local)}
    if leg.mac and leg.address:
        shown["MacAddress"] = leg.mac
    return shown


def _endpoint(
    network_id: str, member: str, address: str, length: int, aliases: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "IPAMConfig": {"IPv4Address": address} if aliases and address else None,
        "Links": None,
        "Aliases": list(aliases) or None,
        "NetworkID": network_id,
        "EndpointID": stable_id(network_id, member) if member else "",
        "Gateway": "",
        "IPAddress": address,
        "IPPrefixLen": length,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": mac(address) if address and ":" not in address else "",
        "DriverOpts": None,
    }


_Published = dict[str, list[tuple[str, int]]]  # (address, port) of this node, by "80/tcp"


def _host_ports(container: ContainerState, around: Around) -> _Published:
    """The node's ports that lead to this container alone."""
    found: _Published = {}
    if around.single is not None:
        for binding in around.single.bindings:
            key = f"{binding.target}/{binding.protocol}"
            found.setdefault(key, []).append((binding.address, binding.port))
        return found
    assignment = around.state.tasks.get(container.labels.get(TASK_LABEL, ""))
    for port in assignment.task.ports if assignment else ():
        if port.publish_mode is model.PublishMode.HOST and port.published_port:
            protocol = apijson.word(port.protocol)
            found.setdefault(f"{port.target_port}/{protocol}", []).append((ANY, port.published_port))
    return found


def ports_line(container: ContainerState, around: Around, image: ImageInfo | None) -> list[dict[str, Any]]:
    """The ports of GET /containers/json; a stopped container has none."""
    if container.status not in (Status.RUNNING, Status.PAUSED) or _shares(around):
        return []
    shown: list[dict[str, Any]] = []
    for name, published in _ports(container, around, image).items():
        number, _, protocol = name.partition("/")
        port = {"PrivatePort": int(number), "Type": protocol}
        shown += [{"IP": ip, **port, "PublicPort": public} for ip, public in published] or [port]
    return shown


def _ports_table(container: ContainerState, around: Around, image: ImageInfo | None) -> dict[str, Any]:
    """The ports of GET /containers/{id}/json."""
    if container.status not in (Status.RUNNING, Status.PAUSED) or _shares(around):
        return {}
    return {
        name: [{"HostIp": ip, "HostPort": str(public)} for ip, public in published] or None
        for name, published in _ports(container, around, image).items()
    }


def _shares(around: Around) -> bool:
    """Whether it has no network of its own that ports could be of."""
    mode = around.single.network_mode if around.single else ""
    return mode in (HOST, NONE) or mode.startswith(JOINED)


def exposed_ports(around: Around, image: ImageInfo | None) -> list[tuple[int, str]]:
    """(number, protocol) of those that the container says it has."""
    own = around.single.exposed if around.single else ()
    found = ports.exposed((*(image.config.exposed_ports if image else ()), *own, *targets(around.single)))
    return [(port, protocol) for protocol, port in found]


def _ports(container: ContainerState, around: Around, image: ImageInfo | None) -> _Published:
    own = around.single.exposed if around.single else ()
    exposed = ports.exposed((*(image.config.exposed_ports if image else ()), *own))
    known: _Published = {f"{port}/{protocol}": [] for protocol, port in exposed}
    return {**known, **_host_ports(container, around)}


def _sandbox(container: ContainerState, config: ContainerConfig | None, around: Around) -> tuple[str, str]:
    """(id, path) of the network namespace of one that runs; one that is in another's has none of its own."""
    shared = around.single is not None and around.single.network_mode.startswith(JOINED)
    if container.status not in (Status.RUNNING, Status.PAUSED) or shared:
        return "", ""
    own = config.network_namespace if config else None
    return stable_id(container.id, "sandbox"), own or f"/proc/{container.pid}/ns/net"


def settings(
    container: ContainerState, config: ContainerConfig | None, around: Around, image: ImageInfo | None
) -> dict[str, Any]:
    """NetworkSettings of GET /containers/{id}/json."""
    shown = networks(container, around)
    default = shown.get(BRIDGE, {}) if around.single is not None else {}
    sandbox, key = _sandbox(container, config, around)
    return {
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": key,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": _ports_table(container, around, image),
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": default.get("EndpointID", ""),
        "Gateway": default.get("Gateway", ""),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": default.get("IPAddress", ""),
        "IPPrefixLen": default.get("IPPrefixLen", 0),
        "IPv6Gateway": "",
        "MacAddress": default.get("MacAddress", ""),
        "Networks": shown,
    }


def targets(single: SingleRecord | None) -> list[str]:
    return [f"{request.target}/{request.protocol}" for request in (single.ports if single else ())]
