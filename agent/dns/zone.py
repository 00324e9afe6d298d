"""The names that a container sees: built from the node's assignments, asked by the DNS server. Pure.

One `NetworkZone` holds the names of one network and is shared by all its containers; a container's `ZoneView` is the
zones of its networks in order. A name answers with what the first network that knows it says.

Names, for a service `web` in network `net`:
  web                  its virtual address, or the tasks' addresses if it has none (dnsrr); aliases likewise
  tasks.web            the addresses of all tasks that serve
  web.1.<task id>      one task, by its container's name; short ids likewise
  web.net …            any of these, said to be of that network
  PTR                  web.net, web.1.<task id>.net
In a network of both families each of these has an A and an AAAA record.
  _http._tcp.web       SRV, for a port with that name or number
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

OURSELVES = "127.0.0.11"  # where containers ask


class Type(IntEnum):
    """The record types that are answered here."""

    A = 1
    PTR = 12
    AAAA = 28
    SRV = 33
    ANY = 255


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service, for SRV."""

    name: str
    protocol: str  # tcp, udp, sctp
    target: int


@dataclass(frozen=True, slots=True)
class Service:
    """A service in one network; `address` is its virtual address there, `address6` the IPv6 one, empty for dnsrr."""

    id: str
    name: str
    address: str = ""
    ports: tuple[Port, ...] = ()
    address6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that it has."""
        return _those(self.address, self.address6)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A task's leg in one network. One that isn't serving is found by its own name alone."""

    task_name: str
    address: str
    service_id: str = ""
    aliases: tuple[str, ...] = ()  # of the service, in this network
    names: tuple[str, ...] = ()  # further names of this one: short id, an attached container's aliases
    serving: bool = True
    address6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that it has."""
        return _those(self.address, self.address6)


def _those(*addresses: str) -> tuple[str, ...]:
    return tuple(address for address in addresses if address)


@dataclass(frozen=True, slots=True)
class Srv:
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a name for one type. No data: the name is known, the type isn't."""

    addresses: tuple[str, ...] = ()
    pointer: str = ""
    services: tuple[Srv, ...] = ()

    @property
    def count(self) -> int:
        return len(self.addresses) + len(self.services) + bool(self.pointer)


NOTHING = Found()


@dataclass(frozen=True, slots=True)
class NetworkZone:
    """All names of one network, in lower case."""

    name: str
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pointers: Mapping[str, str] = field(default_factory=dict)  # address -> name
    ports: Mapping[str, tuple[Port, ...]] = field(default_factory=dict)  # service -> its ports


@dataclass(frozen=True, slots=True)
class ZoneView:
    """What one container sees. `forward`: names unknown here are asked outside (not from internal networks), of
    `servers` where the container has name servers of its own."""

    networks: tuple[NetworkZone, ...] = ()
    forward: bool = True
    servers: tuple[str, ...] = ()

    def find(self, name: str, kind: int) -> Found | None:
        """`name` without its last dot, in any case; None for what isn't known here."""
        name = name.lower()
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._find_pointer(name, kind)
        for zone, part in self._places(name):
            if (addresses := zone.addresses.get(part)) is not None:
                return Found(_of_kind(addresses, kind))
            if part.startswith("_") and (found := _find_srv(zone, part, kind)) is not None:
                return found
        return None

    def _places(self, name: str) -> Iterable[tuple[NetworkZone, str]]:
        """Where a name may be meant: in each network, then in the network that it ends with."""
        for zone in self.networks:
            yield zone, name
        at = name.find(".")
        while at >= 0:
            network = name[at + 1 :]
            for zone in self.networks:
                if zone.name == network:
                    yield zone, name[:at]
            at = name.find(".", at + 1)

    def _find_pointer(self, name: str, kind: int) -> Found | None:
        address = reversed_address(name)
        for zone in self.networks:
            if (pointer := zone.pointers.get(address)) is not None:
                return Found(pointer=pointer) if kind in (Type.PTR, Type.ANY) else NOTHING
        return None


def build_network(name: str, services: Iterable[Service], endpoints: Iterable[Endpoint]) -> NetworkZone:
    """The names of one network."""
    known = {service.id: service for service in services}
    endpoints = sorted(endpoints, key=lambda e: (e.task_name, e.address))
    serving: dict[str, list[str]] = {id: [] for id in known}
    addresses: dict[str, list[str]] = {}
    pointers: dict[str, str] = {}
    suffix = f".{name}" if name else ""
    for endpoint in endpoints:
        for address in endpoint.addresses:
            pointers.setdefault(address, endpoint.task_name + suffix)
        for own in (endpoint.task_name, *endpoint.names):
            _add(addresses, own, *endpoint.addresses)
        if not endpoint.serving:
            continue
        serving.setdefault(endpoint.service_id, []).extend(endpoint.addresses)
        service = known.get(endpoint.service_id)
        for alias in endpoint.aliases:
            _add(addresses, alias, *((service.addresses if service else ()) or endpoint.addresses))
    ports: dict[str, tuple[Port, ...]] = {}
    for service in known.values():
        _add(addresses, service.name, *(service.addresses or serving[service.id]))
        _add(addresses, f"tasks.{service.name}", *serving[service.id])
        for address in service.addresses:
            pointers[address] = service.name + suffix
        ports[service.name.lower()] = service.ports
    return NetworkZone(
        name=name.lower(),
        addresses={known_name: tuple(found) for known_name, found in addresses.items()},
        pointers=pointers,
        ports=ports,
    )


def reversed_address(name: str) -> str:
    """The address that an .arpa name asks about; empty if it is none."""
    if name.endswith(".in-addr.arpa"):
        parts = name.removesuffix(".in-addr.arpa").split(".")
        text = ".".join(reversed(parts))
    else:
        digits = name.removesuffix(".ip6.arpa").split(".")[::-1]
        text = ":".join("".join(digits[i : i + 4]) for i in range(0, len(digits), 4))
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _add(addresses: dict[str, list[str]], name: str, *more: str) -> None:
    """Names are known also where nothing is behind them."""
    found = addresses.setdefault(name.lower(), [])
    found.extend(address for address in more if address not in found)


def _of_kind(addresses: Sequence[str], kind: int) -> tuple[str, ...]:
    if kind == Type.ANY:
        return tuple(addresses)
    if kind == Type.A:
        return tuple(address for address in addresses if ":" not in address)
    if kind == Type.AAAA:
        return tuple(address for address in addresses if ":" in address)
    return ()


def _find_srv(zone: NetworkZone, name: str, kind: int) -> Found | None:
    """_PORT._PROTOCOL.SERVICE, the port by name or number."""
    parts = name.split(".", 2)
    if len(parts) != 3 or not parts[1].startswith("_"):
        return None
    port, protocol, service = parts[0][1:], parts[1][1:], parts[2]
    if service not in zone.ports:
        return None
    found = tuple(
        Srv(p.target, service)
        for p in zone.ports[service]
        if p.protocol == protocol and port in (p.name.lower(), str(p.target))
    )
    if not found:
        return None
    return Found(services=found) if kind in (Type.SRV, Type.ANY) else NOTHING
