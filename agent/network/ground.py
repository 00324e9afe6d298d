"""What this machine gives the networks: its side of the tunnels, docker_gwbridge's subnet and addresses, ESP. For manager.py.

Asked of the kernel when it is needed, kept until `forget`.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from agent.network import encryption, gateway, probe
from agent.network.kernel import Kernel, describe
from agent.network.thread import NetThread
from agent.network.underlay import Underlay
from common import errors

_log: Final = logging.getLogger(__name__)


class Ground:
    """See the module's text; before `explore` nothing is known."""

    def __init__(self) -> None:
        self._thread: NetThread
        self._kernel: Kernel
        self.keys: tuple[encryption.Key, ...] = ()  # of encrypted networks, the newest first
        self.gateway_subnet = ""
        self.lacks = ""  # the kernel's module that encrypted networks need and that isn't there
        self.routes_by_mark = True
        self._routes: tuple[str, ...] = ()
        self._underlay: Underlay | None = None
        self._last_gateway = ""

    async def explore(self, thread: NetThread, kernel: Kernel, own_subnets: Iterable[str]) -> None:
        """At the start. docker_gwbridge stays as it stands, or gets a subnet that nobody has: `own_subnets` are other bridges'."""
        self._thread, self._kernel, reader = thread, kernel, kernel.reader
        if missing := await thread.run(probe.missing, thread.namespaces):
            self.routes_by_mark = False
            _log.warning(
                "the mesh masquerades what it sends to this node: no way back by marks (%s)", missing
            )
        standing = await thread.run(reader.gateway_subnet)
        self._routes = await thread.run(reader.host_routes)
        chosen = standing or gateway.choose_subnet((*self._routes, *own_subnets))
        if chosen is None:
            raise errors.FailedPrecondition(
                "no free subnet for docker_gwbridge: all pools overlap routes of this machine"
            )
        self.gateway_subnet = chosen
        await self.look_for_seals()

    def give_way(self, own_subnets: Iterable[str]) -> None:
        """Nobody needs docker_gwbridge yet: another subnet, where a bridge has taken this one."""
        chosen = gateway.choose_subnet((*self._routes, *own_subnets))
        self.gateway_subnet, self._underlay = chosen or self.gateway_subnet, None

    def gateway_address(self, addresses: Iterable[str]) -> str:
        """The one of these that lies on docker_gwbridge; empty where none does. It counts as given."""
        subnet = ipaddress.IPv4Network(self.gateway_subnet)
        found = next((a for a in addresses if ipaddress.IPv4Address(a) in subnet), "")
        self._last_gateway = max(
            filter(None, (self._last_gateway, found)), key=ipaddress.IPv4Address, default=""
        )
        return found

    def next_gateway_address(self, used: Collection[str]) -> str:
        """A free one on docker_gwbridge."""
        found = gateway.next_address(self.gateway_subnet, used, self._last_gateway)
        if found is None:
            raise errors.Internal(f"no address left in docker_gwbridge's subnet {self.gateway_subnet}")
        self._last_gateway = found
        return found

    def forget(self) -> None:
        """The underlay may be another than before."""
        self._underlay = None

    async def underlay(self, address: str) -> Underlay:
        """By the address that managers know this node's VTEP by; empty where they know none."""
        if self._underlay is None or self._underlay.address != address:
            reader = self._kernel.reader
            found = await self._thread.run(reader.interface_of, address) if address else None
            if found is None and address:
                _log.warning("no interface has the data path's address %s; assuming an MTU of 1500", address)
            interface, mtu = found or ("", 1500)
            self._underlay = Underlay(address, mtu, interface, self.gateway_subnet, reader.has_ipv6)
        return replace(self._underlay, seals=not self.lacks, keys=self.keys)

    async def look_for_seals(self) -> None:
        """A module that is missing may be installed later."""
        before = self.lacks
        try:
            self.lacks = await self._thread.run(self._kernel.missing_for_seals)
        except OSError as error:  # whatever forbids it, all else goes on
            self.lacks = f"xfrm_user ({describe(error)})"
        if self.lacks and self.lacks != before:
            _log.info("this node takes no part in encrypted networks: no module %s", self.lacks)
