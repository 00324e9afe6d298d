"""The gossip thread's life: starts that fail or are given up, ends with everything under way, faults of the core.

What is left open at the end of a loop says so as it is collected; warnings are errors, so each test collects before it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Iterator

import pytest

from agent.gossip.api import Config, Event
from agent.gossip.messages import Address
from agent.gossip.node import GossipNode
from agent.gossip.streams import MAX_INBOUND, MAX_OUTBOUND
from agent.gossip.swim import Swim
from common import errors
from tests.addresses import own_loopback

HOST = own_loopback(1)  # whose ports nobody else has


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name == "gossip"]


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port whose TCP is taken and whose UDP is free."""
    with socket.socket() as tcp:
        tcp.bind((HOST, 0))
        tcp.listen()
        yield tcp


@pytest.fixture
def silent() -> Iterator[Address]:
    """It accepts, and says nothing."""
    with socket.socket() as tcp:
        tcp.bind((HOST, 0))
        tcp.listen(200)
        yield HOST, int(tcp.getsockname()[1])


def free() -> Address:
    with socket.socket() as tcp:
        tcp.bind((HOST, 0))
        return HOST, int(tcp.getsockname()[1])


def ignore(event: Event) -> None:
    pass


async def start(node: GossipNode, port: int) -> None:
    await node.start(HOST, HOST, port, "me", b"", ())


async def test_a_start_that_fails_halfway_leaves_nothing_open(taken: socket.socket) -> None:
    port = int(taken.getsockname()[1])
    node = GossipNode(ignore)
    with pytest.raises(OSError, match="in use"):
        await start(node, port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, port))
    await node.close()
    taken.close()
    await start(node, port)  # the same one, once there is room
    await node.close()


async def test_a_start_with_too_much_to_say_fails() -> None:
    node = GossipNode(ignore)
    with pytest.raises(ValueError, match="meta data"):
        await node.start(HOST, HOST, free()[1], "me", b"x" * 1000, ())


@pytest.mark.parametrize("steps", range(4))
async def test_a_start_may_be_given_up_at_any_time(steps: int) -> None:
    address = free()
    node = GossipNode(ignore)
    starting = asyncio.create_task(start(node, address[1]))
    for _ in range(steps):
        await asyncio.sleep(0)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    await node.close()
    with socket.socket() as tcp:
        tcp.bind(address)


async def test_closed_while_it_starts() -> None:
    node = GossipNode(ignore)
    starting = asyncio.create_task(start(node, free()[1]))
    await asyncio.sleep(0)
    await node.close()
    with contextlib.suppress(errors.Unavailable):  # it may have been quicker
        await starting


async def test_closed_with_exchanges_under_way(silent: Address) -> None:
    node = GossipNode(ignore)
    await start(node, free()[1])
    ended = asyncio.create_task(node.ended())
    joins = [asyncio.create_task(node.join([silent])) for _ in range(MAX_OUTBOUND + 5)]
    await asyncio.wait(joins, return_when=asyncio.FIRST_COMPLETED)  # there are too many of them
    leaving = asyncio.create_task(node.leave())
    await asyncio.sleep(0)
    await node.close()
    for join in joins:
        with contextlib.suppress(errors.Unavailable):
            assert await join == {silent: "too many streams at once"}
    with contextlib.suppress(errors.Unavailable):
        await leaving
    await ended
    with pytest.raises(errors.Unavailable):
        await node.join([silent])


async def test_closed_among_callers() -> None:
    """Half a message, nothing, too many, and new ones all the time."""
    node = GossipNode(ignore)
    address = free()
    await start(node, address[1])
    stop = threading.Event()

    def call() -> int:
        made = 0
        while not stop.is_set() and made < 10_000:
            with contextlib.suppress(OSError), socket.create_connection(address, 1) as tcp:
                tcp.sendall(b"\x06\x83")
                made += 1
        return made

    with contextlib.ExitStack() as stack:
        for _ in range(MAX_INBOUND // 2):
            stack.enter_context(socket.create_connection(address, 30)).sendall(b"\x06")
        callers = [asyncio.create_task(asyncio.to_thread(call)) for _ in range(2)]
        for _ in range(20):
            await node.set_meta(b"a")  # turns of its loop
        await node.close()
        stop.set()
        await asyncio.gather(*callers)


async def test_more_callers_than_it_serves_are_turned_away_and_the_others_cut_off_in_time() -> None:
    node = GossipNode(ignore, Config(stream_timeout=0.3))
    address = free()
    await start(node, address[1])
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_INBOUND):
            stack.enter_context(socket.create_connection(address, 30))
        late = stack.enter_context(socket.create_connection(address, 30))
        assert await asyncio.to_thread(late.recv, 1) == b""
    with socket.create_connection(address, 30) as again:
        assert await asyncio.to_thread(again.recv, 1) == b""
    await node.close()


async def test_a_fault_of_the_core_ends_it_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Swim, now: float, data: bytes, source: Address) -> None:
        raise LookupError("a fault")

    monkeypatch.setattr(Swim, "packet", broken)
    node = GossipNode(ignore)
    address = free()
    await start(node, address[1])
    ended = asyncio.create_task(node.ended())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"x", address)
    with pytest.raises(LookupError, match="a fault"):
        await ended
    with pytest.raises(errors.Unavailable, match="ended"):
        await node.set_meta(b"")
    await node.close()


async def test_what_is_asked_for_may_be_refused() -> None:
    node = GossipNode(ignore)
    await start(node, free()[1])
    with pytest.raises(ValueError, match="user message"):
        await node.broadcast("subject", b"x" * 2000)
    await node.leave()
    await node.leave()
    await node.close()


async def test_before_the_start_there_is_nothing() -> None:
    node = GossipNode(ignore)
    assert node.members() == ()
    assert node.malformed() == 0
    with pytest.raises(errors.Unavailable, match="isn't started"):
        await node.leave()
    await node.close()
