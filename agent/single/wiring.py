"""Puts single containers on networks and takes them off: this node's own bridges, overlays of the swarm, ports of this node.

Called by containers.py when a container starts, ends, or is connected while it runs. A record says all that a container has,
before the kernel has it; whatever is broken off is put right by unplug().
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Final, Protocol

from agent.network import names
from agent.network.api import Network, Sandbox
from agent.network.bridges import ANY, Binding, BridgeLeg, Local, OverlayLeg, Wired
from agent.single import addressing, ports
from agent.single.failures import FAILURES, in_words, said
from agent.single.networks import HOST_BINDING, LocalNetworks
from agent.single.record import HOST, Leg, LocalNetwork, SingleRecord
from agent.single.records import Records
from common import errors
from common.cancellation import to_the_end

log = logging.getLogger("single")

_NOTHING: Final = Leg("")


class Attachments(Protocol):
    """The way into networks of the swarm (agent/single/attachments.py)."""

    async def acquire(self, record: SingleRecord, leg: Leg) -> str:
        """A container's place in a network; answers with the attachment's id, once this node knows of it."""
        ...

    def started(self, attachment_id: str, container_id: str, pid: int) -> None:
        """The container runs."""

    def keep(self, records: Iterable[SingleRecord]) -> None:
        """Those that there are at the agent's start."""

    def leads_out(self, attachment_id: str) -> bool:
        """Whether it is in a network that isn't an internal one."""
        ...

    def addresses(self, attachment_id: str) -> tuple[str, ...]:
        """What the managers have given for it."""
        ...

    def renamed(self, record: SingleRecord) -> None:
        """The container has another name."""

    def release(self, attachment_id: str) -> None:
        """The place isn't needed any more."""


class Wiring:
    """See the module's text. Whoever calls has the container's turn (turns.py)."""

    def __init__(
        self, network: Network, attachments: Attachments, networks: LocalNetworks, records: Records
    ) -> None:
        self._network = network
        self._attachments = attachments
        self.networks = networks
        self._records = records
        self._ports = asyncio.Lock()
        self.changed: Callable[[], None] = lambda: None  # what containers may ask DNS for

    def wire(self) -> None:
        """Tells the network what there is; so does every change here."""
        self._network.wire(self._local())
        self.changed()

    async def plug(self, container_id: str) -> tuple[SingleRecord, Sandbox]:
        """A namespace with everything that the container asks for."""
        record = await self._records.change(container_id, lambda now: replace(now, sandbox=container_id))
        for number in range(len(record.legs)):
            await self._acquire(container_id, number)
        await self._records.change(container_id, self._with_gateway)
        record = await self._publish(container_id)
        self.wire()
        return record, await self._network.attach_local(container_id)

    async def unplug(self, container_id: str) -> SingleRecord:
        """Gives everything back."""
        record = self._records[container_id]
        if record.sandbox:
            with in_words():
                await self._network.detach(record.sandbox)
        for attachment in record.attachments:
            self._attachments.release(attachment)
        record = await self._records.change(container_id, _bare)
        self.wire()
        return record

    async def connect(self, container_id: str, leg: Leg) -> SingleRecord:
        """One network more, at once where the container has a namespace."""
        before = self._records[container_id]
        if any(self._same(other, leg) for other in before.legs):
            raise errors.Conflict(f"{before.name} is already attached to network {leg.network}")
        leg = replace(leg, entered=True)
        record = await self._records.change(container_id, lambda now: replace(now, legs=(*now.legs, leg)))
        if not record.sandbox:
            return record
        try:
            with in_words():
                await self._acquire(container_id, len(record.legs) - 1)
                return await self._rewire(
                    before, await self._records.change(container_id, self._with_gateway)
                )
        except BaseException:
            await to_the_end(self._take_back(before, leg))
            raise

    def _same(self, one: Leg, other: Leg) -> bool:
        """Whether both lead into the same network, by whatever name."""
        local = self.networks.find(one.network)
        return one.network == other.network or (
            local is not None and local is self.networks.find(other.network)
        )

    async def _take_back(self, before: SingleRecord, leg: Leg) -> None:
        now = self._records.get(before.container_id)
        if now is None:
            return
        lost = [other for other in now.legs if other.network == leg.network]
        left = tuple(other for other in now.legs if other.network != leg.network)
        await self._records.change(
            before.container_id, lambda now: replace(now, legs=left, gateway_leg=before.gateway_leg)
        )
        self.wire()
        for gone in lost:
            try:
                if gone.interface:
                    await self._network.rewire(before.container_id, gone.interface)
            except FAILURES as exc:  # the first cause is the one to tell
                log.warning("container %s keeps %s: %s", before.container_id[:12], gone.interface, said(exc))
            finally:
                if gone.attachment:
                    self._attachments.release(gone.attachment)

    async def disconnect(self, container_id: str, leg: Leg) -> SingleRecord:
        """One network less."""
        before = self._records[container_id]
        found = next((other for other in before.legs if other.network == leg.network), None)
        if found is None:  # somebody was faster
            raise errors.ShoalError(f"container {container_id} is not connected to network {leg.network}")
        left = tuple(other for other in before.legs if other is not found)
        if not before.sandbox:
            return await self._records.change(container_id, lambda now: replace(now, legs=left))
        after = await self._records.change(
            container_id, lambda now: self._with_gateway(replace(now, legs=left))
        )
        try:
            with in_words():
                return await self._rewire(before, after, found)
        finally:
            if found.attachment:
                self._attachments.release(found.attachment)

    async def _rewire(self, before: SingleRecord, after: SingleRecord, gone: Leg = _NOTHING) -> SingleRecord:
        self.wire()
        id = after.container_id
        route, route6 = self._new_route(before, after, 4), self._new_route(before, after, 6)
        old, new = before.gateway_leg or _NOTHING, after.gateway_leg or _NOTHING
        if old.interface and old.interface != new.interface:
            await self._network.rewire(id, old.interface)
        await self._network.rewire(id, gone.interface, route)
        if all(route6):
            await self._network.rewire(id, way_out=route6)
        return after

    # ---- places

    async def _acquire(self, container_id: str, number: int) -> SingleRecord:
        record = self._records[container_id]
        leg = record.legs[number]
        addressing.refuse_mac(leg.mac)
        interface = _free_interface(record)
        network = self.networks.find(leg.network)
        addressing.refuse_link_local(leg.link_local)
        if network is None:
            if leg.link_local:
                raise errors.Unimplemented(
                    "--link-local-ip in networks of the swarm is not supported for single containers"
                )
            attachment = await self._attachments.acquire(record, leg)
            leg = replace(leg, interface=interface, attachment=attachment, entered=True)
        else:
            used = self.used(network.id)
            address, address6 = addressing.addresses(network, leg.wanted, leg.wanted6, used)
            leg = replace(
                leg,
                interface=interface,
                network_id=network.id,
                address=address,
                address6=address6,
                entered=True,
            )
        return await self._records.change(
            container_id,
            lambda now: replace(now, legs=(*now.legs[:number], leg, *now.legs[number + 1 :])),
        )

    def used(self, network_id: str) -> set[str]:
        """Addresses that containers have on a bridge; those that a stopped one has asked for stay its own."""
        network = self.networks.get(network_id)
        found: set[str] = set()
        for record in self._records.values():
            for leg in record.legs:
                if leg.network_id == network_id:
                    found.update(leg.addresses)
                elif not record.sandbox and self.networks.find(leg.network) is network:
                    found.update(map(addressing.plainly, leg.wishes))
        return found

    def members(self, network_id: str) -> dict[str, Leg]:
        """Who is on a bridge now, by container."""
        legs = ((id, leg) for id, record in self._records.items() for leg in record.legs)
        return {id: leg for id, leg in legs if leg.network_id == network_id}

    def addresses(self, record: SingleRecord) -> tuple[str, ...]:
        """The container's own, in the order of its networks; on docker_gwbridge where it has no others."""
        found: list[str] = []
        for leg in record.legs:
            found += self._attachments.addresses(leg.attachment) if leg.attachment else leg.addresses
        gateway = record.gateway_leg
        return tuple(found) or ((gateway.address,) if gateway is not None else ())

    def host_address(self, record: SingleRecord) -> str:
        """By which a container reaches this node: its first bridge's own address, or docker_gwbridge's."""
        if record.network_mode == HOST:
            return "127.0.0.1"
        found = (self.networks.find(leg.network) for leg in record.legs)
        bridge = next((network.gateway for network in found if network is not None and network.gateway), "")
        subnet = self._network.gateway_subnet
        return bridge or (str(IPv4Network(subnet)[1]) if subnet else "")

    # ---- this node's own networks

    async def begin(self, now: int) -> None:
        """The default bridge is among them."""
        await self.networks.begin(now, await self._network.routes())
        self.wire()

    async def add_network(self, network: LocalNetwork) -> LocalNetwork:
        """One more, with its bridge; where that cannot be made it isn't there."""
        with in_words():
            made = await self.networks.add(network, await self._network.routes())
            self.wire()
            try:
                await self._network.bridge()
            except BaseException:
                await to_the_end(self.networks.drop(made.id))
                self.wire()
                raise
        return made

    async def drop_network(self, network: LocalNetwork) -> None:
        """One less."""
        if self.members(network.id):
            raise errors.PermissionDenied(
                f"error while removing network: network {network.name} id {network.id} has active endpoints"
            )
        await self.networks.drop(network.id)
        self.wire()
        with in_words():
            await self._network.bridge()

    # ---- the way out

    def _with_gateway(self, record: SingleRecord) -> SingleRecord:
        """With a leg on docker_gwbridge where nothing else leads out, and only there."""
        needed = not self._bridge_out(record) and any(map(self._attachments.leads_out, record.attachments))
        if needed == (record.gateway_leg is not None):
            return record
        if not needed:
            return replace(record, gateway_leg=None)
        address = self._network.next_gateway_address()
        leg = Leg(names.GATEWAY_BRIDGE, interface=_free_interface(record), address=address)
        return replace(record, gateway_leg=leg)

    def _bridge_out(self, record: SingleRecord, version: int = 4) -> LocalNetwork | None:
        """As in Docker the first by name, of those that lead out."""
        found = [
            network
            for leg in record.legs
            if leg.interface and (network := self.networks.get(leg.network_id)) is not None
            if not network.internal and (version == 4 or leg.address6)
        ]
        return min(found, key=lambda network: network.name, default=None)

    def _way_out(self, record: SingleRecord, version: int = 4) -> str:
        if (network := self._bridge_out(record, version)) is not None:
            return network.id
        return names.GATEWAY_BRIDGE if record.gateway_leg is not None and version == 4 else ""

    def _new_route(self, before: SingleRecord, after: SingleRecord, version: int) -> tuple[str, str]:
        """(gateway, interface) of a bridge that has begun to lead out; the one of docker_gwbridge comes with its leg."""
        network, now = self._bridge_out(after, version), self._way_out(after, version)
        leg = next((leg for leg in after.legs if leg.network_id == now), None)
        if network is None or leg is None or now == self._way_out(before, version):
            return "", ""
        if version == 6:
            return network.six.gateway if network.six is not None else "", leg.interface
        return network.gateway, leg.interface

    # ---- ports

    async def _publish(self, container_id: str) -> SingleRecord:
        record = self._records[container_id]
        if not ports.requests(record):
            return record

        async def taken(binding: Binding) -> bool:
            try:
                return await self._network.busy(binding.address, binding.protocol, binding.port)
            except OSError as exc:
                raise errors.ShoalError(_not_bound(binding, exc)) from exc

        bridge = self._bridge_out(record)
        unsaid = bridge.options.get(HOST_BINDING, "") if bridge is not None else ""
        six = self._bridge_out(record, 6) is not None
        async with self._ports:
            try:
                bindings = await ports.allocate(record, self._bindings, taken, unsaid or ANY, six)
            except errors.ShoalError as exc:
                raise errors.ShoalError(
                    "driver failed programming external connectivity on endpoint "
                    f"{record.name} ({record.container_id}): {exc.message}"
                ) from exc
            return await self._records.change(container_id, lambda now: replace(now, bindings=bindings))

    def _bindings(self) -> list[Binding]:
        return [binding for record in self._records.values() for binding in record.bindings]

    # ---- what the network is told

    def _local(self) -> Local:
        held = {id: self._wired(record) for id, record in self._records.items() if record.sandbox == id}
        return Local(self.networks.bridges(), held)

    def _wired(self, record: SingleRecord) -> Wired:
        known = [leg for leg in record.legs if leg.interface]
        on_bridges = [leg for leg in known if self.networks.get(leg.network_id) is not None]
        bridges = [
            BridgeLeg(
                leg.network_id,
                leg.interface,
                leg.address,
                leg.address6,
                mac=leg.mac,
                link_local=leg.link_local,
            )
            for leg in on_bridges
        ]
        if (gateway := record.gateway_leg) is not None:
            bridges.append(BridgeLeg(names.GATEWAY_BRIDGE, gateway.interface, gateway.address))
        overlays = tuple(OverlayLeg(leg.attachment, leg.interface) for leg in known if leg.attachment)
        ways_out = self._way_out(record), self._way_out(record, 6)
        return Wired(tuple(bridges), overlays, ways_out[0], record.bindings, ways_out[1])


def _free_interface(record: SingleRecord) -> str:
    legs = (*record.legs, record.gateway_leg or _NOTHING)
    used = {leg.interface for leg in legs}
    return next(name for n in range(len(legs) + 1) if (name := f"eth{n}") not in used)


def _bare(record: SingleRecord) -> SingleRecord:
    """Without what it has only while it runs."""
    legs = tuple(leg.bare() for leg in record.legs)
    return replace(record, sandbox="", legs=legs, gateway_leg=None, bindings=())


def _not_bound(binding: Binding, error: OSError) -> str:
    """An address that isn't this machine's, above all."""
    why = (error.strerror or str(error)).lower()
    place = f"[{binding.address}]" if binding.version == 6 else binding.address
    return f"failed to bind host port for {place}:{binding.port}/{binding.protocol}: {why}"
