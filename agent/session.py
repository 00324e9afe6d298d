"""The agent's one stream to a manager: hello, heartbeats, statuses and acknowledgements out; assignments in.

It goes to any manager that is known, and comes back for ever: from 100 ms to 2 s between tries. What arrives is handed to
agent/applier.py; what is to be told waits in agent/statuses.py until the managers have it. One `Session` is run by
agent/membership.py for as long as the node is a member.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, TypeVar

import grpc.aio

from agent.applier import Applier, OutOfChain
from agent.statuses import StatusQueue
from common import errors, model, rpc
from common.cancellation import still_wanted
from common.model.stubs import DispatcherStub

log = logging.getLogger("session")

BACK_OFF: Final = (0.1, 2.0)
WELCOME_TIMEOUT: Final = 5.0
HEARTBEAT: Final = 2.0  # seconds, until a manager says otherwise
DESCRIBE_EVERY: Final = 30.0
_BATCH: Final = 0.01  # statuses of tasks that change together go together

E = TypeVar("E", bound=Exception)
Dial = Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]]
Call = grpc.aio.StreamStreamCall[model.AgentMessage, model.ManagerMessage]


class Member(Protocol):
    """What the session asks of the node (agent/membership.py)."""

    def addresses(self) -> list[str]:
        """host:port of the managers, the best first."""

    async def hello(self, chain: str, fence: model.Fence) -> model.Hello: ...

    async def describe(self) -> model.NodeDescription:
        """The node as it is now."""

    async def welcomed(self, welcome: model.Welcome) -> None:
        """A manager has taken the node in, or sends new managers, keys or a new role."""

    def connected(self) -> None:
        """The session is up."""

    def asked(self) -> None:
        """A manager was asked to take the node in, and did not: `link` says why."""

    async def committed(self, statuses: dict[str, model.TaskStatus]) -> None:
        """The managers have these statuses for good."""


class Places(Protocol):
    """What single containers have in the swarm's networks (agent/single/attachments.py)."""

    @property
    def held(self) -> model.ContainerAttachments: ...
    def refused(self, refusal: model.AttachmentRefused) -> None: ...


class Checks(Protocol):
    """This node's part in network checks (agent/check/checks.py)."""

    def ordered(self, order: model.CheckOrder) -> None: ...
    def answered(self, found: model.NetworkCheck) -> None: ...
    def disconnected(self) -> None: ...


@dataclass(slots=True)
class Link:
    """How the session stands, for `info`."""

    connected: bool = False
    addr: str = ""
    error: str = ""  # why a manager refuses this node; empty while it is just unreachable
    since: float = 0.0  # on the loop's clock; while it is connected
    asked: bool = False  # somebody was: it took the node in, refused it, or could not be reached
    turned_away: bool = False  # the node is removed, or a copy of another


class Session:
    """Keeps the stream up. `link` shows how it stands; `welcome` is set while a manager has taken the node in."""

    def __init__(
        self, member: Member, applier: Applier, statuses: StatusQueue, dial: Dial,
        back_off: tuple[float, float] = BACK_OFF, rng: random.Random | None = None,
        places: Places | None = None, checks: Checks | None = None,
    ) -> None:  # fmt: skip
        self.link = Link()
        self.welcome = asyncio.Event()
        self.settled = asyncio.Event()  # taken in or refused for the first time: `link` says which
        self._member = member
        self._applier = applier
        self._statuses = statuses
        self._dial = dial
        self._places = places
        self._checks = checks
        self._back_off = back_off
        self._rng = rng or random.Random()
        # A new process asks for everything: what is not kept on disk (credentials) is sent again.
        self._chain = ""
        self._chain_broke = False
        self._outgoing: asyncio.Queue[model.AgentMessage] = asyncio.Queue()
        self._period = HEARTBEAT
        self._unseen: model.Unseen | None = None  # as it was told on this connection
        self._to_send = asyncio.Event()
        statuses.wake = self._to_send.set
        applier.acknowledged = self._acknowledge

    async def run(self) -> None:
        """Until cancelled."""
        delay = self._back_off[0]
        turn = 0
        while True:
            addresses = self._member.addresses()
            if not addresses:
                self.link.error = "no manager of this node's swarm is known"
                await asyncio.sleep(self._back_off[1])
                continue
            addr = addresses[turn % len(addresses)]
            if await self._one(addr):
                delay = self._back_off[0]
            still_wanted()
            turn += 0 if self._chain_broke else 1
            await asyncio.sleep(delay * self._rng.uniform(0.5, 1.0))
            delay = min(delay * 2, self._back_off[1])

    async def _one(self, addr: str) -> bool:
        """One connection from its beginning to its end; says whether a manager took the node in."""
        self.welcome.clear()
        self._unseen = None
        self._chain_broke = False
        try:
            async with self._dial(addr) as channel:
                await self._talk(channel, addr)
        except errors.ShoalError as exc:
            self._ended(addr, exc)
        except Exception as exc:
            still_wanted()
            log.exception("the session with %s failed", addr)
            self.link.error = f"{type(exc).__name__}: {exc}"
        taken, self.link.connected, self.link.asked = self.link.connected, False, True
        self._member.asked()
        if self._checks is not None:
            self._checks.disconnected()
        return taken

    def _ended(self, addr: str, exc: errors.ShoalError) -> None:
        if isinstance(exc, OutOfChain):
            log.warning("%s; asking %s for everything", exc.message, addr)
            self._chain, self._chain_broke = "", True
            return
        away = isinstance(exc, errors.Unavailable | errors.DeadlineExceeded)
        text = "" if away and not isinstance(exc, errors.ClockSkew) else exc.message
        if self.link.connected or text != self.link.error:
            log.warning("the session with %s ended: %s", addr, exc.message)
        self.link.error = text
        self.link.turned_away = isinstance(exc, errors.PermissionDenied | errors.AlreadyExists)
        if text:
            self.settled.set()

    async def _talk(self, channel: grpc.aio.Channel, addr: str) -> None:
        call: Call = DispatcherStub(channel).Session()
        self._outgoing = asyncio.Queue()
        self._applier.begin()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(call))
                group.create_task(self._beat())
                group.create_task(self._send_statuses())
                hello = await self._member.hello(self._chain, self._applier.state.fence)
                group.create_task(self._describe(hello.description))
                self._outgoing.put_nowait(model.AgentMessage(hello=hello))
                await self._read(call, addr)
        except ExceptionGroup as group_error:
            raise _cause(group_error) from group_error
        finally:
            call.cancel()

    async def _read(self, call: Call, addr: str) -> NoReturn:
        """Takes in what the manager sends, until it hangs up: that, too, is an error."""
        messages = _iterate(call)
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT):
                first = await anext(messages, None)
        except TimeoutError as exc:
            raise errors.DeadlineExceeded(f"{addr} did not answer within {WELCOME_TIMEOUT:.0f} s") from exc
        if first is None or first.welcome is None:
            raise errors.Unavailable(f"{addr} hung up without a welcome")
        await self._take_welcome(first.welcome, addr)
        async for message in messages:
            if message.assignments is not None:
                await self._applier.take(message.assignments)
                self._chain = self._applier.state.chain
            elif message.taken is not None:
                await self._member.committed(self._statuses.taken(message.taken.sequence))
            elif message.update is not None:
                await self._member.welcomed(message.update)
            elif message.refused is not None and self._places is not None:
                self._places.refused(message.refused)
            elif message.check is not None and self._checks is not None:
                self._checks.ordered(message.check)
            elif message.checked is not None and self._checks is not None:
                self._checks.answered(message.checked)
        raise errors.Unavailable(f"{addr} closed the session")

    async def _take_welcome(self, welcome: model.Welcome, addr: str) -> None:
        await self._member.welcomed(welcome)
        self._period = welcome.heartbeat_period / 1e9 or HEARTBEAT
        self.link = Link(True, addr, since=asyncio.get_running_loop().time(), asked=True)
        log.info("session with manager %s", addr)
        self._statuses.restart()
        self.welcome.set()
        self._member.connected()
        self.declare()
        self.settled.set()
        if index := self._applier.applied_index:
            self._acknowledge(index)

    async def _write(self, call: Call) -> None:
        while True:
            try:
                await call.write(await self._outgoing.get())
            except asyncio.InvalidStateError:
                return  # the stream has ended; the reader learns why

    async def _beat(self) -> None:
        await self.welcome.wait()
        while True:
            await asyncio.sleep(self._period)
            self._outgoing.put_nowait(model.AgentMessage(heartbeat=model.Heartbeat()))

    async def _send_statuses(self) -> None:
        await self.welcome.wait()
        while True:
            await self._to_send.wait()
            await asyncio.sleep(_BATCH)
            self._to_send.clear()
            if batch := self._statuses.batch():
                self._outgoing.put_nowait(model.AgentMessage(statuses=batch))

    def report(self, unseen: model.Unseen) -> None:
        """The nodes that gossip holds dead or gone: told on every connection once, and when they are others."""
        if self.link.connected and self.welcome.is_set() and unseen != self._unseen:
            self._unseen = unseen
            self._outgoing.put_nowait(model.AgentMessage(unseen=unseen))

    def declare(self) -> None:
        """Which places single containers have in the swarm's networks: told on every connection, and when it changes."""
        if self._places is not None and self.link.connected and self.welcome.is_set():
            self._outgoing.put_nowait(model.AgentMessage(attachments=self._places.held))

    def tell(self, message: model.AgentMessage) -> bool:
        """Sends it, where there is a session."""
        if not self.link.connected or not self.welcome.is_set():
            return False
        self._outgoing.put_nowait(message)
        return True

    def _acknowledge(self, index: int) -> None:
        """The kernel stands as store index `index` says; told only to a manager that has welcomed the node."""
        if self.link.connected and self.welcome.is_set():
            self._outgoing.put_nowait(model.AgentMessage(acknowledge=model.Acknowledge(index)))

    async def _describe(self, told: model.NodeDescription) -> None:
        """Tells the managers when the node is no longer what the hello said: its name, its resources, its routes."""
        await self.welcome.wait()
        while True:
            now = await self._member.describe()
            if now != told:
                self._outgoing.put_nowait(model.AgentMessage(description=now))
            told = now
            await asyncio.sleep(DESCRIBE_EVERY)


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """What ended a session: the manager's word or the broken connection, rather than what followed from it."""
    if found := _first(group, errors.ShoalError):
        return found
    if broken := _first(group, grpc.aio.AioRpcError):
        return rpc.error_from(broken)
    return group


def _first(group: BaseExceptionGroup[Any], kind: type[E]) -> E | None:
    """One exception of `kind` in a group, however deep."""
    for exc in group.exceptions:
        if isinstance(exc, kind):
            return exc
        if isinstance(exc, BaseExceptionGroup) and (found := _first(exc, kind)):
            return found
    return None


async def _iterate(call: Call) -> AsyncIterator[model.ManagerMessage]:
    async for message in call:
        yield message
