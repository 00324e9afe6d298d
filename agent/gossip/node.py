"""The gossip member of this node: a thread with a loop of its own around the state machine of swim.py.

A loop that nobody else can block: a member that is deaf for some seconds is declared dead. Sockets (UDP and TCP on one port) and the one
timer live in that thread; the main loop calls the coroutines of `GossipNode` and gets events through pipe.py. Nothing polls:
the timer stands at the core's next deadline, and a member without company has none.

Inputs are bounded: the kernel's socket buffer, so many streams at a time, so many seconds each. What is malformed is counted and
logged at most once in ten seconds.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

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
from agent.gossip.frames import Whole
from agent.gossip.keyring import Keyring
from agent.gossip.messages import Address
from agent.gossip.packing import Malformed
from agent.gossip.pipe import EventPipe
from agent.gossip.swim import Swim

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_INBOUND: Final = 64
MAX_OUTBOUND: Final = 32
CHUNK: Final = 1 << 16
LOG_EVERY: Final = 10.0


class GossipNode:
    """start, join, leave, set_keys, members, close: all from the main loop; `on_event` is called there."""

    def __init__(self, on_event: Callable[[Event], None], config: Config | None = None) -> None:
        self._on_event = on_event
        self._config = config or Config()
        self._thread: threading.Thread | None = None
        self._inner: _Inner | None = None
        self._pipe: EventPipe | None = None

    async def start(
        self, bind: str, advertise: str, port: int, name: str, meta: bytes, keys: Iterable[bytes]
    ) -> None:
        """Binds UDP and TCP; OSError if that fails. Without keys gossip isn't sealed."""
        keyring = Keyring(keys) if (keys := tuple(keys)) else None
        self._pipe = EventPipe(asyncio.get_running_loop(), self._on_event)
        self._inner = _Inner(bind, Identity(name, advertise, port, meta), self._config, keyring, self._pipe)
        self._thread = threading.Thread(target=self._inner.run, name="gossip", daemon=True)
        self._thread.start()
        try:
            await asyncio.wrap_future(self._inner.started)
        except OSError:
            await self.close()
            raise

    async def join(self, addresses: Iterable[Address]) -> dict[Address, str | None]:
        """Exchanges states with each, at once; what went wrong by address, None where nothing did."""
        wanted = tuple(addresses)
        return await self._call(lambda inner: inner.join(wanted))

    async def leave(self) -> None:
        """Says good-bye and waits until it has been told, a few seconds at most."""
        await self._call(lambda inner: inner.leave())

    async def set_keys(self, keys: Iterable[bytes]) -> None:
        """The whole ring, the one to seal with first; KeyProblem if it can't be."""
        keyring = Keyring(keys)
        await self._do(lambda inner: setattr(inner.swim, "keyring", keyring))

    async def set_meta(self, meta: bytes) -> None:
        await self._do(lambda inner: inner.swim.set_meta(inner.now(), meta))

    async def set_user_state(self, state: bytes) -> None:
        """What others get with a push/pull from now on."""
        await self._do(lambda inner: setattr(inner.swim, "user_state", state))

    async def broadcast(self, subject: str, data: bytes) -> None:
        """A user message to a few members; who gets it passes it on if it is news."""
        await self._do(lambda inner: inner.swim.broadcast(inner.now(), subject, data))

    def members(self) -> tuple[MemberView, ...]:
        """Everybody known, ourselves too, as of the last event."""
        return self._inner.view if self._inner else ()

    def malformed(self) -> int:
        """How many packets and streams were not what they should be."""
        return self._inner.malformed if self._inner else 0

    async def close(self) -> None:
        """Ends the thread, without a good-bye."""
        inner, thread, self._inner, self._thread = self._inner, self._thread, None, None
        if inner is None or thread is None:
            return
        if self._pipe:
            self._pipe.close()
        inner.stop()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    async def _call(self, work: Callable[[_Inner], Coroutine[Any, Any, T]]) -> T:
        inner = self._running()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(inner), inner.loop))

    async def _do(self, work: Callable[[_Inner], None]) -> None:
        async def done(inner: _Inner) -> None:
            try:
                work(inner)
            finally:
                inner.pump()

        await self._call(done)

    def _running(self) -> _Inner:
        if self._inner is None:
            raise RuntimeError("gossip isn't started")
        return self._inner


class _Inner(asyncio.DatagramProtocol):
    """Everything that lives in the gossip thread."""

    def __init__(
        self, bind: str, me: Identity, config: Config, keyring: Keyring | None, pipe: EventPipe
    ) -> None:
        self.started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.view: tuple[MemberView, ...] = ()
        self.malformed = 0
        self.swim: Swim
        self.loop: asyncio.AbstractEventLoop
        self._bind = bind
        self._me = me
        self._config = config
        self._keyring = keyring
        self._pipe = pipe
        self._stop: asyncio.Event
        self._tasks: asyncio.TaskGroup
        self._udp: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._joins: dict[Address, list[asyncio.Future[str | None]]] = {}
        self._departed: asyncio.Future[None] | None = None
        self._inbound = self._outbound = 0
        self._choked = False
        self._logged = float("-inf")
        self._unlogged = 0

    # ---- life

    def run(self) -> None:
        """The thread's whole life."""
        try:
            asyncio.run(self._main())
        finally:
            if not self.started.done():
                self.started.cancel()

    def stop(self) -> None:
        """From any thread, after `started`."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stop.set)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.swim = Swim(self._config, self._me, random.SystemRandom(), self.now(), self._keyring)
        self.view = self.swim.members()
        server: asyncio.Server | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                address = (self._bind, self._me.port)
                self._udp, _ = await self.loop.create_datagram_endpoint(lambda: self, local_addr=address)
                server = await asyncio.start_server(self._accepted, *address)
                self.started.set_result(None)
                await self._stop.wait()
                raise _Stopped
        except* _Stopped:
            pass
        except* OSError as group:
            if self.started.done():
                raise
            self.started.set_exception(group.exceptions[0])
        finally:
            self._close(server)

    def _close(self, server: asyncio.Server | None) -> None:
        if self._timer:
            self._timer.cancel()
        if server:
            server.close()
        if self._udp:
            self._udp.close()

    def now(self) -> float:
        return self.loop.time()

    # ---- the core's effects and timer

    def pump(self) -> None:
        """After every call of the core: does what it wants, and arms its timer."""
        effects = self.swim.outgoing()
        if any(isinstance(effect, MemberEvent) for effect in effects):
            self.view = self.swim.members()
        for effect in effects:
            if isinstance(effect, SendPacket):
                self._send(effect)
            elif isinstance(effect, OpenStream):
                self._open(effect)
            else:
                self._deliver(effect)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due = self.swim.next_deadline()
        if due is not None:
            self._timer = self.loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self.swim.tick(self.now())
        self.pump()

    def _deliver(self, event: Event) -> None:
        if isinstance(event, JoinAnswered):
            for waiting in self._joins.pop(event.address, []):
                if not waiting.done():
                    waiting.set_result(event.problem)
        elif isinstance(event, Departed) and self._departed and not self._departed.done():
            self._departed.set_result(None)
        self._pipe.put(event)

    # ---- what the main loop asks for

    async def join(self, addresses: tuple[Address, ...]) -> dict[Address, str | None]:
        futures: dict[Address, asyncio.Future[str | None]] = {}
        for address in addresses:
            if address != (self._me.host, self._me.port):
                futures[address] = self.loop.create_future()
                self._joins.setdefault(address, []).append(futures[address])
        self.swim.join(self.now(), futures)
        self.pump()
        return {address: await future for address, future in futures.items()}

    async def leave(self) -> None:
        if self._departed is None:
            self._departed = self.loop.create_future()
            self.swim.leave(self.now())
            self.pump()
        await asyncio.shield(self._departed)

    # ---- UDP

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.swim.packet(self.now(), data, (addr[0], addr[1]))
        self._count()
        self.pump()

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

    # ---- TCP

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._inbound >= MAX_INBOUND:
            writer.close()
            return
        self._inbound += 1
        self._tasks.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._config.stream_timeout):
                request = await self._read(reader)
                answer = self.swim.stream(self.now(), request)
                self.pump()
                if answer:
                    writer.write(answer)
                    await writer.drain()
        except Malformed as error:
            self._bad(str(error))
        except (OSError, TimeoutError, EOFError) as error:
            log.debug("gossip: a stream from outside ended: %s", error)
        finally:
            self._inbound -= 1
            writer.close()

    def _open(self, wanted: OpenStream) -> None:
        if self._outbound >= MAX_OUTBOUND:
            self.loop.call_soon(self._unanswered, wanted.token, "too many streams at once")
            return
        self._outbound += 1
        self._tasks.create_task(self._ask(wanted))

    async def _ask(self, wanted: OpenStream) -> None:
        try:
            async with asyncio.timeout(wanted.timeout):
                answer = await self._exchange(wanted)
        except Malformed as error:
            self._bad(str(error))
            self._unanswered(wanted.token, str(error))
        except (OSError, TimeoutError, EOFError) as error:
            self._unanswered(wanted.token, str(error) or "no answer in time")
        else:
            self.swim.answered(self.now(), wanted.token, answer)
            self.pump()
        finally:
            self._outbound -= 1

    async def _exchange(self, wanted: OpenStream) -> Whole:
        """From our own address, where it is a certain one: others may share this host."""
        anywhere = self._bind in ("0.0.0.0", "::", "")
        local = None if anywhere else (self._bind, 0)
        reader, writer = await asyncio.open_connection(*wanted.address, local_addr=local)
        try:
            writer.write(wanted.data)
            await writer.drain()
            return await self._read(reader)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Whole:
        assembler = self.swim.assembler()
        while True:
            data = await reader.read(CHUNK)
            if not data:
                raise EOFError("closed before the message was whole")
            whole = assembler.feed(data)
            if whole is not None:
                return whole

    def _unanswered(self, token: int, problem: str) -> None:
        self.swim.unanswered(self.now(), token, problem)
        self.pump()

    # ---- what is wrong

    def _count(self) -> None:
        total = self.swim.malformed.total()
        if total:
            reason = next(iter(self.swim.malformed))
            self.swim.malformed.clear()
            self._bad(reason, total)

    def _bad(self, reason: str, count: int = 1) -> None:
        self.malformed += count
        self._unlogged += count
        if self.now() - self._logged >= LOG_EVERY:
            log.warning("gossip: %d malformed packets or streams, the last: %s", self._unlogged, reason)
            self._logged = self.now()
            self._unlogged = 0


class _Stopped(Exception):
    """Ends the task group of the thread, with all that is still under way."""
