"""From the node's assignments to what each of its containers sees. Pure; called with every new state.

Networks that haven't changed keep their zone object, so that the server keeps the answers it has packed.
"""

from collections.abc import Iterable, Mapping

from agent.dns.zone import OURSELVES, Endpoint, NetworkZone, Port, Service, ZoneView, build_network
from agent.state import NodeState
from common import model

_PROTOCOLS: Mapping[model.PortProtocol, str] = {
    model.PortProtocol.TCP: "tcp",
    model.PortProtocol.UDP: "udp",
    model.PortProtocol.SCTP: "sctp",
}


class Views:
    """Remembers the zones of the state before."""

    def __init__(self) -> None:
        self._zones: dict[str, NetworkZone] = {}

    def of(self, state: NodeState, short_ids: Mapping[str, str] | None = None) -> dict[str, ZoneView]:
        """The view of every task; `short_ids`: of containers on this node, by task."""
        zones = {id: self._keep(id, zone) for id, zone in _zones(state, short_ids or {}).items()}
        self._zones = zones
        views = {}
        for id, assignment in state.tasks.items():
            networks = [leg.network_id for leg in assignment.task.networks if leg.network_id in zones]
            outside = [n for n in networks if not state.networks[n].spec.internal]
            forward = bool(outside) or not networks
            views[id] = ZoneView(tuple(zones[n] for n in networks), forward, _servers(assignment.task))
        return views

    def _keep(self, network_id: str, zone: NetworkZone) -> NetworkZone:
        before = self._zones.get(network_id)
        return before if before == zone else zone


def _servers(task: model.Task) -> tuple[str, ...]:
    """Name servers that a service gives its tasks."""
    container = task.spec.container
    given = container.dns_config.nameservers if container is not None and container.dns_config else ()
    return tuple(address for address in given if address != OURSELVES)


def _zones(state: NodeState, short_ids: Mapping[str, str]) -> dict[str, NetworkZone]:
    """One for each network but ingress, which has no names."""
    services: dict[str, list[Service]] = {}
    endpoints: dict[str, list[Endpoint]] = {}
    networks: dict[str, set[str]] = {}  # of each service, where it has tasks
    for record in state.endpoints.values():
        networks.setdefault(record.service_id, set()).add(record.network_id)
        endpoints.setdefault(record.network_id, []).append(_endpoint(record, short_ids))
    for service in state.services.values():
        given = {v.network_id for v in service.virtual_ips}
        offered = () if service.mode == model.EndpointMode.DNSRR else service.virtual_ips
        vips = {(v.network_id, ":" in v.addr): v.addr.partition("/")[0] for v in offered}
        for network_id in given | networks.get(service.id, set()):
            four, six = vips.get((network_id, False), ""), vips.get((network_id, True), "")
            seen = Service(service.id, service.name, four, _ports(service.ports), six)
            services.setdefault(network_id, []).append(seen)
    return {
        id: build_network(network.spec.name, services.get(id, ()), endpoints.get(id, ()))
        for id, network in state.networks.items()
        if not network.spec.ingress
    }


def _endpoint(record: model.EndpointRecord, short_ids: Mapping[str, str]) -> Endpoint:
    short = short_ids.get(record.task_id)
    attached = not record.service_id  # a container of `docker run`: its aliases are its own
    return Endpoint(
        task_name=record.task_name,
        address=record.addr.partition("/")[0],
        address6=record.addr6.partition("/")[0],
        service_id=record.service_id,
        aliases=() if attached else record.aliases,
        names=((short,) if short else ()) + (record.aliases if attached else ()),
        serving=record.state == model.EndpointState.ENDPOINT_SERVING,
    )


def _ports(ports: Iterable[model.PortConfig]) -> tuple[Port, ...]:
    return tuple(Port(p.name, _PROTOCOLS.get(p.protocol, "tcp"), p.target_port) for p in ports)
