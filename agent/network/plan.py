"""The kernel's state that a node's assignments ask for. Pure; manager.py calls desired() for every change.

Two kinds of namespace belong to us: a sandbox per overlay network (bridge and tunnel) and one per attached task. The
host's own namespace gets docker_gwbridge, the node's leg in the ingress network and one nftables table.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from agent.network import dual, encryption, names, rules
from agent.network.facts import (
    Address,
    Bridge,
    DefaultRoute,
    Fact,
    Facts,
    Forward,
    KernelView,
    LinkRoute,
    Namespace,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    Sysctl,
    Veth,
    Vxlan,
)
from agent.network.rules import Balancer, Published, WayBack
from agent.state import NodeState
from common import model, overlays, publishing

_MTU_OPTION: Final = "com.docker.network.driver.mtu"
_PROTOCOLS: Final = {
    model.PortProtocol.PROTOCOL_UNSET: "tcp",
    model.PortProtocol.TCP: "tcp",
    model.PortProtocol.UDP: "udp",
    model.PortProtocol.SCTP: "sctp",
}
MOST_WAYS_BACK: Final = (
    500  # in a swarm of more nodes a task would need too many routes: there the mesh masquerades
)

INTERFACE_LABEL: Final = "shoal.interface."  # of a single container's task, before a network's id

SERVING: Final = model.EndpointState.ENDPOINT_SERVING

_NO_BRIDGE_FILTER: Final = frozenset(
    Sysctl(f"net/bridge/bridge-nf-call-{what}", "0") for what in ("iptables", "ip6tables", "arptables")
)
FORWARDING: Final[Facts] = frozenset((*_NO_BRIDGE_FILTER, Sysctl("net/ipv4/ip_forward", "1")))
_SANDBOX: Final[Facts] = frozenset((Namespace(), *_NO_BRIDGE_FILTER))
_TASK: Final[Facts] = frozenset((
    Namespace(),
    Sysctl("net/ipv4/conf/all/rp_filter", "0"),  # clients of the mesh come in by another leg than the way out
    Sysctl("net/ipv4/conf/default/rp_filter", "0"),
    Sysctl("net/ipv4/tcp_fwmark_accept", "1"),  # so that a SYN-ACK tells the MSS of the way it takes
    Sysctl("net/ipv4/ip_unprivileged_port_start", "0"),  # these two as Docker gives them to every container
    Sysctl("net/ipv4/ping_group_range", "0 2147483647"),
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Underlay:
    """What the machine has below the overlays."""

    address: str  # of the data path: where VXLAN leaves and arrives
    mtu: int = 1500
    interface: str = ""
    gateway_subnet: str = "172.18.0.0/16"  # docker_gwbridge's
    ipv6: bool = True  # whether its kernel has it
    seals: bool = True  # the kernel has ESP
    keys: tuple[encryption.Key, ...] = ()  # for encrypted networks, the newest first

    @property
    def gateway(self) -> str:
        """docker_gwbridge's own address."""
        return str(ipaddress.IPv4Network(self.gateway_subnet)[1])

    @property
    def gateway_prefix(self) -> int:
        """Its prefix length."""
        return ipaddress.IPv4Network(self.gateway_subnet).prefixlen


@dataclass(frozen=True, slots=True)
class Leg:
    """One interface of a task in an overlay network."""

    interface: str
    network: model.Network
    address: str  # without prefix length
    prefix: int
    address6: str = ""
    prefix6: int = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that it has."""
        return (self.address, self.address6) if self.address6 else (self.address,)


def is_encrypted(network: model.Network) -> bool:
    """Whether the network was made with --opt encrypted."""
    return overlays.is_encrypted(network.spec)


def overlay_mtu(network: model.Network, underlay: Underlay) -> int:
    """What fits into the underlay, unless the network says less."""
    sealed = is_encrypted(network)
    largest = encryption.sealed_mtu(underlay.mtu) if sealed else underlay.mtu - names.VXLAN_OVERHEAD
    driver = network.spec.driver
    asked = driver.options.get(_MTU_OPTION, "") if driver is not None else ""
    return min(int(asked), largest) if asked.isdigit() and int(asked) >= 68 else largest


def speaks_ipv6(network: model.Network, underlay: Underlay) -> bool:
    """Whether there can be IPv6 on a network's interfaces here."""
    return underlay.ipv6 and overlay_mtu(network, underlay) >= dual.LEAST_MTU


def legs(state: NodeState, task: model.Task) -> tuple[Leg, ...]:
    """A task's overlay legs in the order of their interfaces: eth0 is in the ingress network, if any is."""
    found = []
    for attachment in task.networks:
        network = state.networks.get(attachment.network_id)
        address = next((a for a in attachment.addresses if ":" not in a), "")
        if network is not None and network.vni and address:
            parsed = ipaddress.IPv4Interface(address)
            six, _, length = next((a for a in attachment.addresses if ":" in a), "").partition("/")
            own = (str(parsed.ip), parsed.network.prefixlen, six, int(length or 0))
            chosen = task.labels.get(INTERFACE_LABEL + network.id, "")
            found.append((not network.spec.ingress, chosen, network, own))
    found.sort(key=lambda item: item[0])  # stable: the others stay in their order
    return tuple(Leg(chosen or f"eth{n}", network, *own) for n, (_, chosen, network, own) in enumerate(found))


def needs_gateway(task_legs: Iterable[Leg]) -> bool:
    """A task has a way out unless all its networks are internal ones."""
    task_legs = tuple(task_legs)
    return not task_legs or any(not leg.network.spec.internal for leg in task_legs)


def ingress_network(state: NodeState) -> model.Network | None:
    """The ingress network, when this node has a leg in it."""
    me = state.nodes.get(state.node_id)
    if me is None or not me.ingress_addr:
        return None
    return next((n for n in state.networks.values() if n.spec.ingress and n.vni), None)


def desired(state: NodeState, attached: Mapping[str, str], underlay: Underlay) -> KernelView:
    """All facts by namespace. `attached` has the tasks with a namespace and their addresses on docker_gwbridge."""
    tasks = _attached_tasks(state, attached)
    task_legs = {tid: legs(state, task) for tid, task in tasks.items()}
    ingress = ingress_network(state)
    networks = {leg.network.id: leg.network for found in task_legs.values() for leg in found}
    if ingress is not None:
        networks[ingress.id] = ingress
    sealed = tuple(network for network in networks.values() if is_encrypted(network))
    serving = _serving(state)
    six, marks = dual.serving(state, serving)
    balancers = {network_id: _balancers(state, network_id, serving, six, marks) for network_id in networks}
    mesh6 = dual.meshed(state, ingress) if ingress is not None and speaks_ipv6(ingress, underlay) else ""

    view: dict[str, Facts] = {}
    for network in networks.values():
        if network in sealed and not underlay.seals:
            continue  # never in plain text: a task that was adopted has a leg that leads nowhere
        ports = [
            tid for tid, found in task_legs.items() if any(leg.network.id == network.id for leg in found)
        ]
        speaks = bool(mesh6 if network is ingress else dual.subnets(network)) and speaks_ipv6(
            network, underlay
        )
        view[names.network_namespace(network.id)] = _sandbox(state, network, ports, underlay, speaks)
    for tid, found in task_legs.items():
        view[names.task_namespace(tid)] = _task(state, tid, found, attached[tid], balancers, underlay)
    ways_out = {tid: attached[tid] for tid in tasks if attached[tid] and needs_gateway(task_legs[tid])}
    published = _published(state, ingress, tasks, ways_out, serving)
    view[names.HOST] = _host(state, ingress, ways_out, published, underlay) | _seals(state, sealed, underlay)
    if mesh6:
        view[names.HOST] |= _host6(state, ingress, mesh6, six, marks)
    return view


def _seals(state: NodeState, networks: Collection[model.Network], underlay: Underlay) -> Facts:
    """What seals these networks' tunnels."""
    me = state.nodes.get(state.node_id)
    if not networks or not underlay.seals:
        return frozenset()
    if me is None:
        return encryption.guards()
    vteps = {vtep for network in networks for _, vtep in _peers(state, network)}
    peers = (
        encryption.End(n.number, n.vtep) for n in state.nodes.values() if n.vtep in vteps and n.id != me.id
    )
    return encryption.facts(encryption.End(me.number, underlay.address), peers, underlay.keys)


def _attached_tasks(state: NodeState, attached: Mapping[str, str]) -> Mapping[str, model.Task]:
    return {tid: state.tasks[tid].task for tid in sorted(attached) if tid in state.tasks}


def endpoint_addresses(state: NodeState) -> frozenset[tuple[str, str]]:
    """(network id, address) of all who could be behind a balancer here: conntrack forgets those that leave this."""
    return frozenset((e.network_id, e.addr) for e in state.endpoints.values() if e.addr)


def lost_addresses(state: NodeState) -> frozenset[tuple[str, str]]:
    """(network id, address) of endpoints that are there no more, as far as gossip or the managers know."""
    down = {node.id for node in state.nodes.values() if node.down}
    return frozenset(
        (e.network_id, e.addr)
        for e in state.endpoints.values()
        if e.addr and e.state is not SERVING and (e.task_id in state.lost or e.node_id in down)
    )


def datagram_ports(state: NodeState, attached: Mapping[str, str]) -> Mapping[int, frozenset[int]]:
    """The UDP ports published here, and the marks of all that their clients' datagrams may go on to."""
    tasks = _attached_tasks(state, attached)
    ways_out = {
        t: attached[t] for t, task in tasks.items() if attached[t] and needs_gateway(legs(state, task))
    }
    found: dict[int, frozenset[int]] = {}
    for item in _published(state, ingress_network(state), tasks, ways_out, _present(state)):
        if item.protocol == "udp" and item.backends:
            found[item.port] = frozenset(names.backend_mark(address) for address in item.backends)
    return found


def published_ports(state: NodeState, attached: Mapping[str, str]) -> frozenset[tuple[str, int]]:
    """(protocol, port) of all that is published on this node, by the mesh and in host mode."""
    tasks = _attached_tasks(state, attached)
    found = _published(
        state, ingress_network(state), tasks, {t: a for t, a in attached.items() if t in tasks}, {}
    )
    return frozenset((item.protocol, item.port) for item in found)


def _present(state: NodeState) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Addresses by service and network, offered or not."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for e in state.endpoints.values():
        if e.service_id and e.addr:
            found[e.service_id, e.network_id] = (*found.get((e.service_id, e.network_id), ()), e.addr)
    return found


def _serving(state: NodeState) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Addresses that are offered, by service and network."""
    found: dict[tuple[str, str], set[str]] = {}
    for endpoint in state.endpoints.values():
        if endpoint.state is SERVING and endpoint.service_id and endpoint.addr:
            found.setdefault((endpoint.service_id, endpoint.network_id), set()).add(endpoint.addr)
    return {key: tuple(sorted(addrs, key=ipaddress.IPv4Address)) for key, addrs in found.items()}


def _balancers(
    state: NodeState, network_id: str, serving: dual.Serving, six: dual.Serving, marks: dual.Serving
) -> tuple[Balancer, ...]:
    """Of both families."""
    found: list[Balancer] = []
    for service in state.services.values():
        key = service.id, network_id
        for vip in service.virtual_ips:
            if vip.network_id == network_id and ":" in vip.addr:
                found.append(Balancer(service.id, dual.plain(vip.addr), six.get(key, ()), marks.get(key, ())))
            elif vip.network_id == network_id and vip.addr:
                found.append(Balancer(service.id, dual.plain(vip.addr), serving.get(key, ())))
    return tuple(found)


def _sandbox(
    state: NodeState, network: model.Network, ports: Iterable[str], underlay: Underlay, six: bool
) -> Facts:
    mtu = overlay_mtu(network, underlay)
    port = names.SEALED_PORT if is_encrypted(network) else names.VXLAN_PORT
    facts: set[Fact] = {
        *_SANDBOX,
        *(dual.IN_SANDBOXES if six else dual.OFF),
        Bridge(names.BRIDGE, mtu),
        Vxlan(names.VXLAN, network.vni, underlay.address, mtu, names.BRIDGE, port),
        *(Port(names.sandbox_port(tid), names.BRIDGE, mtu=mtu) for tid in ports),
    }
    if network.spec.ingress and ingress_network(state) is network:
        facts.add(Port(names.INGRESS_PORT, names.BRIDGE, mtu=mtu))
    for address, vtep in _peers(state, network):
        facts |= {Neighbour(address, names.mac(address)), Forward(names.mac(address), vtep)}
    if six:
        facts.update(dual.neighbours(state, network))
    return frozenset(facts)


def _peers(state: NodeState, network: model.Network) -> Iterator[tuple[str, str]]:
    """(address, VTEP) of every endpoint, offered or not, and every ingress leg on other nodes."""
    vteps = {node.id: node.vtep for node in state.nodes.values() if node.vtep and node.id != state.node_id}
    for endpoint in state.endpoints.values():
        if endpoint.network_id == network.id and endpoint.addr and endpoint.node_id in vteps:
            yield endpoint.addr, vteps[endpoint.node_id]
    if network.spec.ingress:
        for node in state.nodes.values():
            if node.ingress_addr and node.id in vteps:
                yield node.ingress_addr, vteps[node.id]


def _overlay_leg(tid: str, leg: Leg, underlay: Underlay) -> Iterator[Fact]:
    yield Veth(
        leg.interface, names.mac(leg.address), overlay_mtu(leg.network, underlay),
        names.sandbox_port(tid), names.network_namespace(leg.network.id), names.BRIDGE,
    )  # fmt: skip
    yield Address(leg.interface, f"{leg.address}/{leg.prefix}")
    own = ipaddress.IPv4Address(leg.address)
    for subnet in subnets(leg.network):
        if own not in subnet:
            yield LinkRoute(str(subnet), leg.interface)


def _task(
    state: NodeState, tid: str, task_legs: tuple[Leg, ...], gateway_address: str,
    balancers: Mapping[str, tuple[Balancer, ...]], underlay: Underlay,
) -> Facts:  # fmt: skip
    task_legs = tuple(
        leg if speaks_ipv6(leg.network, underlay) else replace(leg, address6="") for leg in task_legs
    )
    six = any(leg.address6 for leg in task_legs)
    facts: set[Fact] = {*_TASK, *(dual.IN_TASKS if six else dual.OFF)}
    for leg in task_legs:
        facts.update(_overlay_leg(tid, leg, underlay))
        if six:
            facts.update(dual.leg(leg.interface, leg.network, leg.address6, leg.prefix6))
    if gateway_address and needs_gateway(task_legs):
        name = f"eth{len(task_legs)}"
        facts |= {
            Veth(
                name, names.mac(gateway_address), underlay.mtu,
                names.gateway_port(tid), names.HOST, names.GATEWAY_BRIDGE, isolated=True,
            ),
            Address(name, f"{gateway_address}/{underlay.gateway_prefix}"),
            DefaultRoute(underlay.gateway, name),
        }  # fmt: skip
        if six:
            facts.update(dual.leg(name, model.Network(), "", 0))
    way_back = _way_back(state, task_legs)
    if way_back is not None:
        for number, address in way_back.nodes:
            table = names.route_table(number)
            facts |= {ReturnRoute(table, address, way_back.interface), ReturnRule(number, table)}
        facts.add(rules.flows_table(way_back.interface, way_back.address))
    found = [b for leg in task_legs if not leg.network.spec.ingress for b in balancers[leg.network.id]]
    facts.add(_task_table(tid, tuple(b for b in found if ":" not in b.vip), way_back))
    if six:
        facts |= _task6(state, tid, task_legs, tuple(b for b in found if ":" in b.vip), way_back)
    return frozenset(facts)


def _task6(
    state: NodeState, tid: str, task_legs: tuple[Leg, ...], balancers: tuple[Balancer, ...],
    way_back: WayBack | None,
) -> set[Fact]:  # fmt: skip
    """A task's IPv6 table, and its way back to the nodes."""
    own = next((leg.address6 for leg in task_legs if leg.network.spec.ingress), "")
    way_back = way_back if own else None
    facts: set[Fact] = {_task_table(tid, balancers, way_back, rules.V6)}
    if way_back is not None:
        facts.update(dual.way_back(state, way_back.interface, (number for number, _ in way_back.nodes)))
        facts.add(rules.flows_table(way_back.interface, own))
        facts.update(dual.answers(state, _datagram_targets(state.tasks[tid].task)))
    return facts


def _datagram_targets(task: model.Task) -> frozenset[int]:
    """A task's own UDP ports that the mesh publishes."""
    udp = (p for p in task.ports if p.protocol is model.PortProtocol.UDP)
    return frozenset(p.target_port for p in udp if p.publish_mode is not model.PublishMode.HOST)


_task_table = lru_cache(maxsize=1024)(rules.task_table)


def _keeps_addresses(state: NodeState) -> bool:
    """Whether tasks know a way back through every node; all nodes find the same, for all are in the ingress network."""
    return sum(bool(node.ingress_addr) for node in state.nodes.values()) <= MOST_WAYS_BACK


def _way_back(state: NodeState, task_legs: tuple[Leg, ...]) -> WayBack | None:
    leg = next((leg for leg in task_legs if leg.network.spec.ingress), None)
    me = state.nodes.get(state.node_id)
    if leg is None or not _keeps_addresses(state) or (me is not None and me.masquerade):
        return None
    nodes = sorted(
        (node.number, node.ingress_addr)
        for node in state.nodes.values()
        if node.ingress_addr and 0 < node.number <= 0xFFFF
    )
    return WayBack(leg.interface, leg.address, tuple(nodes))


def _host(
    state: NodeState, ingress: model.Network | None, gateways: Mapping[str, str],
    published: Iterable[Published], underlay: Underlay,
) -> Facts:  # fmt: skip
    facts: set[Fact] = {
        *FORWARDING,
        Bridge(names.GATEWAY_BRIDGE, underlay.mtu, f"{underlay.gateway}/{underlay.gateway_prefix}"),
        Sysctl(f"net/ipv4/conf/{names.GATEWAY_BRIDGE}/route_localnet", "1"),
        *(
            Port(names.gateway_port(tid), names.GATEWAY_BRIDGE, isolated=True, mtu=underlay.mtu)
            for tid in gateways
        ),
    }
    if ingress is not None:
        address = state.nodes[state.node_id].ingress_addr
        facts |= {
            Veth(
                names.INGRESS_LEG, names.mac(address), overlay_mtu(ingress, underlay),
                names.INGRESS_PORT, names.network_namespace(ingress.id), names.BRIDGE,
            ),
            Address(names.INGRESS_LEG, f"{address}/{_prefix(ingress, address)}"),
            Sysctl(f"net/ipv4/conf/{names.INGRESS_LEG}/route_localnet", "1"),
            Sysctl(f"net/ipv4/conf/{names.INGRESS_LEG}/rp_filter", "0"),
        }  # fmt: skip
    facts.add(rules.host_table(state.node_id, published, underlay.gateway_subnet))
    return frozenset(facts)


def _host6(
    state: NodeState, ingress: model.Network | None, address: str, six: dual.Serving, marks: dual.Serving
) -> Facts:
    """The mesh's IPv6 part of the machine: the ports of services that have tasks with such addresses."""
    ingress_id = ingress.id if ingress is not None else ""
    able = dual.services(state, ingress_id)
    published = [
        replace(item, marked=marks.get((service_id, ingress_id), ()))
        for service_id, item in _meshed(state, ingress_id, six, 6)
        if service_id in able
    ]
    return frozenset((*dual.host(address), rules.host_table6(state.node_id, published)))


def subnets(network: model.Network) -> tuple[ipaddress.IPv4Network, ...]:
    """A network's IPv4 subnets; all of them are one link."""
    configs = network.ipam.configs if network.ipam is not None else ()
    return tuple(ipaddress.IPv4Network(c.subnet) for c in configs if c.subnet and ":" not in c.subnet)


def _prefix(network: model.Network, address: str) -> int:
    """The prefix length of the subnet that an address lies in."""
    own = ipaddress.IPv4Address(address)
    return next((subnet.prefixlen for subnet in subnets(network) if own in subnet), 24)


def _published(
    state: NodeState, ingress: model.Network | None, tasks: Mapping[str, model.Task],
    gateways: Mapping[str, str], backends: Mapping[tuple[str, str], tuple[str, ...]],
) -> tuple[Published, ...]:  # fmt: skip
    """One entry per port; a task that stops and its successor may hold one host-mode port for a moment: the newest has it."""
    found = {(item.protocol, item.port): item for item in _host_mode(tasks, gateways)}
    if ingress is not None:
        found |= {(item.protocol, item.port): item for _, item in _meshed(state, ingress.id, backends)}
    return tuple(found.values())


def _meshed(
    state: NodeState, ingress_id: str, serving: Mapping[tuple[str, str], tuple[str, ...]], version: int = 4
) -> Iterator[tuple[str, Published]]:
    """The ports of each service that are published on addresses of one family."""
    large = not _keeps_addresses(state)
    blind: dict[str, frozenset[str]] = {}
    for e in state.endpoints.values():
        if (
            e.network_id == ingress_id
            and (node := state.nodes.get(e.node_id)) is not None
            and node.masquerade
        ):
            blind[e.service_id] = blind.get(e.service_id, frozenset()) | {e.addr}
    for service in state.services.values():
        addresses = _of_family(service.publish_addresses, version)
        for port in service.ports if addresses is not None else ():
            protocol = _PROTOCOLS.get(port.protocol)
            if port.published_port and protocol and port.publish_mode is not model.PublishMode.HOST:
                backends = serving.get((service.id, ingress_id), ())
                yield service.id, Published(
                    protocol, port.published_port, port.target_port, backends,
                    addresses or (), service.masquerade or large,
                    masqueraded=blind.get(service.id, frozenset()),
                )  # fmt: skip


def _of_family(addresses: tuple[str, ...], version: int) -> tuple[str, ...] | None:
    """Those of one family; None where there are others only: nothing is published on this one then."""
    found = tuple(address for address in addresses if (":" in address) is (version == 6))
    return found if found or not addresses else None


def host_ports(task: model.Task) -> Iterator[tuple[str, model.PortConfig]]:
    """A task's host-mode ports, and their protocols."""
    for port in task.ports:
        protocol = _PROTOCOLS.get(port.protocol)
        if port.published_port and protocol and port.publish_mode is model.PublishMode.HOST:
            yield protocol, port


def _host_mode(tasks: Mapping[str, model.Task], gateways: Mapping[str, str]) -> Iterator[Published]:
    """Oldest first, and those before that are to stop."""

    def age(tid: str) -> tuple[bool, int]:
        return tasks[tid].desired_state <= model.TaskState.TASK_RUNNING, tasks[tid].assigned_index

    for tid in sorted(gateways, key=age):
        addresses = _of_family(publishing.addresses(tasks[tid].service_labels), 4)
        if addresses is None:
            continue
        for protocol, port in host_ports(tasks[tid]):
            yield Published(protocol, port.published_port, port.target_port, (gateways[tid],), addresses)
