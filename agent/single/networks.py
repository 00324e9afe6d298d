"""This node's own networks: the default bridge and those that `docker network create` makes beside the swarm's.

The agent's database keeps them, agent/network has their bridges in the kernel, wiring.py puts containers on them; the engine
makes and removes them through agent/single/containers.py. Texts are Docker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from agent.network import names
from agent.network.bridges import BridgeNetwork
from agent.single import addressing
from agent.single.record import BRIDGE, LocalNetwork, Pool6
from common import errors

_DRIVER: Final = "com.docker.network.driver."
_BRIDGE: Final = "com.docker.network.bridge."
MTU: Final = _DRIVER + "mtu"
NAME: Final = _BRIDGE + "name"
HOST_BINDING: Final = _BRIDGE + "host_binding_ipv4"  # where -p publishes that names no address
ICC: Final = _BRIDGE + "enable_icc"
MASQUERADE: Final = _BRIDGE + "enable_ip_masquerade"
DEFAULT_BRIDGE: Final = "docker0"
_LEAST_MTU6: Final = 1280
_LONGEST: Final = 15  # of an interface's name
# To the kernel % stands for a number that it chooses, all and default for every interface; to rules of nftables * for any end.
_MEANT_OTHERWISE: Final = frozenset('/:"*\\%')
_RESERVED: Final = (".", "..", "all", "default", names.GATEWAY_BRIDGE, names.INGRESS_LEG)
_FALSE: Final = ("0", "f", "false")
_TRUE: Final = ("1", "t", "true")


class Memory(Protocol):
    """agent/database.py."""

    async def put_network(self, network: LocalNetwork) -> None: ...
    async def drop_network(self, network_id: str) -> None: ...


class Machine(Protocol):
    """The part of agent/network/api.py that is needed here."""

    @property
    def gateway_subnet(self) -> str: ...
    @property
    def speaks_ipv6(self) -> bool: ...
    async def is_foreign(self, interface: str) -> bool: ...


class LocalNetworks:
    """See the module's text. `routes`, here and there, are the destinations that this machine has anyway."""

    def __init__(self, memory: Memory, machine: Machine, known: Mapping[str, LocalNetwork]) -> None:
        self._memory = memory
        self._machine = machine
        self._known = dict(known)

    def all(self) -> tuple[LocalNetwork, ...]:
        """The default bridge first."""
        return tuple(sorted(self._known.values(), key=lambda n: (n.id != BRIDGE, n.created_at, n.id)))

    def get(self, network_id: str) -> LocalNetwork | None:
        return self._known.get(network_id)

    def find(self, ref: str) -> LocalNetwork | None:
        """By name, id or the one beginning of an id."""
        by_name = [n for n in self._known.values() if n.name == ref]
        found = by_name or [n for n in self._known.values() if ref and n.id.startswith(ref)]
        return found[0] if len(found) == 1 and not found[0].config_only else None

    def bridges(self) -> Mapping[str, BridgeNetwork]:
        """As the kernel is to have them."""
        return {n.id: _bridge(n) for n in self._known.values() if not n.config_only}

    async def begin(self, now: int, routes: Iterable[str]) -> None:
        """The default bridge, if there has never been one: where another engine has docker0, under another name."""
        if BRIDGE in self._known:
            return
        subnet = addressing.choose_subnet([*routes, *self._subnets()])
        foreign = await self._machine.is_foreign(DEFAULT_BRIDGE)
        made = LocalNetwork(
            BRIDGE, BRIDGE, now, "shoal0" if foreign else DEFAULT_BRIDGE, subnet, addressing.first_address(subnet, "", ())
        )  # fmt: skip
        await self._keep(made)

    async def add(self, network: LocalNetwork, routes: Iterable[str]) -> LocalNetwork:
        """Finds what the user has left open, refuses what cannot be, keeps it. The kernel isn't asked."""
        if network.config_only:
            self._refuse_name(network.name)
            await self._keep(network)
            return network
        check_options(network.options)
        if network.six is not None:
            _refuse_without_ipv6(network, self._machine.speaks_ipv6)
        bridge = network.options.get(NAME, "") or f"br-{network.id[:12]}"
        foreign = await self._machine.is_foreign(bridge)
        # Nothing is waited for from here to where it is known: another request may ask for the same.
        self._refuse_name(network.name)
        if foreign or any(n.bridge == bridge for n in self._known.values()):
            raise errors.PermissionDenied(
                f"cannot create network {network.id} ({bridge}): the interface is in use"
            )
        if network.subnet:
            addressing.refuse_overlap(network.subnet, self._subnets())
        else:
            subnet = addressing.choose_subnet([*routes, *self._subnets()])
            network = replace(network, subnet=subnet)
        reserved = tuple(network.reserved.values())
        gateway = network.gateway or addressing.first_address(network.subnet, network.ip_range, reserved)
        pool = {"Subnet": network.subnet, "IPRange": network.ip_range, "Gateway": gateway,
                "AuxiliaryAddresses": dict(network.reserved)}  # fmt: skip
        six, asked6 = network.six, [p for p in network.pools if ":" in str(p.get("Subnet", ""))]
        if six is not None:
            six = self._with_pool6(network, six)
            asked6 = asked6 or [{"Subnet": six.subnet, "Gateway": six.gateway}]
        asked = [p for p in network.pools if p not in asked6]
        shown = (*(asked if network.chosen else [{k: v for k, v in pool.items() if v}]), *asked6)
        network = replace(network, bridge=bridge, gateway=gateway, pools=shown, six=six)
        await self._keep(network)
        return network

    def _with_pool6(self, network: LocalNetwork, six: Pool6) -> Pool6:
        subnet = six.subnet or addressing.choose_subnet6(network.id)
        others = (n.six for n in self._known.values() if not n.config_only)
        addressing.refuse_overlap(subnet, [other.subnet for other in others if other is not None])
        reserved = tuple(six.reserved.values())
        gateway = six.gateway or addressing.first_address(subnet, six.ip_range, reserved)
        return replace(six, subnet=subnet, gateway=gateway)

    def _refuse_name(self, name: str) -> None:
        if any(network.name == name for network in self._known.values()):
            raise errors.AlreadyExists(f"network with name {name} already exists")

    async def drop(self, network_id: str) -> None:
        if self._known.pop(network_id, None) is not None:
            await self._memory.drop_network(network_id)

    def _subnets(self) -> list[str]:
        own = [n.subnet for n in self._known.values() if n.subnet and not n.config_only]
        return [*own, self._machine.gateway_subnet] if self._machine.gateway_subnet else own

    async def _keep(self, network: LocalNetwork) -> None:
        self._known[network.id] = network
        await self._memory.put_network(network)


def truth(options: Mapping[str, str], key: str, otherwise: bool) -> bool:
    """A switch among a bridge's options."""
    text = options.get(key, "").lower()
    return otherwise if text not in (*_TRUE, *_FALSE) else text in _TRUE


def check_options(options: Mapping[str, str]) -> None:
    """Raises for a value that makes no sense; options that nobody knows are kept, as Docker keeps them."""
    for key in (ICC, MASQUERADE):
        if (text := options.get(key)) is not None and text.lower() not in (*_TRUE, *_FALSE):
            raise errors.InvalidArgument(
                f'failed to parse {key} value: "{text}" (strconv.ParseBool: parsing "{text}": invalid syntax)'
            )
    mtu = options.get(MTU)
    if mtu is not None and not (mtu.isascii() and mtu.isdecimal() and 68 <= int(mtu) <= 65535):
        raise errors.InvalidArgument(f'failed to parse {MTU} value: "{mtu}"')
    binding = options.get(HOST_BINDING)
    if binding is not None and not addressing.is_ipv4(binding):
        raise errors.InvalidArgument(f"failed to parse {HOST_BINDING} value: {binding} (nil ip)")
    name = options.get(NAME, "")
    plain = all("!" <= c <= "~" and c not in _MEANT_OTHERWISE for c in name)
    if len(name) > _LONGEST or not plain or name in _RESERVED:
        raise errors.InvalidArgument(f"invalid name of a bridge: {name}")


def _refuse_without_ipv6(network: LocalNetwork, machine: bool) -> None:
    """Raises where this machine or the network's MTU has no room for it."""
    if not machine:
        raise errors.FailedPrecondition("the kernel of this node has no IPv6")
    if (mtu := int(network.options.get(MTU, "1500"))) < _LEAST_MTU6:
        raise errors.InvalidArgument(f"an MTU of {mtu} is too small for IPv6: it needs {_LEAST_MTU6}")


def _bridge(network: LocalNetwork) -> BridgeNetwork:
    options, six = network.options, network.six
    return BridgeNetwork(
        network.id,
        network.bridge,
        network.subnet,
        network.gateway,
        int(options.get(MTU, "1500")),
        network.internal,
        truth(options, ICC, True),
        truth(options, MASQUERADE, True),
        standing=network.id != BRIDGE,
        subnet6=six.subnet if six is not None else "",
        gateway6=six.gateway if six is not None else "",
    )
