"""What an agent is not told that is older than networks of both families: its plan would fail as a whole. Pure; used by assignments.py.

Networks that ask more than an agent can do (common/overlays.py) are left out altogether. What is left may still show the other family:
a service that is in such a network too, the ingress network, addresses that something is published on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from common import model


def without_ipv6(item: model.Assignment) -> model.Assignment:
    """The same for an agent that takes every address for an IPv4 one; the same object where there is nothing to leave out."""
    if item.network is not None:
        found = replace(item, network=replace(item.network, network=_network(item.network.network)))
    elif item.service is not None:
        found = replace(item, service=_service(item.service))
    elif item.task is not None:
        found = replace(item, task=replace(item.task, task=_task(item.task.task)))
    else:
        return item
    return item if found == item else found


def _plain(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(address for address in addresses if ":" not in address)


def _network(network: model.Network) -> model.Network:
    if network.ipam is None:
        return network
    configs = tuple(config for config in network.ipam.configs if ":" not in config.subnet)
    return replace(network, ipam=replace(network.ipam, configs=configs))


def _service(service: model.ServiceRecord) -> model.ServiceRecord:
    """What is published on IPv6 addresses alone isn't published there: no address at all would mean all of them."""
    addresses = _plain(service.publish_addresses)
    nowhere = bool(service.publish_addresses) and not addresses
    return replace(
        service,
        virtual_ips=tuple(vip for vip in service.virtual_ips if ":" not in vip.addr),
        publish_addresses=addresses,
        ports=() if nowhere else service.ports,
    )


def _task(task: model.Task) -> model.Task:
    networks = tuple(replace(a, addresses=_plain(a.addresses)) for a in task.networks)
    return task if networks == task.networks else replace(task, networks=networks)
