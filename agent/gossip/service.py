"""This node's part in the swarm's gossip, from the daemon's start to its end. agent/daemon.py runs it, agent/membership.py says what is wanted.

While the node belongs to a swarm a member runs (node.py): new keys, managers and roles are passed on to it; another name or
address needs another one. It is left without a good-bye when the daemon ends, for the node's containers stay; `leave`
says it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from agent.gossip.api import Event, MemberView
from agent.gossip.messages import Address, State
from agent.gossip.node import GossipNode
from agent.gossip.plan import PORT, Wanted
from common import errors

log = logging.getLogger("gossip")

LEAVE_TIMEOUT: Final = 6.0
_HERE: Final = (State.ALIVE, State.SUSPECT)


class Member(Protocol):
    """node.py's GossipNode."""

    async def start(
        self, bind: str, advertise: str, port: int, name: str, meta: bytes, keys: Iterable[bytes]
    ) -> None: ...

    async def ended(self) -> None: ...

    async def join(self, addresses: Iterable[Address]) -> dict[Address, str | None]: ...

    async def leave(self) -> None: ...

    async def set_keys(self, keys: Iterable[bytes]) -> None: ...

    async def set_meta(self, meta: bytes) -> None: ...

    async def broadcast(self, subject: str, data: bytes) -> None: ...

    async def set_user_state(self, state: bytes) -> None: ...

    def members(self) -> tuple[MemberView, ...]: ...

    async def close(self) -> None: ...


class Gossip:
    """One per agent. `on_event` is called in the main loop; `on_start` with every new member, before its first event."""

    def __init__(
        self, make: Callable[[Callable[[Event], None]], Member] = GossipNode, port: int = PORT
    ) -> None:
        self.on_event: Callable[[Event], None] = lambda event: None
        self.on_start: Callable[[], None] = lambda: None
        self._make = make
        self._port = port
        self._wanted: Wanted | None = None
        self._news = asyncio.Event()
        self._reunite = False
        self._state = b""
        self._member: Member | None = None

    def want(self, wanted: Wanted | None) -> None:
        """From now on; None where the node belongs to no swarm."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._news.set()

    def reunite(self) -> None:
        """Seeds that this member doesn't hold alive are asked again: one that came back with nothing may know nobody."""
        self._reunite = True
        self._news.set()

    def keep_telling(self, state: bytes) -> None:
        """What members get from now on when they exchange states with this one: for what a broadcast may have missed."""
        if state != self._state:
            self._state = state
            self._news.set()

    def members(self) -> tuple[MemberView, ...]:
        """Everybody known, this node too."""
        return self._member.members() if self._member else ()

    async def broadcast(self, subject: str, data: bytes) -> None:
        """To everybody, as far as there is anybody; one of the same subject that is still on its way is replaced."""
        if self._member:
            await self._member.broadcast(subject, data)

    async def leave(self) -> None:
        """Says good-bye for good: the node leaves its swarm. Others need not find out."""
        if self._member:
            try:
                async with asyncio.timeout(LEAVE_TIMEOUT):
                    await self._member.leave()
            except (TimeoutError, errors.Unavailable) as error:
                log.warning("the other nodes may not know that this one leaves: %s", error or "no answer")
        self.want(None)

    async def run(self) -> None:
        """Until cancelled; raises what the member failed of."""
        while True:
            wanted = self._wanted
            if wanted is None:
                self._news.clear()
                await self._news.wait()
                continue
            member = self._make(self._told)
            try:
                await _start(member, wanted, self._port)
                self.on_start()
                self._member = member
                await self._take_part(member, wanted)
            finally:
                self._member = None
                await member.close()

    def _told(self, event: Event) -> None:
        self.on_event(event)

    async def _take_part(self, member: Member, first: Wanted) -> None:
        """Until another member is wanted, or none."""
        log.info("gossip on %s:%d", first.address, self._port)
        now = first
        known: set[Address] = set()
        state = b""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(member.ended())]
            while True:
                if state != self._state:
                    state = self._state
                    await member.set_user_state(state)
                if self._reunite:
                    self._reunite = False
                    known &= {m.address for m in member.members() if m.state in _HERE}
                if fresh := [seed for seed in now.seeds if seed not in known]:
                    known |= set(fresh)
                    tasks = [task for task in tasks if not task.done()]
                    tasks.append(group.create_task(_join(member, fresh)))
                await self._news.wait()
                self._news.clear()  # before looking: what is wanted while the member is told counts too
                before, wanted = now, self._wanted
                if wanted is None or (wanted.name, wanted.address) != (first.name, first.address):
                    break
                now = wanted
                if now.keys != before.keys:
                    await member.set_keys(now.keys)
                    log.info("gossip has new keys")
                if now.meta != before.meta:
                    await member.set_meta(now.meta)
            for task in tasks:
                task.cancel()


async def _start(member: Member, wanted: Wanted, port: int) -> None:
    """At its own address; behind address translation, where that is no address of this machine, at every one."""
    everywhere = "::" if ":" in wanted.address else "0.0.0.0"
    for bind in (wanted.address, everywhere):
        try:
            await member.start(bind, wanted.address, port, wanted.name, wanted.meta, wanted.keys)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and bind != everywhere:
                continue
            raise errors.Unavailable(f"cannot listen on {bind}:{port}: {error.strerror or error}") from error
        return


async def _join(member: Member, seeds: list[Address]) -> None:
    """The member goes on by itself with those that don't answer."""
    for (host, port), problem in (await member.join(seeds)).items():
        if problem:
            log.info("no exchange with %s:%d yet: %s", host, port, problem)


def source_towards(hosts: Iterable[str]) -> str:
    """This machine's address on the way to the first of these that there is a way to; empty if there is none."""
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((host, PORT))
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return ""
