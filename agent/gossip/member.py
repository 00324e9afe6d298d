"""The gossip thread: sockets (UDP and TCP on one port) and one timer around the state machine of swim.py. node.py starts it.

A loop that nobody else can block: a member that is deaf for some seconds is declared dead. Nothing polls: the timer stands at the core's
next deadline, and a member without company has none. The main loop hands work in by `call`; events go out through pipe.py. A fault
of the core ends the thread with that fault, and whoever waits is told. What is malformed is counted, and logged at most
once in ten seconds.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from agent.check.packets import MAGIC as PROBE
from agent.gossip.api import (
    Config,
    Departed,
    Event,
    Identity,
    JoinAnswered,
    MemberEvent,
    MemberView,
    OpenStream,
    SendPacket,
)
from agent.gossip.frames import Assembler, Whole
from agent.gossip.keyring import Keyring
from agent.gossip.messages import Address
from agent.gossip.pipe import EventPipe
from agent.gossip.streams import Streams
from agent.gossip.swim import Swim
from common import errors

log = logging.getLogger(__name__)
T = TypeVar("T")

LOG_EVERY: Final = 10.0
ENDED: Final = "gossip has ended"


class GossipThread(asyncio.DatagramProtocol):
    """`run` is the thread's whole life; `call` and `stop` are for other threads, the rest stays in this one."""

    def __init__(
        self, bind: str, me: Identity, config: Config, keyring: Keyring | None, pipe: EventPipe
    ) -> None:
        self.started = _future()  # or why it wasn't
        self.ended = _future()  # with the fault, if it was one
        self.view: tuple[MemberView, ...] = ()
        self.malformed_count = 0
        self.swim: Swim
        self._bind = bind
        self._me = me
        self._config = config
        self._keyring = keyring
        self._pipe = pipe
        self._lock = threading.Lock()  # around what other threads see: the two below
        self._open = True
        self._asked: set[concurrent.futures.Future[Any]] = set()
        self._ready = threading.Event()  # the loop is there, or never will be
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._streams: Streams
        self._udp: asyncio.DatagramTransport | None = None
        self._udp_gone: asyncio.Event
        self._closing = self._choked = False
        self._timer: asyncio.TimerHandle | None = None
        self._fault: Exception | None = None
        self._joins: dict[Address, list[concurrent.futures.Future[str | None]]] = {}
        self._departures: list[concurrent.futures.Future[None]] = []
        self._logged = float("-inf")
        self._unlogged = 0

    # ---- for other threads

    def call(self, work: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Runs it in the gossip thread; raises errors.Unavailable where that has ended, now or later."""
        result: concurrent.futures.Future[T] = _future()
        with self._lock:
            if not self._open:
                raise errors.Unavailable(ENDED)
            self._asked.add(result)
            self._loop.call_soon_threadsafe(self._called, work, result)
        return result

    def stop(self) -> None:
        """At any time, and as often as one likes; `ended` follows."""
        self._ready.wait()
        with self._lock:
            if self._open:
                self._loop.call_soon_threadsafe(self._stop.set)

    def run(self) -> None:
        """The thread's whole life."""
        fault: Exception | None = None
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._main())
        except Exception as error:  # noqa: BLE001 - goes to whoever waits for the start, or for the end
            fault = error
        self._shut()
        waiting = [*self._asked, *self._departures, *(w for joins in self._joins.values() for w in joins)]
        for future in waiting:
            if not future.done():
                future.set_exception(errors.Unavailable(ENDED))
        if not self.started.done():
            self.started.set_exception(fault or errors.Unavailable(ENDED))
            fault = None  # told
        if fault:
            self.ended.set_exception(fault)
        else:
            self.ended.set_result(None)

    def _shut(self) -> None:
        """Nothing from other threads comes in from here on."""
        with self._lock:
            self._open = False
        self._ready.set()

    # ---- life

    async def _main(self) -> None:
        try:
            await self._live()
        finally:
            self._shut()  # before the loop is closed

    async def _live(self) -> None:
        self._stop = asyncio.Event()
        self._udp_gone = asyncio.Event()
        self._loop.set_exception_handler(self._uncaught)
        self._ready.set()
        self.swim = Swim(self._config, self._me, random.SystemRandom(), self.now(), self._keyring)
        self.view = self.swim.members()
        async with asyncio.TaskGroup() as group:
            self._streams = Streams(self, group, self._bind, self._config.stream_timeout)
            try:
                await self._listen()
                self.started.set_result(None)
                await self._stop.wait()
            except OSError as error:
                self._fault = error  # as itself, and not as a group of one
            finally:
                await self._close()
        if self._fault:
            raise self._fault

    async def _listen(self) -> None:
        address = (self._bind, self._me.port)
        self._udp, _ = await self._loop.create_datagram_endpoint(lambda: self, local_addr=address)
        self._streams.listen(self._me.port)

    async def _close(self) -> None:
        """All that is open and under way, before the loop ends."""
        self._closing = True
        if self._timer:
            self._timer.cancel()
        await self._streams.close()
        if self._udp:
            self._udp.abort()
            await self._udp_gone.wait()

    def _uncaught(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed. Of the core: there is no going on; of the system (no descriptors left): there is."""
        error = context.get("exception")
        if isinstance(error, OSError) or not isinstance(error, Exception):
            log.warning("gossip: %s: %s", context.get("message"), error)
            return
        self._fault = self._fault or error
        self._stop.set()

    def now(self) -> float:
        return self._loop.time()

    def _called(self, work: Callable[[], T], result: concurrent.futures.Future[T]) -> None:
        try:
            found = work()
        except (ValueError, errors.ShoalError) as error:
            result.set_exception(error)
        else:
            result.set_result(found)
        with self._lock:
            self._asked.discard(result)
        self._pump()

    # ---- the core's effects and timer

    def _pump(self) -> None:
        """After every call of the core: does what it wants, and arms its timer."""
        if self._closing:
            return
        effects = self.swim.outgoing()
        if any(isinstance(effect, MemberEvent) for effect in effects):
            self.view = self.swim.members()
        for effect in effects:
            if isinstance(effect, SendPacket):
                self._send(effect)
            elif isinstance(effect, OpenStream):
                self._streams.ask(effect)
            else:
                self._deliver(effect)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due = self.swim.next_deadline()
        if due is not None:
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self.swim.tick(self.now())
        self._pump()

    def _deliver(self, event: Event) -> None:
        if isinstance(event, JoinAnswered):
            for waiting in self._joins.pop(event.address, []):
                waiting.set_result(event.problem)
        elif isinstance(event, Departed):
            departures, self._departures = self._departures, []
            for departure in departures:
                departure.set_result(None)
        self._pipe.put(event)

    # ---- what the main loop asks for, by `call`

    def join(self, addresses: Iterable[Address]) -> dict[Address, concurrent.futures.Future[str | None]]:
        """What went wrong with each, or None."""
        answers: dict[Address, concurrent.futures.Future[str | None]] = {}
        for address in addresses:
            if address != (self._me.host, self._me.port):
                answers[address] = _future()
                self._joins.setdefault(address, []).append(answers[address])
        self.swim.join(self.now(), answers)
        return answers

    def leave(self) -> concurrent.futures.Future[None]:
        """Done when it has been told."""
        departed: concurrent.futures.Future[None] = _future()
        if self.swim.leave(self.now()):
            self._departures.append(departed)
        else:
            departed.set_result(None)
        return departed

    # ---- UDP

    def connection_lost(self, exc: Exception | None) -> None:
        self._udp_gone.set()
        if exc and not self._closing:
            self._fault = exc
            self._stop.set()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if self._closing or data.startswith(PROBE):
            return
        self.swim.packet(self.now(), data, (addr[0], addr[1]))
        if total := self.swim.malformed.total():
            reason = next(iter(self.swim.malformed))
            self.swim.malformed.clear()
            self._count(reason, total)
        self._pump()

    def error_received(self, exc: Exception) -> None:
        """A peer's port is closed, or there is no way to it: probes find out what that means."""
        log.debug("gossip: %s", exc)

    def _send(self, packet: SendPacket) -> None:
        if self._udp and not self._udp.is_closing() and not self._choked:
            self._udp.sendto(packet.data, packet.address)

    def pause_writing(self) -> None:
        """The socket takes no more: packets are dropped, as a network would, and not kept."""
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False

    # ---- TCP (streams.py)

    def assembler(self) -> Assembler:
        return self.swim.assembler()

    def request(self, message: Whole) -> bytes:
        answer = self.swim.stream(self.now(), message)
        self._pump()
        return answer

    def answered(self, token: int, message: Whole) -> None:
        self.swim.answered(self.now(), token, message)
        self._pump()

    def unanswered(self, token: int, problem: str) -> None:
        self.swim.unanswered(self.now(), token, problem)
        self._pump()

    # ---- what is wrong

    def malformed(self, reason: str) -> None:
        self._count(reason, 1)

    def _count(self, reason: str, count: int) -> None:
        self.malformed_count += count
        self._unlogged += count
        if self.now() - self._logged >= LOG_EVERY:
            log.warning("gossip: %d malformed packets or streams, the last: %s", self._unlogged, reason)
            self._logged = self.now()
            self._unlogged = 0


def _future() -> concurrent.futures.Future[Any]:
    """One that whoever waits cannot cancel: it stays ours to fulfil."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    return future
