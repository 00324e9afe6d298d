"""The member that is wanted is the member that runs, and it is told what changes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from fake_members import Factory

from agent.gossip.messages import State
from agent.gossip.plan import PORT, Wanted, meta, ring, seeds
from agent.gossip.service import Gossip, source_towards
from common import errors, model

OLD, NOW, NEXT = b"o" * 16, b"n" * 16, b"x" * 16
FIRST = Wanted("node1", "10.0.0.1", b"about", (NOW, NEXT, OLD), (("10.0.0.2", PORT),))


async def until(condition: Callable[[], bool], deadline: float = 60) -> None:
    async with asyncio.timeout(deadline):
        while not condition():  # noqa: ASYNC110 - a deadline around it, and nothing to watch
            await asyncio.sleep(0.005)


@asynccontextmanager
async def gossip(factory: Factory) -> AsyncIterator[Gossip]:
    made = Gossip(factory)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert not factory.running


async def test_a_member_runs_while_one_is_wanted() -> None:
    factory = Factory()
    started = []
    async with gossip(factory) as made:
        made.on_start = lambda: started.append(len(factory.made))
        made.want(FIRST)
        await until(lambda: factory.running and len(factory.member.calls) == 2)
        assert factory.member.calls == [
            ("start", "10.0.0.1", "10.0.0.1", 7946, "node1", (NOW, NEXT, OLD)),
            ("join", ("10.0.0.2", 7946)),
        ]
        made.want(None)
        await until(lambda: not factory.running)
        assert made.members() == ()
    assert started == [1]


async def test_seeds_that_are_not_alive_are_asked_again() -> None:
    """A lone manager that came back with nothing knows nobody: those who find it by their session have to come."""
    factory = Factory()
    first = replace(FIRST, seeds=(("10.0.0.9", PORT),))
    async with gossip(factory) as made:
        made.want(first)
        await until(lambda: factory.running and len(factory.member.calls) == 2)
        ((_, *joined),) = [call for call in factory.member.calls if call[0] == "join"]
        factory.member.seen = {"node2": State.LEFT}  # at the seed's address
        made.reunite()
        await until(lambda: len(factory.member.calls) == 3)
        assert factory.member.calls[-1] == ("join", *joined)
        factory.member.seen = {"node2": State.ALIVE}
        made.reunite()
        made.want(replace(first, meta=b"other"))
        await until(lambda: len(factory.member.calls) == 4)
        assert factory.member.calls[-1] == ("meta", b"other")


async def test_news_are_passed_on_and_only_news() -> None:
    factory = Factory()
    async with gossip(factory) as made:
        made.want(FIRST)
        await until(lambda: factory.running and len(factory.member.calls) == 2)
        made.want(replace(FIRST, keys=(NEXT, NOW), seeds=(("10.0.0.3", PORT), *FIRST.seeds)))
        await until(lambda: len(factory.member.calls) == 4)
        assert sorted(factory.member.calls[2:]) == [("join", ("10.0.0.3", 7946)), ("keys", NEXT, NOW)]
        made.want(replace(FIRST, keys=(NEXT, NOW), meta=b"other"))
        await until(lambda: len(factory.member.calls) == 5)
        assert factory.member.calls[4] == ("meta", b"other")
        assert len(factory.made) == 1


@pytest.mark.parametrize("other", [replace(FIRST, address="10.0.0.9"), replace(FIRST, name="node2")])
async def test_another_name_or_address_needs_another_member(other: Wanted) -> None:
    factory = Factory()
    async with gossip(factory) as made:
        made.want(FIRST)
        await until(lambda: factory.running)
        made.want(other)
        await until(lambda: len(factory.made) == 2 and factory.running)
        assert ("leave",) not in factory.made[0].calls
        assert factory.member.calls[0][2:5] == (other.address, 7946, other.name)


async def test_a_good_bye_is_said_and_then_nobody_is_wanted() -> None:
    factory = Factory()
    async with gossip(factory) as made:
        await made.leave()
        made.want(FIRST)
        await until(lambda: factory.running)
        factory.member.failures = [errors.Unavailable("gossip has ended")]
        await made.leave()
        await until(lambda: not factory.running)
        assert ("leave",) in factory.member.calls


async def test_an_address_of_another_machine_is_listened_for_everywhere() -> None:
    factory = Factory()
    factory.failures = [OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")]
    async with gossip(factory) as made:
        made.want(FIRST)
        await until(lambda: factory.running)
        assert [call[1:3] for call in factory.member.calls if call[0] == "start"] == [
            ("10.0.0.1", "10.0.0.1"),
            ("0.0.0.0", "10.0.0.1"),
        ]


async def test_a_port_in_use_is_told_with_its_address() -> None:
    factory = Factory()
    factory.failures = [OSError(errno.EADDRINUSE, "Address already in use")]
    made = Gossip(factory)
    made.want(FIRST)
    with pytest.raises(
        errors.Unavailable, match=r"cannot listen on 10\.0\.0\.1:7946: Address already in use"
    ):
        await made.run()
    assert factory.member.calls[-1] == ("close",)


async def test_a_fault_of_the_member_ends_the_run() -> None:
    factory = Factory()
    made = Gossip(factory)
    made.want(FIRST)
    running = asyncio.create_task(made.run())
    await until(lambda: factory.running)
    factory.member.fail(LookupError("a fault"))
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await running
    assert not factory.running


def test_the_second_newest_key_seals() -> None:
    def key(text: bytes, time: int, use: str = "networking:gossip") -> model.EncryptionKey:
        return model.EncryptionKey(use, text, time)

    assert ring([]) == ()
    assert ring([key(NOW, 1), key(OLD, 1, "networking:ipsec")]) == (NOW,)
    assert ring([key(NOW, 1), key(NEXT, 2)]) == (NOW, NEXT)
    assert ring([key(NEXT, 3), key(OLD, 1), key(NOW, 2)]) == (NOW, NEXT, OLD)


def test_seeds_are_where_managers_are() -> None:
    assert seeds(["10.0.0.1:2377", "[fd00::1]:2377", "10.0.0.1:2378", ""]) == (
        ("10.0.0.1", PORT),
        ("fd00::1", PORT),
    )


def test_what_is_told_of_a_node_fits() -> None:
    assert len(meta("h" * 1000, True, "255.255.255.255")) <= 512


def test_the_own_address_is_that_on_the_way_to_a_manager() -> None:
    assert source_towards(["127.0.0.1"]) == "127.0.0.1"
    assert source_towards([]) == ""
