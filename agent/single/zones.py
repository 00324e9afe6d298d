"""The names that single containers see: those of their bridges beside those of their overlays. Pure; for agent/names.py.

On a network of one's own a container is known by its name, its aliases there and its short id. The default bridge has no
names, as in Docker. What it has linked there it knows by further names, which are looked for first: they stand for whatever has the
other's name in that network at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from agent.dns.zone import OURSELVES, Endpoint, NetworkZone, ZoneView, build_network
from agent.single import links
from agent.single.record import BRIDGE, LocalNetwork, SingleRecord

Find = Callable[[str], LocalNetwork | None]


def views(
    records: Iterable[SingleRecord], network: Find, of_places: Mapping[str, ZoneView]
) -> dict[str, ZoneView]:
    """By container; `of_places` are the views of their places in overlays, each as if it were alone."""
    held = [record for record in records if record.sandbox]
    zones = _zones(held, network)
    return {record.container_id: _view(record, zones, network, of_places) for record in held}


def _zones(records: Iterable[SingleRecord], network: Find) -> dict[str, NetworkZone]:
    found: dict[str, list[Endpoint]] = {}
    for record in records:
        for leg in record.legs:
            if leg.network_id and leg.network_id != BRIDGE and leg.address:
                names = (record.container_id[:12], *leg.aliases)
                own = Endpoint(record.name, leg.address, names=names, address6=leg.address6)
                found.setdefault(leg.network_id, []).append(own)
    known = {id: made for id in found if (made := network(id)) is not None}
    return {id: build_network(made.name, (), found[id]) for id, made in known.items()}


def _view(
    record: SingleRecord, zones: Mapping[str, NetworkZone], network: Find, of_places: Mapping[str, ZoneView]
) -> ZoneView:
    seen: list[NetworkZone] = []
    aliases: list[NetworkZone] = []
    forward = not record.legs
    for leg in record.legs:
        if leg.attachment and (place := of_places.get(leg.attachment)) is not None:
            found = place.networks
            forward = forward or place.forward
        else:
            found = (zones[leg.network_id],) if leg.network_id in zones else ()
        for zone in found:
            own, rest = _linked(zone, leg.links)
            aliases += [own] if own.addresses else []
            seen.append(rest)
        local = network(leg.network_id)
        forward = forward or (local is not None and not local.internal)
    servers = tuple(address for address in record.dns if address != OURSELVES)
    return ZoneView((*aliases, *seen), forward, servers)


def _linked(zone: NetworkZone, given: Iterable[str]) -> tuple[NetworkZone, NetworkZone]:
    """(what a container's links add to a network's names, the network with what they hide taken away)."""
    found: dict[str, tuple[str, ...]] = {}
    hidden: set[str] = set()
    for other, alias in map(links.parse, given):
        addresses = zone.addresses.get(other.lower())
        if addresses is not None:
            found[alias.lower()] = addresses
        elif alias.lower() in zone.addresses:
            hidden.add(alias.lower())
    left = {name: addresses for name, addresses in zone.addresses.items() if name not in hidden}
    return NetworkZone(zone.name, found), replace(zone, addresses=left) if hidden else zone
