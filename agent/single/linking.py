"""Links on the default bridge: lines of /etc/hosts and variables for a container that links, kept right when the other comes back.

For namespaces.py, when a container gets its network, and the engine; links.py knows what is in them. In networks that have
names a link is only a name (zones.py), and nothing here is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agent.runtime.api import Runtime, Status
from agent.runtime.image import environment_of
from agent.single import links
from agent.single.failures import FAILURES, said
from agent.single.record import Link, SingleRecord
from agent.single.records import Records
from agent.turns import Turns
from common import errors

log = logging.getLogger("single")

_RUNNING: Final = (Status.RUNNING, Status.PAUSED)


class Linking:
    """See the module's text."""

    def __init__(self, runtime: Runtime, records: Records, turns: Turns) -> None:
        self._runtime = runtime
        self._records = records
        self._turns = turns

    # ---- names

    def names_of(self, container_id: str) -> list[str]:
        """Further names of a container: those that others have for it, "/own/alias"."""
        return [
            links.full_name(record.name, link.alias)
            for record in self._records.linking()
            for link in record.links
            if link.container_id == container_id
        ]

    def links_of(self, container_id: str) -> list[str]:
        """What a container is linked to, "/other:/own/alias"."""
        record = self._records.get(container_id)
        if record is None:
            return []
        return [f"/{self._name(link)}:{links.full_name(record.name, link.alias)}" for link in record.links]

    def find(self, name: str) -> str:
        """The container that goes by such a name; empty where none does."""
        own, _, alias = name.removeprefix("/").rpartition("/")
        found = (link for record in self._records.linking() if record.name == own for link in record.links)
        return next((link.container_id for link in found if link.alias == alias), "")

    async def cut(self, name: str) -> None:
        """A container loses its name for another one."""
        own, _, alias = name.removeprefix("/").rpartition("/")
        if not own:
            raise errors.ShoalError("Conflict, cannot remove the default link name of the container")
        found = next((record for record in self._records.linking() if record.name == own), None)
        if found is None:
            raise errors.ShoalError(f"Cannot get parent /{own} for link name /{own}/{alias}")
        async with self._turns.of(found.container_id):
            await self._records.change(
                found.container_id,
                lambda now: replace(now, links=tuple(link for link in now.links if link.alias != alias)),
            )
            await self._tell(found.container_id)

    # ---- what they bring

    async def refuse(self, container_id: str) -> None:
        """Raises where one that it is linked to doesn't run, or has left the bridge: no process more is started in it then."""
        record = self._records.get(container_id)
        if record is None or links.on_bridge(record) is None:
            return
        for link in record.links:
            state = await self._runtime.container(link.container_id)
            other = self._records.get(link.container_id)
            if state is None or state.status not in _RUNNING:
                name, full = self._name(link), links.full_name(record.name, link.alias)
                raise errors.ShoalError(f"Cannot link to a non running container: /{name} AS {full}")
            if other is None or links.on_bridge(other) is None:
                raise errors.ShoalError(
                    f"container {link.container_id} not attached to default bridge network"
                )

    async def give(self, container_id: str) -> None:
        """For a container that is to be started: all that its links bring."""
        record = self._records[container_id]
        if not record.links:
            return
        for link in record.links if links.on_bridge(record) is not None else ():
            other = self._records.get(link.container_id)
            gone = other is None and await self._runtime.container(link.container_id) is None
            if not gone and (other is None or links.on_bridge(other) is None):
                raise errors.ShoalError(
                    f"Cannot link to /{self._name(link)}, as it does not belong to the default network"
                )
        await self.refuse(container_id)
        await self._tell(container_id, fresh=True)

    async def changed(self, container_id: str) -> None:
        """One that runs has come to the bridge, or left it."""
        if self._records[container_id].links:
            await self._tell(container_id)

    async def moved(self, container_id: str) -> None:
        """One has come to the bridge: those that run and are linked to it learn of its address."""
        for record in self._records.linking():
            if record.sandbox and any(link.container_id == container_id for link in record.links):
                try:
                    await self._tell(record.container_id)
                except FAILURES as exc:  # the one that has come runs all the same
                    log.warning("container %s keeps an old link: %s", record.container_id[:12], said(exc))

    def _name(self, link: Link) -> str:
        other = self._records.get(link.container_id)
        return other.name if other is not None else link.name

    async def _tell(self, container_id: str, fresh: bool = False) -> None:
        """Off the bridge there are no variables; a container that has been on it keeps its lines."""
        told = [(link, await self._other(link)) for link in self._records[container_id].links]
        found = {link.container_id: other.address for link, other in told}
        record = await self._records.change(container_id, lambda now: _addressed(now, found))
        off = links.on_bridge(record) is None
        known = [(link, other) for link, other in told if other.address and not (off and fresh)]
        lines = [links.hosts_line(link.alias, other) for link, other in known]
        env = [
            item
            for link, other in known
            if not off
            for item in links.environment(links.full_name(record.name, link.alias), other)
        ]
        await self._runtime.relink(container_id, lines, env)

    async def _other(self, link: Link) -> links.Other:
        """As it is now; one that has lost its address, or has gone, keeps the last that was told of it."""
        record, state = self._records.get(link.container_id), await self._runtime.container(link.container_id)
        leg = links.on_bridge(record) if record is not None else None
        address = (leg.address if leg is not None else "") or link.address
        config = state.config if state is not None else None
        hostname = (config.hostname if config is not None else "") or link.container_id[:12]
        if record is None or config is None:
            return links.Other(link.name, hostname, address)
        image = await self._runtime.image(config.image)
        env = environment_of(config.env, image.config.env if image is not None else ())
        return links.Other(record.name, hostname, address, tuple(env), links.ports_of(record))


def _addressed(record: SingleRecord, found: Mapping[str, str]) -> SingleRecord:
    told = (replace(link, address=found.get(link.container_id, link.address)) for link in record.links)
    return replace(record, links=tuple(told))
