"""Gossip's word and the sessions: who counts as not seen, and what follows."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from test_dispatcher_grpc import Bench, Client, bench, until

from common import model
from common.model import NodeState
from manager.dispatcher.sightings import GONE, UNSEEN, believed, dead, gone, shown


@pytest.mark.parametrize(
    ("reports", "found"),
    [
        ({}, set()),
        ({"a": (), "b": ()}, set()),
        ({"a": ("c",), "b": ("c",)}, {"c"}),
        ({"a": ("c",), "b": ()}, set()),  # half of them is not enough
        (
            {"a": ("c",), "b": ("c",), "c": ("a", "b")},
            {"c"},
        ),  # it is c that is cut off, and knows only itself
        ({"a": ("b",), "b": ("a",)}, {"a", "b"}),
        ({"a": ("a", "c", "c")}, {"c"}),
        ({"a": ("d",), "b": ("d",), "c": ("d",), "d": ()}, {"d"}),
    ],
)
def test_more_than_half_of_the_others(reports: Mapping[str, Collection[str]], found: set[str]) -> None:
    said = {reporter: model.Unseen(tuple(nodes)) for reporter, nodes in reports.items()}
    assert dead(said) == gone(said) == found


def test_a_good_bye_makes_nobody_dead() -> None:
    said = {"a": model.Unseen((), ("c",)), "b": model.Unseen(("c",)), "d": model.Unseen((), ("c",))}
    assert gone(said) == {"c"}
    assert dead(said) == set()


def test_only_a_ready_node_says_that_it_is_not_seen() -> None:
    ready = model.Node(id="n", status=model.NodeStatus(state=NodeState.NODE_READY, addr="10.0.0.1"))
    assert shown(ready, False) is ready
    marked = shown(ready, True)
    assert (marked.status.message, marked.status.addr) == (UNSEEN, "10.0.0.1")
    assert shown(marked, True) is marked
    assert shown(marked, False) == ready
    down = model.Node(id="n", status=model.NodeStatus(state=NodeState.NODE_DOWN, message="heartbeat failure"))
    assert shown(down, True) is down
    assert believed(ready)
    assert not believed(marked)
    assert not believed(None)


async def other(made: Bench) -> Client:
    """A second node and its session."""
    described = model.NodeDescription(hostname="worker2", machine="bbbb")
    await made.store.update(lambda tx: tx.put(model.Node(id="n2", description=described)))
    client = Client(made, node="n2")
    await client.hello(machine="bbbb")
    return client


async def test_one_that_is_not_seen_says_so_while_it_has_a_session() -> None:
    async with bench() as made:
        first = Client(made)
        await first.hello()
        second = await other(made)
        await second.say(unseen=model.Unseen(("n1",)))
        await until(lambda: made.node().status.message == UNSEEN)
        # Its agent describes it again, or starts again: that is no news of it.
        await first.say(description=model.NodeDescription(hostname="renamed", machine="aaaa"))
        await until(lambda: made.node().description.hostname == "renamed")
        assert made.node().status.message == UNSEEN
        first.call.cancel()
        await until(lambda: not made.acks.live("n1"))
        await made.silence(lambda: made.node().status.state == NodeState.NODE_DOWN)
        assert (
            made.node().status.message == "heartbeat failure"
        )  # not by gossip, which did not see it before either


async def test_one_that_is_seen_again_says_nothing() -> None:
    async with bench() as made:
        first = Client(made)
        await first.hello()
        second = await other(made)
        for unseen, message in ((("n1",), UNSEEN), ((), "")):
            await second.say(unseen=model.Unseen(unseen))
            await until(lambda message=message: made.node().status.message == message)  # type: ignore[misc]


async def test_without_a_session_and_not_seen_is_down_before_its_beats_are_missed() -> None:
    async with bench(period=60_000_000_000) as made:
        first = Client(made)
        await first.hello()
        second = await other(made)
        await second.say(unseen=model.Unseen())
        first.call.cancel()
        await until(lambda: not made.acks.live("n1"))
        assert made.node().status.state == NodeState.NODE_READY
        await second.say(unseen=model.Unseen(("n1", "never heard of")))
        await until(lambda: made.node().status.state == NodeState.NODE_DOWN)
        assert made.node().status.message == GONE
        again = Client(made)
        await again.hello(instance=b"2")
        assert made.node().status == model.NodeStatus(state=NodeState.NODE_READY, addr="127.0.0.1")


async def test_a_node_that_had_no_session_in_this_term_is_given_its_time() -> None:
    async with bench(period=60_000_000_000) as made:
        ready = model.NodeStatus(state=NodeState.NODE_READY)
        await made.store.update(lambda tx: tx.put(model.Node(id="n3", status=ready)))
        first = Client(made)
        await first.hello()
        await first.say(unseen=model.Unseen(("n3",)))
        second = await other(made)
        await second.say(unseen=model.Unseen(("n1", "n3")))
        await until(lambda: made.node().status.message == UNSEEN)
        node = made.store.view().nodes.get("n3")
        assert node is not None
        assert node.status == ready


async def test_one_that_has_said_good_bye_is_down_as_its_session_ends() -> None:
    async with bench(period=60_000_000_000) as made:
        first = Client(made)
        await first.hello()
        second = await other(made)
        await second.say(unseen=model.Unseen((), ("n1",)))
        await second.say(description=model.NodeDescription(hostname="later", machine="bbbb"))

        def later() -> bool:
            node = made.store.view().nodes.get("n2")
            return node is not None and node.description.hostname == "later"

        await until(later)
        assert made.node().status == model.NodeStatus(state=NodeState.NODE_READY, addr="127.0.0.1")
        first.call.cancel()
        await until(lambda: made.node().status.message == GONE)
