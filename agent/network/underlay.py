"""What the machine has below its overlays, and what that leaves them: their MTU, IPv6, sealed tunnels. Pure.

ground.py finds out about the machine; the plans, and whoever refuses what this machine cannot do, go by it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from agent.network import dual, encryption, names
from common import model, overlays

_MTU_OPTION: Final = "com.docker.network.driver.mtu"


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
