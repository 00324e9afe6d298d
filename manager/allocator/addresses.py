"""Addresses of one pass: who holds which, next-fit, and a rest for those that are released. Pure; used by reconcile.py.

Holders are read from the store at each pass, so there is nothing to drift: gateways, VIPs, tasks, nodes' ingress
addresses, and addresses that rest. Each network has a space of IPv4 addresses, and of IPv6 ones if it is to. A released address is given again only when every node that takes part has
acknowledged its release and REST has passed; whoever asks for that very one has it at once, for the other nodes know of a
place before it is used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from common import model, overlays
from manager import lifecycle
from manager.allocator.subnets import (
    IN_USE,
    AllocationError,
    configs_of,
    home,
    lies_in,
    parse,
    plain,
    refusal,
)
from manager.plan import Plan
from manager.store.view import THIS_INDEX, ReadView

MAC_IN_USE: Final = "MAC address already in use"
REST: Final = 60 * lifecycle.SECOND


@dataclass(slots=True)
class Space:
    """The addresses of one family in one network, as numbers."""

    version: int
    ranges: list[tuple[range, int]] = field(
        default_factory=list
    )  # with the prefix length of the subnet that each lies in
    used: set[int] = field(default_factory=set)

    def after(self, last: int) -> tuple[int, int] | None:
        """The first free number after `last`, or from the beginning, and its prefix length."""
        ahead = ((range(max(r.start, last + 1), r.stop), prefix) for r, prefix in self.ranges)
        around = ((n, prefix) for r, prefix in chain(ahead, self.ranges) for n in r)
        return next((found for found in around if found[0] not in self.used), None)


@dataclass(slots=True)
class Pool:
    """The addresses of one network."""

    network: model.Network
    spaces: dict[int, Space]  # by version: IPv4 first

    def take(self, wanted: Collection[str] = ()) -> tuple[str, ...]:
        """An address of each family, with prefix length: the one that is wanted, or the next that is free. Raises
        AllocationError and takes none."""
        asked = {6 if ":" in address else 4: plain(address) for address in wanted}
        if asked.keys() - self.spaces.keys():
            raise AllocationError(f"network {self.network.spec.name} has no IPv6")
        found: list[tuple[Space, int, str]] = []
        for version, space in self.spaces.items():
            number, prefix = self._chosen(space, asked[version]) if version in asked else self._next(space)
            found.append((space, number, f"{_ADDRESSES[version](number)}/{prefix}"))
        for space, number, address in found:
            space.used.add(number)
            if space.version in asked:
                held = tuple(hold for hold in self.network.held if hold.addr != plain(address))
                self.network = replace(self.network, held=held)
            elif space.version == 4:
                self.network = replace(self.network, last_address=plain(address))
            else:
                self.network = replace(self.network, last_address6=plain(address))
        return tuple(address for _, _, address in found)

    def _next(self, space: Space) -> tuple[int, int]:
        last = self.network.last_address if space.version == 4 else self.network.last_address6
        free = space.after(_number(last) if last else -1)
        if free is None:
            raise AllocationError(
                f"no available IPv{space.version} addresses on network {self.network.spec.name}"
            )
        return free

    def _chosen(self, space: Space, address: str) -> tuple[int, int]:
        """One that rests is free for who asks for it."""
        subnet = home(self.network, address)
        if subnet is None:
            raise AllocationError(refusal(self.network, address))
        number = _number(address)
        if number in space.used and all(hold.addr != address for hold in self.network.held):
            raise AllocationError(f"{IN_USE}: {address}")
        return number, subnet.prefixlen

    def hold(self, address: str) -> None:
        """Somebody has it. One of a family that the network has no subnet of comes with another one (the mesh's)."""
        if (space := self._space(address)) is not None:
            space.used.add(_number(address))

    def drop(self, address: str) -> None:
        """Nobody has it."""
        if (space := self._space(address)) is not None:
            space.used.discard(_number(address))

    def release(self, address: str, now: int) -> None:
        """Lets an address rest."""
        text = plain(address)
        if self._space(text) is None or any(hold.addr == text for hold in self.network.held):
            return
        self.hold(text)
        resting = model.AddressHold(addr=text, index=THIS_INDEX, until=now + REST)
        self.network = replace(self.network, held=(*self.network.held, resting))

    def _space(self, address: str) -> Space | None:
        return self.spaces.get(6 if ":" in address else 4)


_ADDRESSES: Final = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}


def pool_of(network: model.Network) -> Pool | None:
    """An empty pool for a network that has its subnet; None for one without.

    IPv6 addresses in an ingress network aren't given one by one: they are made from the IPv4 ones (subnets.mesh_address).
    """
    spaces: dict[int, Space] = {}
    for config in configs_of(network):
        subnet = parse(config.subnet) if config.subnet else None
        if subnet is None or (subnet.version == 6 and network.spec.ingress):
            continue
        space = spaces.setdefault(subnet.version, Space(subnet.version))
        inner = parse(config.range) if config.range else None
        bounds = inner if inner is not None and lies_in(inner, subnet) else subnet
        low, high = int(bounds.network_address), int(bounds.broadcast_address)
        space.used.update((int(subnet.network_address), int(subnet.broadcast_address)))
        kept = [*config.reserved.values(), *((config.gateway,) if config.gateway else ())]
        space.used.update(_number(address) for address in kept if (":" in address) is (subnet.version == 6))
        space.ranges.append((range(low, high + 1), subnet.prefixlen))
    return Pool(network, dict(sorted(spaces.items()))) if 4 in spaces else None


def _number(address: str) -> int:
    return int(ipaddress.ip_address(address.partition("/")[0]))


class Pools:
    """The pools of one pass, filled from the view when the first address is asked for."""

    def __init__(self, view: ReadView, plan: Plan) -> None:
        self._view = view
        self._plan = plan
        self._pools: dict[str, Pool] | None = None
        self._journal: list[tuple[Pool, model.Network, tuple[str, ...]]] = []

    def get(self, network_id: str) -> Pool | None:
        """The pool of a network that has a subnet."""
        if self._pools is None:
            self._pools = self._fill()
        return self._pools.get(network_id)

    def adopt(self, network: model.Network) -> None:
        """A network that has been given its subnet in this pass."""
        if self._pools is not None and (pool := pool_of(network)) is not None:
            self._pools[network.id] = pool

    def take(self, pool: Pool, wanted: Collection[str] = ()) -> tuple[str, ...]:
        """Addresses of a pool; see Pool.take."""
        before = pool.network
        addresses = pool.take(wanted)
        self._journal.append((pool, before, addresses))
        return addresses

    def release(self, pool: Pool, address: str, now: int) -> None:
        """Lets an address rest; see Pool.release."""
        self._journal.append((pool, pool.network, ()))
        pool.release(address, now)

    def mark(self) -> int:
        """A point to which `undo` may return."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Takes back everything since `mark`."""
        while len(self._journal) > mark:
            pool, network, addresses = self._journal.pop()
            pool.network = network
            for address in addresses:
                pool.drop(address)
            for hold in network.held:
                pool.hold(hold.addr)

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
                for hold in network.held:
                    pool.hold(hold.addr)
                pools[network.id] = pool
        for network_id, address in holders(self._view):
            if network_id in pools:
                pools[network_id].hold(address)
        return pools


def held_by(thing: object) -> list[tuple[str, str]]:
    """(network id, address) of everything that an object holds, but for a network's own."""
    if isinstance(thing, model.Service):
        return [(vip.network_id, vip.addr) for vip in thing.endpoint.virtual_ips if vip.addr]
    if isinstance(thing, model.Task):
        found = [(a.network_id, address) for a in thing.networks for address in a.addresses]
        return found + [(a.network_id, address) for a in thing.networks if (address := kept_by(a))]
    if isinstance(thing, model.Node):
        return [(a.network_id, address) for a in thing.attachments for address in a.addresses]
    return []


def has_mac(tasks: Iterable[model.Task], network_id: str, mac: str) -> bool:
    """Whether one of these has asked for that MAC in a network and got it."""
    return any(
        a.mac == mac and a.network_id == network_id and a.addresses for task in tasks for a in task.networks
    )


def kept_by(attachment: model.NetworkAttachment) -> str:
    """The address that nobody else may have, because a container has asked for the MAC that belongs to it."""
    return overlays.address_of(attachment.mac) if attachment.mac and attachment.addresses else ""


def holders(view: ReadView) -> Iterator[tuple[str, str]]:
    """(network id, address) of everything that holds one, but for gateways and resting ones."""
    for thing in chain(view.services.all(), view.tasks.all(), view.nodes.all()):
        yield from held_by(thing)
