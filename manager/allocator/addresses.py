"""Addresses of one pass: who holds which, next-fit, and a rest for those that are released. Pure; used by reconcile.py.

Holders are read from the store at each pass, so there is nothing to drift: gateways, VIPs, tasks, nodes' ingress
addresses, and addresses that rest. A released address is given again only when every node that takes part has
acknowledged its release and REST has passed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from common import model
from manager import lifecycle
from manager.allocator.subnets import AllocationError, configs_of, parse
from manager.plan import Plan
from manager.store.view import THIS_INDEX, ReadView

REST: Final = 60 * lifecycle.SECOND


@dataclass(slots=True)
class Pool:
    """The addresses of one network."""

    network: model.Network
    ranges: list[tuple[range, int]]  # with the prefix length of the subnet that each lies in
    used: set[int] = field(default_factory=set)

    def take(self) -> str:
        """The next free address, with prefix length; raises AllocationError."""
        last = int(ipaddress.IPv4Address(self.network.last_address)) if self.network.last_address else -1
        found = self._after(last)
        if found is None:
            raise AllocationError(f"no available IPv4 addresses on network {self.network.spec.name}")
        number, prefix = found
        self.used.add(number)
        address = str(ipaddress.IPv4Address(number))
        self.network = replace(self.network, last_address=address)
        return f"{address}/{prefix}"

    def _after(self, last: int) -> tuple[int, int] | None:
        """The first free number after `last`, or from the beginning, and its prefix length."""
        ahead = ((range(max(r.start, last + 1), r.stop), prefix) for r, prefix in self.ranges)
        around = ((n, prefix) for r, prefix in chain(ahead, self.ranges) for n in r)
        return next((found for found in around if found[0] not in self.used), None)

    def release(self, address: str, now: int) -> None:
        """Lets an address rest."""
        plain = address.partition("/")[0]
        if any(hold.addr == plain for hold in self.network.held):
            return
        self.used.add(_number(plain))
        hold = model.AddressHold(addr=plain, index=THIS_INDEX, until=now + REST)
        self.network = replace(self.network, held=(*self.network.held, hold))


def pool_of(network: model.Network) -> Pool | None:
    """An empty pool for a network that has its subnet; None for one without."""
    ranges: list[tuple[range, int]] = []
    used: set[int] = set()
    for config in configs_of(network):
        subnet = parse(config.subnet) if config.subnet else None
        if subnet is None:
            continue
        inner = parse(config.range) if config.range else None
        bounds = inner if inner is not None and inner.subnet_of(subnet) else subnet
        low, high = int(bounds.network_address), int(bounds.broadcast_address)
        used.update((int(subnet.network_address), int(subnet.broadcast_address)))
        if config.gateway:
            used.add(_number(config.gateway))
        used.update(_number(address) for address in config.reserved.values() if ":" not in address)
        ranges.append((range(low, high + 1), subnet.prefixlen))
    return Pool(network, ranges, used) if ranges else None


def _number(address: str) -> int:
    return int(ipaddress.IPv4Address(address.partition("/")[0]))


class Pools:
    """The pools of one pass, filled from the view when the first address is asked for."""

    def __init__(self, view: ReadView, plan: Plan) -> None:
        self._view = view
        self._plan = plan
        self._pools: dict[str, Pool] | None = None
        self._journal: list[tuple[Pool, model.Network, int | None]] = []

    def get(self, network_id: str) -> Pool | None:
        """The pool of a network that has a subnet."""
        if self._pools is None:
            self._pools = self._fill()
        return self._pools.get(network_id)

    def adopt(self, network: model.Network) -> None:
        """A network that has been given its subnet in this pass."""
        if self._pools is not None and (pool := pool_of(network)) is not None:
            self._pools[network.id] = pool

    def take(self, pool: Pool) -> str:
        """The next free address of a pool; see Pool.take."""
        before = pool.network
        address = pool.take()
        self._journal.append((pool, before, _number(address)))
        return address

    def release(self, pool: Pool, address: str, now: int) -> None:
        """Lets an address rest; see Pool.release."""
        self._journal.append((pool, pool.network, None))
        pool.release(address, now)

    def mark(self) -> int:
        """A point to which `undo` may return."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Takes back everything since `mark`."""
        while len(self._journal) > mark:
            pool, network, number = self._journal.pop()
            pool.network = network
            if number is not None:
                pool.used.discard(number)

    def finish(self) -> None:
        """Puts the networks whose pools have changed into the plan."""
        for pool in (self._pools or {}).values():
            known = self._known(pool.network.id)
            if known is not None and pool.network is not known:
                self._plan.put(pool.network)

    def _known(self, network_id: str) -> model.Network | None:
        """A network as this pass leaves it; None for one that it removes."""
        key = ("Network", network_id)
        if key not in self._plan.changes:
            return self._view.networks.get(network_id)
        planned = self._plan.changes[key]
        return planned if isinstance(planned, model.Network) else None

    def _fill(self) -> dict[str, Pool]:
        pools: dict[str, Pool] = {}
        for stored in self._view.networks.all():
            network = self._known(stored.id)
            if network is not None and (pool := pool_of(network)) is not None:
                pool.used.update(_number(hold.addr) for hold in network.held)
                pools[network.id] = pool
        for network_id, address in holders(self._view):
            if network_id in pools:
                pools[network_id].used.add(_number(address))
        return pools


def held_by(thing: object) -> list[tuple[str, str]]:
    """(network id, address) of everything that an object holds, but for a network's own."""
    if isinstance(thing, model.Service):
        return [(vip.network_id, vip.addr) for vip in thing.endpoint.virtual_ips if vip.addr]
    if isinstance(thing, model.Task):
        return [(a.network_id, address) for a in thing.networks for address in a.addresses]
    if isinstance(thing, model.Node):
        return [(a.network_id, address) for a in thing.attachments for address in a.addresses]
    return []


def holders(view: ReadView) -> Iterator[tuple[str, str]]:
    """(network id, address) of everything that holds one, but for gateways and resting ones."""
    for thing in chain(view.services.all(), view.tasks.all(), view.nodes.all()):
        yield from held_by(thing)
