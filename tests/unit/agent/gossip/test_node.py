"""The shell: real sockets on loopback, threads of its own, events in the main loop, keys, idleness, bounds."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from agent.gossip.api import Change, Config, Event, MemberEvent, Overflow, UserMessage
from agent.gossip.keyring import KeyProblem
from agent.gossip.messages import State
from agent.gossip.node import GossipNode
from agent.gossip.pipe import EventPipe
from tests.addresses import own_loopback

FAST = Config(
    probe_interval=0.1, probe_timeout=0.05, gossip_interval=0.02, first_push_pull=0.2, reconnect_interval=0.1
)
KEY, NEW = b"k" * 16, b"n" * 32


HERE = own_loopback(1)
_ports = itertools.count(7000)


def free_port() -> int:
    """Free in both protocols, and for good: nobody else has this address."""
    return next(_ports)


class Member:
    def __init__(self, name: str, config: Config = FAST) -> None:
        self.name = name
        self.events: list[Event] = []
        self.port = free_port()
        self.address = (HERE, self.port)
        self.node = GossipNode(self.events.append, config)

    async def start(self, *keys: bytes) -> None:
        await self.node.start(HERE, HERE, self.port, self.name, b"about", keys)

    def state(self, name: str) -> State | None:
        return next((m.state for m in self.node.members() if m.name == name), None)

    def saw(self, change: Change, name: str) -> bool:
        return any(
            isinstance(e, MemberEvent) and e.change is change and e.member.name == name for e in self.events
        )


@asynccontextmanager
async def members(count: int, *keys: bytes) -> AsyncIterator[list[Member]]:
    made = [Member(f"n{i}") for i in range(count)]
    async with AsyncExitStack() as stack:
        for member in made:
            await member.start(*keys)
            stack.push_async_callback(member.node.close)
        yield made


async def until(condition: Callable[[], bool], deadline: float = 60) -> None:
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 - a deadline around it, and nothing to watch
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["plain", "sealed"])
async def test_join_message_death_and_leave(keys: tuple[bytes, ...]) -> None:
    async with members(4, *keys) as made:
        for member in made[1:]:
            assert await member.node.join([made[0].address]) == {made[0].address: None}
        await until(lambda: all(len(member.node.members()) == 4 for member in made))
        assert {m.meta for m in made[2].node.members()} == {b"about"}
        await made[1].node.broadcast("subject", b"hello")
        await until(lambda: any(UserMessage(b"hello") in member.events for member in made))
        await until(
            lambda: made[0].state("n3") is State.ALIVE
        )  # not just suspected, by who waited for his turn
        made[0].events.clear()
        await made[3].node.leave()
        await until(lambda: all(member.state("n3") is State.LEFT for member in made[:3]))
        await made[2].node.close()
        await until(lambda: all(member.state("n2") is State.DEAD for member in made[:2]))
        assert made[0].saw(Change.FAILED, "n2") and not made[0].saw(Change.FAILED, "n3")
        await until(lambda: made[0].state("n1") is State.ALIVE)


async def test_a_join_that_fails_says_why_and_another_key_is_no_way_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with members(1, KEY) as made:
        nobody = (HERE, free_port())
        assert (await made[0].node.join([nobody]))[nobody]
        stranger = Member("stranger")
        await stranger.start(NEW)
        try:
            assert (await stranger.node.join([made[0].address]))[made[0].address]
        finally:
            await stranger.node.close()
        await until(lambda: made[0].node.malformed() == 1)
        assert len(made[0].node.members()) == 1
    assert "malformed" in caplog.text


async def test_keys_are_changed_while_it_runs() -> None:
    async with members(3, KEY) as made:
        for member in made[1:]:
            await member.node.join([made[0].address])
        for ring in ((KEY, NEW), (NEW, KEY)):
            for member in made:
                await member.node.set_keys(ring)
        await made[0].node.broadcast("subject", b"sealed anew")
        await until(lambda: any(UserMessage(b"sealed anew") in member.events for member in made[1:]))
        assert not any(member.node.malformed() for member in made)
        for member in made:  # what is still on its way under the old one is lost
            await member.node.set_keys((NEW,))
        await made[2].node.broadcast("subject", b"without the old one")
        await until(lambda: any(UserMessage(b"without the old one") in member.events for member in made[:2]))
        with pytest.raises(KeyProblem):
            await made[0].node.set_keys([b"short"])


async def test_a_port_in_use_is_an_error() -> None:
    async with members(1) as made:
        second = GossipNode(lambda event: None)
        with pytest.raises(OSError, match="in use"):
            await second.start(HERE, HERE, made[0].port, "second", b"", ())


async def test_bad_packets_are_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.gossip.member.LOG_EVERY", 600.0)
    caplog.set_level(logging.WARNING)
    rng = random.Random(1)
    async with members(1) as made:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(100):
                udp.sendto(b"\xff" + rng.randbytes(20), made[0].address)
        await until(lambda: made[0].node.malformed() == 100)
        for data in (b"\xff" * 10, b"\x0a\xff\xff\xff\xff"):
            with socket.create_connection(made[0].address, 30) as tcp:
                tcp.sendall(data)
                reader = asyncio.get_running_loop().run_in_executor
                assert await reader(None, tcp.recv, 10) == b""
        await until(lambda: made[0].node.malformed() == 102)
    assert len(caplog.records) == 1


async def test_alone_it_is_idle() -> None:
    async with members(1) as made:
        thread = made[0].node._member
        assert thread is not None
        assert thread._timer is None


async def test_events_are_bounded_and_an_overflow_stands_for_the_rest() -> None:
    taken: list[Event] = []
    pipe = EventPipe(asyncio.get_running_loop(), taken.append, bound=3)
    for number in range(10):
        pipe.put(UserMessage(bytes([number])))
    await until(lambda: len(taken) == 4)
    assert taken[:3] == [UserMessage(bytes([number])) for number in range(3)]
    assert isinstance(taken[3], Overflow)
    pipe.put(UserMessage(b"on"))
    await until(lambda: taken[-1] == UserMessage(b"on"))
    pipe.put(UserMessage(b"lost"))
    pipe.close()
    await asyncio.sleep(0)
    assert taken[-1] == UserMessage(b"on")
