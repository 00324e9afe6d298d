"""What each kind of object is given: networks a subnet and a VNI, nodes a number and an ingress address, services VIPs
and ports, tasks addresses. Pure; used by reconcile.py, one call for one object. Raises AllocationError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.allocator import ports, subnets
from manager.allocator.addresses import MAC_IN_USE, Pools, has_mac, kept_by
from manager.allocator.subnets import AllocationError
from manager.plan import Plan
from manager.store.view import ReadView

ORCHESTRATOR: Final = "orchestrator: "
VXLAN_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"


@dataclass(slots=True)
class Pass:
    """What one pass of the allocator shares."""

    view: ReadView
    plan: Plan
    now: int
    pools: Pools

    def attempt(self, work: Callable[[], None]) -> Exception | None:
        """Runs `work`; when it raises, takes back what it gave and returns the error."""
        mark = self.pools.mark()
        error = self.plan.attempt(work)
        if error is not None:
            self.pools.undo(mark)
        return error

    def service(self, service_id: str) -> model.Service | None:
        """A service as this pass leaves it."""
        planned = self.plan.changes.get(("Service", service_id))
        return planned if isinstance(planned, model.Service) else self.view.services.get(service_id)

    def network(self, ref: str) -> model.Network | None:
        """A network as this pass leaves it, by id or name."""
        planned = self.plan.changes.get(("Network", ref))
        if isinstance(planned, model.Network):
            return planned
        return self.view.networks.get(ref) or self.view.networks.by_name(ref)

    def cluster(self) -> model.Cluster:
        """The cluster as this pass leaves it."""
        planned = self.plan.changes.get(("Cluster", self.view.cluster.id))
        return planned if isinstance(planned, model.Cluster) else self.view.cluster

    def ingress(self) -> model.Network | None:
        """The routing mesh's network, if there is one."""
        found = next((n for n in self.view.networks.all() if n.spec.ingress), None)
        return self.network(found.id) if found is not None else None


def ready(network: model.Network) -> bool:
    """It has what it needs."""
    return not lifecycle.is_overlay(network) or bool(
        network.vni and network.ipam is not None and network.ipam.configs
    )


# ---- networks


def network(this: Pass, network: model.Network) -> None:
    """Gives a network its subnet, gateway and VNI."""
    if ready(network):
        return
    # What this pass has given to other networks is not in the view yet.
    given = [
        subnets.Taken(subnet, f"network {other.spec.name} ({subnet})")
        for other in this.plan.changes.values()
        if isinstance(other, model.Network) and other.id != network.id
        for config in subnets.configs_of(other)
        if (subnet := subnets.parse(config.subnet)) is not None
    ]
    asked = network.spec.ipam or model.IPAMOptions()
    configs = tuple(_config(this.view, network, version, c, given) for version, c in _wanted(network, asked))
    cluster = this.cluster()
    vni = network.vni or _asked_vni(network) or subnets.choose_vni(cluster.next_vni, _vnis(this))
    if not network.vni and cluster.id:
        this.plan.put(replace(cluster, next_vni=vni + 1 if vni + 1 < subnets.VNI_END else subnets.VNI_BASE))
    options = dict(network.spec.driver.options) if network.spec.driver is not None else {}
    network = replace(
        network,
        driver_state=model.Driver(name="overlay", options={**options, VXLAN_OPTION: str(vni)}),
        ipam=model.IPAMOptions(driver=asked.driver or model.Driver(name="default"), configs=configs),
        vni=vni,
        error="",
    )
    this.plan.put(network)
    this.pools.adopt(network)
    this.plan.say(f"network {network.spec.name}: {', '.join(c.subnet for c in configs)}, VNI {vni:#x}")


def _wanted(network: model.Network, asked: model.IPAMOptions) -> list[tuple[int, model.IPAMConfig]]:
    """What is asked for, with its family; and one of each family that the network is to have and nothing is said of."""
    found = [(6 if ":" in config.subnet else 4, config) for config in asked.configs]
    needed = (4, 6) if network.spec.ipv6_enabled else (4,)
    missing = [version for version in needed if all(known != version for known, _ in found)]
    found += [(version, model.IPAMConfig()) for version in missing]
    return sorted(found, key=lambda item: item[0])  # IPv4 first, the rest in the user's order


def _config(
    view: ReadView, network: model.Network, version: int, asked: model.IPAMConfig,
    given: Sequence[subnets.Taken],
) -> model.IPAMConfig:  # fmt: skip
    if asked.subnet:
        subnet = subnets.parse(asked.subnet)
        if subnet is None:
            raise AllocationError(f"network {network.spec.name}: {asked.subnet} is no subnet")
        if (clash := subnets.conflict(view, asked.subnet, network.id)) is not None:
            raise AllocationError(f"network {network.spec.name}: {clash}")
    else:
        choose = subnets.choose if version == 4 else subnets.choose6
        subnet = choose(view, network, given)
    gateway = subnets.plain(asked.gateway) if asked.gateway else subnets.gateway(subnet, asked)
    return replace(asked, subnet=str(subnet), gateway=gateway)


def _asked_vni(network: model.Network) -> int:
    text = network.spec.driver.options.get(VXLAN_OPTION, "") if network.spec.driver is not None else ""
    return int(text) if text.isdigit() and int(text) < subnets.VNI_END else 0


def _vnis(this: Pass) -> set[int]:
    planned = {n.vni for n in this.plan.changes.values() if isinstance(n, model.Network)}
    return planned | {n.vni for n in this.view.networks.all()}


# ---- nodes


def node(this: Pass, node: model.Node) -> None:
    """Gives a node its number and its address in the ingress network."""
    number = node.number or _free_number(this)
    ingress = this.ingress()
    kept = tuple(a for a in node.attachments if this.network(a.network_id) is not None)
    pool = this.pools.get(ingress.id) if ingress is not None and ready(ingress) else None
    if ingress is not None and pool is not None and not any(a.network_id == ingress.id for a in kept):
        kept = (*kept, model.NetworkAttachment(addresses=this.pools.take(pool), network_id=ingress.id))
        this.plan.say(
            f"node {lifecycle.hostname(node, node.id)}: number {number}, ingress address {kept[-1].addresses[0]}"
        )
    if number != node.number or kept != node.attachments:
        this.plan.put(replace(node, number=number, attachments=kept))


def _free_number(this: Pass) -> int:
    used = {n.number for n in this.view.nodes.all()}
    used |= {n.number for n in this.plan.changes.values() if isinstance(n, model.Node)}
    return next(n for n in range(1, len(used) + 2) if n not in used)


# ---- services


def service_networks(this: Pass, service: model.Service) -> list[model.Network]:
    """The networks of a service's tasks, ingress first; raises AllocationError for one that isn't ready."""
    wanted: list[model.Network] = []
    if lifecycle.uses_vip(service.spec) and lifecycle.ingress_ports(lifecycle.spec_ports(service.spec)):
        ingress = this.ingress()
        if ingress is None:
            raise AllocationError("service needs ingress network, but no ingress network is present")
        wanted.append(ingress)
    for config in lifecycle.networks_of(service.spec):
        found = this.network(config.target)
        if found is None:
            raise AllocationError(f"network {config.target} not found")
        wanted.append(found)
    for network in wanted:
        if not ready(network):
            raise AllocationError(network.error or f"network {network.spec.name} is not set up yet")
    return wanted


def service(this: Pass, service: model.Service) -> None:
    """Gives a service its ports and VIPs; takes back the VIPs that it needs no more.

    While a rolling update takes it out of a network, its VIP there goes on for as long as one of its tasks does.
    """
    if service.pending_delete:
        _release_vips(this, service)
        return
    wanted = {n.id: n for n in service_networks(this, service) if lifecycle.is_overlay(n)}
    if not lifecycle.uses_vip(service.spec):
        wanted = {}
    given = ports.assign(this.view, service)
    kept = tuple(
        v for v in service.endpoint.virtual_ips if v.network_id in wanted or _lasts(this, service, v)
    )
    for vip in service.endpoint.virtual_ips:
        if vip not in kept and (pool := this.pools.get(vip.network_id)) is not None:
            this.pools.release(pool, vip.addr, this.now)
    have = {v.network_id for v in kept}
    for network_id in wanted:
        if network_id not in have and (pool := this.pools.get(network_id)) is not None:
            given_here = this.pools.take(pool)
            kept = (*kept, *(model.VirtualIP(network_id=network_id, addr=a) for a in given_here))
    endpoint = model.Endpoint(
        spec=service.spec.endpoint or model.EndpointSpec(), ports=given, virtual_ips=kept
    )
    error = service.error if service.error.startswith(ORCHESTRATOR) else ""
    if endpoint != service.endpoint or error != service.error:
        this.plan.put(replace(service, endpoint=endpoint, error=error))
        if kept != service.endpoint.virtual_ips or given != service.endpoint.ports:
            this.plan.say(f"service {service.spec.name}: {_gifts(kept, given)}")


def _lasts(this: Pass, service: model.Service, vip: model.VirtualIP) -> bool:
    """Whether a VIP that the spec doesn't ask for any more still has tasks behind it."""
    return lifecycle.uses_vip(service.spec) and any(
        vip.network_id == attachment.network_id
        for task in this.view.tasks.by_service(service.id)
        if not lifecycle.ended(task)
        for attachment in task.networks
    )


def outlives(service: model.Service, task: model.Task) -> bool:
    """Whether the service has a VIP in one of the task's networks that its spec doesn't ask for any more."""
    asked = {config.target for config in lifecycle.networks_of(service.spec)}
    own = {attachment.network_id for attachment in task.networks}
    return any(v.network_id in own and v.network_id not in asked for v in service.endpoint.virtual_ips)


def _release_vips(this: Pass, service: model.Service) -> None:
    """A removed service gives its VIPs back when its last task is gone."""
    if not service.endpoint.virtual_ips or this.view.tasks.by_service(service.id):
        return
    for vip in service.endpoint.virtual_ips:
        if (pool := this.pools.get(vip.network_id)) is not None:
            this.pools.release(pool, vip.addr, this.now)
    this.plan.put(replace(service, endpoint=replace(service.endpoint, virtual_ips=())))
    this.plan.say(f"service {service.spec.name} is gone: its VIPs rest")


def _gifts(vips: tuple[model.VirtualIP, ...], given: tuple[model.PortConfig, ...]) -> str:
    words = [f"VIP {v.addr}" for v in vips]
    words += [
        f"port {p.published_port}/{ports.protocol(p).name.lower()}" for p in lifecycle.ingress_ports(given)
    ]
    return ", ".join(words) or "no VIP, no port"


def allocated(service: model.Service) -> bool:
    """Whether the service's endpoint is what its spec asks for."""
    return service.endpoint.spec == (service.spec.endpoint or model.EndpointSpec()) and not service.error


# ---- tasks


def task(this: Pass, task: model.Task) -> None:
    """Gives a task NEW an address in each of its networks, and lets it be scheduled: PENDING."""
    service = this.service(task.service_id)
    given = task.ports
    if service is not None:
        if service.error and not service.error.startswith(ORCHESTRATOR):
            raise AllocationError(service.error)
        if not allocated(service):
            return
        given = service.endpoint.ports if task.spec_version == service.spec_version else task.ports
    legs = _legs(this, task, given, service)
    dual = any(network.spec.ipv6_enabled for network, _ in legs)
    attachments = tuple(_attachment(this, n, config, dual) for n, config in legs)
    task = replace(task, networks=attachments, ports=given)
    this.plan.put(lifecycle.with_status(task, this.now, TaskState.TASK_PENDING, "pending task scheduling"))


def _legs(
    this: Pass, task: model.Task, given: tuple[model.PortConfig, ...], service: model.Service | None
) -> list[tuple[model.Network, model.NetworkAttachmentConfig]]:
    legs: list[tuple[model.Network, model.NetworkAttachmentConfig]] = []
    if service is not None and lifecycle.uses_vip(service.spec) and lifecycle.ingress_ports(given):
        ingress = this.ingress()
        if ingress is None:
            raise AllocationError("service needs ingress network, but no ingress network is present")
        legs.append((ingress, model.NetworkAttachmentConfig(target=ingress.id)))
    for config in task.spec.networks:
        found = this.network(config.target)
        if found is None:
            raise AllocationError(f"network {config.target} not found")
        legs.append((found, config))
    return legs


def _attachment(
    this: Pass, network: model.Network, config: model.NetworkAttachmentConfig, dual: bool
) -> model.NetworkAttachment:
    """A leg. In the routing mesh a task has an IPv6 address when it has one anywhere."""
    if not lifecycle.is_overlay(network):
        return model.NetworkAttachment(network_id=network.id, aliases=config.aliases)
    pool = this.pools.get(network.id) if ready(network) else None
    if pool is None:
        raise AllocationError(network.error or f"network {network.spec.name} is not set up yet")
    if config.mac and has_mac(_living(this), network.id, config.mac):
        raise AllocationError(f"{MAC_IN_USE}: {config.mac}")
    addresses = this.pools.take(pool, config.addresses)
    if dual and network.spec.ingress:
        addresses = (*addresses, subnets.mesh_address(this.view.cluster.id, network, addresses[0]))
    given = model.NetworkAttachment(
        network_id=network.id, aliases=config.aliases, addresses=addresses, mac=config.mac
    )
    if kept := kept_by(given):
        pool.hold(kept)
    return given


def _living(this: Pass) -> Iterator[model.Task]:
    """The tasks that have not ended, as this pass leaves them."""
    planned = (change for change in this.plan.changes.values() if isinstance(change, model.Task))
    return (task for task in chain(planned, this.view.tasks.all()) if not lifecycle.ended(task))


def release(this: Pass, task: model.Task) -> int:
    """Takes back the addresses of a task that has ended; returns how many."""
    released = 0
    for attachment in task.networks:
        for address in attachment.addresses:
            released += 1
            if (pool := this.pools.get(attachment.network_id)) is not None:
                this.pools.release(pool, address, this.now)
    if released:
        this.plan.put(replace(task, networks=tuple(replace(a, addresses=()) for a in task.networks)))
    return released
