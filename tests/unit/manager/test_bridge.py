"""Calls from one event loop into another: results, errors, cancellation, back-pressure, and nothing left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from two_loops import Other, other_loop

from common import errors, model, rpc
from common.model.stubs import CAStub, DispatcherStub
from common.pb import ca_pb2, dispatcher_pb2
from manager.bridge import STOPPING, WINDOW, Bridge

CALLER = rpc.Caller(frozenset({model.Role.ROLE_WORKER}), "node")


@dataclass
class Service:
    """Has a unary method and a stream; notes what happens to them."""

    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    seen: list[Any] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    async def double(self, request: int, caller: rpc.Caller) -> int:
        self.threads.add(threading.current_thread().name)
        assert caller is CALLER
        await asyncio.sleep(0)
        return 2 * request

    async def fail(self, request: Any, caller: rpc.Caller) -> None:
        raise errors.NotFound(f"{request} is not there")

    async def hang(self, request: Any, caller: rpc.Caller) -> None:
        await self._hang()

    async def _hang(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def echo(self, requests: AsyncIterator[Any], caller: rpc.Caller) -> AsyncIterator[Any]:
        self.threads.add(threading.current_thread().name)
        self.began.set()
        try:
            async for request in requests:
                self.seen.append(request)
                if request == "fail":
                    raise errors.NotFound("no more")
                yield request
        finally:
            self.ended.set()

    async def flood(self, requests: AsyncIterator[Any], caller: rpc.Caller) -> AsyncIterator[int]:
        try:
            for number in range(10_000):
                self.seen.append(number)
                yield number
        finally:
            self.ended.set()

    async def mute(self, requests: AsyncIterator[Any], caller: rpc.Caller) -> AsyncIterator[int]:
        """Neither reads nor answers."""
        await self._hang()
        yield 0


def until(event: threading.Event) -> None:
    assert event.wait(30)


async def condition(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - a condition with a deadline, in another thread
            await asyncio.sleep(0.001)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def bridged(other: Other) -> tuple[Any, Service]:
    service = Service()
    return Bridge(service, other.loop), service


async def test_a_call_runs_in_the_other_loop() -> None:
    with other_loop() as other:
        bridge, service = bridged(other)
        assert await asyncio.gather(*(bridge.double(n, CALLER) for n in range(300))) == [
            2 * n for n in range(300)
        ]
        assert service.threads == {"other loop"}
        with pytest.raises(errors.NotFound, match="thing is not there"):
            await bridge.fail("thing", CALLER)


async def test_in_one_loop_nothing_is_in_between() -> None:
    service = Service()
    bridge: Any = Bridge(service, asyncio.get_running_loop())
    assert await bridge.double(4, CALLER) == 8
    assert [n async for n in bridge.echo(numbers(5), CALLER)] == list(range(5))
    assert service.threads == {"MainThread"}
    await bridge.close()


async def test_a_cancelled_call_cancels_the_work() -> None:
    with other_loop() as other:
        bridge, service = bridged(other)
        call = asyncio.create_task(bridge.hang(None, CALLER))
        await asyncio.to_thread(until, service.began)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(until, service.ended)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await bridge.hang(None, CALLER)
        await condition(lambda: not other.pending())


async def test_a_stream() -> None:
    with other_loop() as other:
        bridge, service = bridged(other)
        assert [n async for n in bridge.echo(numbers(1000), CALLER)] == list(range(1000))
        assert service.ended.is_set()
        assert service.threads == {"other loop"}


async def test_a_streams_errors_go_both_ways() -> None:
    async def requests() -> AsyncIterator[str]:
        yield "one"
        yield "fail"

    async def broken() -> AsyncIterator[str]:
        yield "one"
        raise errors.InvalidArgument("unreadable")

    with other_loop() as other:
        bridge, _ = bridged(other)
        for given, error in ((requests(), errors.NotFound), (broken(), errors.InvalidArgument)):
            replies = bridge.echo(given, CALLER)
            assert await anext(replies) == "one"
            with pytest.raises(error):
                await anext(replies)


async def test_nobody_runs_ahead() -> None:
    with other_loop() as other:
        bridge, service = bridged(other)
        async with aclosing(bridge.flood(numbers(0), CALLER)) as replies:
            assert await anext(replies) == 0
            await condition(lambda: len(service.seen) == WINDOW + 1)
            await other.run(lambda: asyncio.sleep(0.01))
            assert len(service.seen) == WINDOW + 1
            assert [await anext(replies) for _ in range(500)] == list(range(1, 501))
            assert len(service.seen) <= 501 + WINDOW + 1
        await asyncio.to_thread(until, service.ended)

        sent: list[int] = []

        async def requests() -> AsyncIterator[int]:
            for number in range(10_000):
                sent.append(number)
                yield number

        stream = asyncio.create_task(anext(bridge.mute(requests(), CALLER)))
        await condition(lambda: len(sent) == WINDOW + 1)
        await other.run(lambda: asyncio.sleep(0.01))
        assert len(sent) == WINDOW + 1
        stream.cancel()
        await asyncio.wait([stream])
        await condition(lambda: not other.pending())


@pytest.mark.parametrize("how", ["aclose", "cancel", "break"])
async def test_a_stream_that_is_left_ends_at_once(how: str) -> None:
    with other_loop() as other:
        bridge, service = bridged(other)
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def requests() -> AsyncIterator[int]:
            yield 1
            await never

        async def consume() -> None:
            async with aclosing(bridge.echo(requests(), CALLER)) as replies:
                async for _ in replies:
                    if how == "break":
                        break

        if how == "aclose":
            stream = bridge.echo(requests(), CALLER)
            assert await anext(stream) == 1
            await stream.aclose()
        else:
            task = asyncio.create_task(consume())
            await asyncio.to_thread(until, service.began)
            if how == "cancel":
                task.cancel()
            await asyncio.wait([task])
        await asyncio.to_thread(until, service.ended)
        await condition(lambda: not other.pending())
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_close_ends_what_is_under_way() -> None:
    with other_loop() as other:
        bridge, _ = bridged(other)
        calls = [
            asyncio.create_task(bridge.hang(None, CALLER)),
            asyncio.create_task(anext(bridge.mute(numbers(3), CALLER))),
        ]
        await condition(lambda: len(other.pending()) == 2)
        await other.run(bridge.close)
        for call in calls:
            with pytest.raises(errors.Unavailable, match=STOPPING):
                await call
        with pytest.raises(errors.Unavailable, match=STOPPING):
            await bridge.double(1, CALLER)
        with pytest.raises(errors.Unavailable, match=STOPPING):
            await anext(bridge.echo(numbers(1), CALLER))
    with pytest.raises(errors.Unavailable, match=STOPPING):
        await bridge.double(1, CALLER)
    with pytest.raises(errors.Unavailable, match=STOPPING):
        await anext(bridge.echo(numbers(1), CALLER))


def test_a_caller_whose_loop_is_gone_is_no_trouble() -> None:
    with other_loop() as other:
        bridge, service = bridged(other)
        release = asyncio.Event()

        async def slow(request: Any, caller: rpc.Caller) -> None:
            service.began.set()
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        service.hang = slow  # type: ignore[method-assign]

        async def caller() -> None:
            task = asyncio.create_task(bridge.hang(None, CALLER))
            await asyncio.to_thread(until, service.began)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(caller())
        other.loop.call_soon_threadsafe(release.set)
        asyncio.run(condition(lambda: not other.pending()))


# ---- with gRPC on both sides


class Real:
    """CA and Dispatcher, as far as these tests need them."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.renewals = 0
        self.cancelled = 0
        self.sessions = 0

    async def issue(self, request: model.IssueRequest, caller: rpc.Caller) -> model.IssueReply:
        self.threads.add(threading.current_thread().name)
        return model.IssueReply(node_id=request.hostname)

    async def renew(self, request: model.RenewRequest, caller: rpc.Caller) -> model.IssueReply:
        self.renewals += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1
        raise AssertionError

    async def session(
        self, requests: AsyncIterator[model.AgentMessage], caller: rpc.Caller
    ) -> AsyncIterator[model.ManagerMessage]:
        self.sessions += 1
        try:
            async for request in requests:
                assert request.acknowledge is not None
                yield model.ManagerMessage(taken=model.StatusesTaken(request.acknowledge.index))
        finally:
            self.sessions -= 1


async def test_grpc_in_two_loops() -> None:
    """The server in the thread's loop, clients and services in this one; every way to end, without a word in a log."""
    real, said, servers = Real(), list[dict[str, Any]](), list[grpc.aio.Server]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    bridge: Any = Bridge(real, asyncio.get_running_loop())
    everybody = frozenset(model.Role)

    with other_loop() as other:

        async def start() -> int:
            server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
            services = (
                ca_pb2.DESCRIPTOR.services_by_name["CA"],
                dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"],
            )
            server.add_generic_rpc_handlers(
                [rpc.handler(s, bridge, lambda _context: rpc.Caller(everybody)) for s in services]
            )
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            servers.append(server)
            return port

        port = await other.run(start)
        async with rpc.client(f"127.0.0.1:{port}") as channel:
            ca, dispatcher = CAStub(channel), DispatcherStub(channel)
            for _ in range(20):
                replies = await asyncio.gather(
                    *(ca.Issue(model.IssueRequest(hostname=str(n))) for n in range(50))
                )
                assert [r.node_id for r in replies] == [str(n) for n in range(50)]
            assert real.threads == {"MainThread"}

            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await ca.Renew(model.RenewRequest(), timeout=1)
            assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await condition(lambda: real.cancelled == real.renewals)  # 0, if it never got there in time
            renewals = real.renewals

            call = dispatcher.Session()
            for number in range(1, 200):
                await call.write(model.AgentMessage(acknowledge=model.Acknowledge(number)))
                reply = await call.read()
                assert isinstance(reply, model.ManagerMessage) and reply.taken == model.StatusesTaken(number)
            call.cancel()
            await condition(lambda: real.sessions == 0)

            call = dispatcher.Session()
            await call.write(model.AgentMessage(acknowledge=model.Acknowledge(1)))
            await call.read()
            pending = asyncio.create_task(_code(ca.Renew(model.RenewRequest())))
            await condition(lambda: real.sessions == 1 and real.renewals == renewals + 1)
            await other.run(lambda: servers.pop().stop(0.1))
            gone = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
            assert await call.code() in gone and await pending in gone
            await condition(lambda: real.sessions == 0 and real.cancelled == real.renewals)
        await condition(lambda: not other.pending())
    await bridge.close()
    assert not said


async def test_a_blocked_loop_keeps_the_other_ones_calls_waiting_for_nothing() -> None:
    """gRPC has one poller for all loops: what is for Raft's loop must not lie in the other one's hands."""
    answered = threading.Event()

    async def serve() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        everybody = rpc.Caller(frozenset(model.Role))
        ca = ca_pb2.DESCRIPTOR.services_by_name["CA"]
        server.add_generic_rpc_handlers([rpc.handler(ca, Real(), lambda _context: everybody)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    async def ask(port: int) -> None:
        async with rpc.client(f"127.0.0.1:{port}") as channel:
            for _ in range(30):
                await CAStub(channel).Issue(model.IssueRequest())
        answered.set()

    here, _ = await serve()
    with other_loop() as server_loop, other_loop() as client_loop:
        server, port = await server_loop.run(serve)
        asking = asyncio.ensure_future(client_loop.run(lambda: ask(port)))
        await asyncio.sleep(0)
        stood_still = answered.wait(60)
        await asking
        await server_loop.run(lambda: server.stop(None))
    await here.stop(None)
    assert stood_still


async def _code(call: Any) -> Any:
    try:
        await call
    except grpc.aio.AioRpcError as exc:
        return exc.code()
    return None
