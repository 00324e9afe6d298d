"""From what gossip says to what this node offers and tells."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "worker"))
sys.path.insert(0, str(Path(__file__).parent / "gossip"))

from fake_members import Factory, view
from fakes import until

from agent import verdicts
from agent.database import Contact
from agent.gossip.api import Change, MemberEvent, Overflow, UserMessage, UserState
from agent.gossip.messages import State
from agent.gossip.service import Gossip
from agent.identity import Identity
from agent.liveness import Liveness
from agent.session import Link
from agent.state import NodeState
from agent.verdicts import ended_message, ended_state
from common import model
from common.model import EndpointState, TaskState

KEYS = (model.EncryptionKey("networking:gossip", b"k" * 16, 1),)
PAPERS = Identity("me", "c", "", "", "", "", advertise_addr="10.0.0.1")


class Applier:
    def __init__(self) -> None:
        self.state = NodeState(
            "me",
            endpoints={
                (task, "net"): model.EndpointRecord(
                    task, "net", f"10.1.0.{n}", node, "web", task, (), EndpointState.ENDPOINT_SERVING
                )
                for n, (task, node) in enumerate([("t1", "me"), ("t2", "n2"), ("t3", "n3")])
            },
            nodes={"n2": model.NodeRecord("n2", "worker2")},
        )
        self.retries = 0

    def retry(self) -> None:
        self.retries += 1


class Node:
    def __init__(self) -> None:
        self.identity: Identity | None = PAPERS
        self.link = Link(asked=True)
        self.contact = Contact(network_keys=KEYS)
        self.reported = model.Unseen()

    def addresses(self) -> list[str]:
        return ["127.0.0.1:2377"]

    def report(self, unseen: model.Unseen) -> None:
        self.reported = unseen


class Bench:
    def __init__(self) -> None:
        self.factory, self.applier, self.node = Factory(), Applier(), Node()
        self.gossip = Gossip(self.factory)
        self.liveness = Liveness(self.gossip, self.applier, self.node, lambda: "host1")

    def offered(self) -> set[str]:
        state = self.liveness.narrow(self.applier.state)
        return {e.task_id for e in state.endpoints.values() if e.state is verdicts.SERVING}

    def told(self) -> list[object]:
        return [call[1] for call in self.factory.member.calls if call[0] == "broadcast"]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    tasks = [asyncio.create_task(made.gossip.run()), asyncio.create_task(made.liveness.run())]
    made.liveness.look()
    await until(lambda: made.factory.running and len(made.factory.member.calls) == 2)
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_dead_node_is_not_offered_until_it_is_back() -> None:
    async with bench() as made:
        made.factory.member.says(Change.FAILED, "n2", State.DEAD)
        assert made.offered() == {"t1", "t3"}
        await until(lambda: made.applier.retries == 1)
        assert made.node.reported == model.Unseen(("n2",))
        made.factory.member.says(Change.SUSPECTED, "n3", State.SUSPECT)
        assert made.offered() == {"t1", "t3"}
        made.factory.member.says(Change.JOINED, "n2", State.ALIVE)
        assert made.offered() == {"t1", "t2", "t3"}
        await until(lambda: made.applier.retries == 2)


async def test_who_was_forgotten_is_told_of_no_more_unless_something_is_offered_there() -> None:
    """Nodes that have left a swarm for good do not gather in every agent, and in what it tells the managers."""
    async with bench() as made:
        for node in ("n2", "n9"):
            made.factory.member.says(Change.LEFT, node, State.LEFT)
        await until(lambda: made.node.reported == model.Unseen((), ("n2", "n9")))
        for node in ("n2", "n9"):
            made.factory.member.says(Change.FORGOTTEN, node, State.LEFT)
        await until(lambda: made.node.reported == model.Unseen((), ("n2",)))
        assert made.offered() == {"t1", "t3"}


async def test_one_that_leaves_counts_as_gone_at_once() -> None:
    async with bench() as made:
        made.factory.member.says(Change.LEFT, "n3", State.LEFT)
        assert made.offered() == {"t1", "t2"}
        await until(lambda: made.node.reported == model.Unseen((), ("n3",)))


async def test_a_new_session_has_managers_asked_again_that_gossip_has_lost() -> None:
    async with bench() as it:
        (joined,) = [call for call in it.factory.member.calls if call[0] == "join"]
        for since in (5.0, 9.0):
            it.node.link = Link(connected=True, since=since, asked=True)
            for _ in range(3):
                it.liveness.look()
        await until(lambda: it.factory.member.calls[2:] and it.factory.member.calls[-1] == joined)
        assert len([call for call in it.factory.member.calls if call[0] == "join"]) <= 3


async def test_a_lone_manager_asks_some_of_the_others() -> None:
    async with bench() as it:
        it.node.addresses = lambda: ["10.0.0.1:2377"]  # type: ignore[method-assign]
        it.applier.state = replace(
            it.applier.state,
            nodes={
                "me": model.NodeRecord("me", addr="10.0.0.1"),
                "n2": model.NodeRecord("n2", addr="10.0.0.2"),
                "n3": model.NodeRecord("n3", addr="10.0.0.3", down=True),
            },
        )
        it.liveness.narrow(it.applier.state)
        wanted = it.gossip._wanted
        assert wanted is not None
        assert [host for host, _ in wanted.seeds] == ["10.0.0.1", "10.0.0.2"]


async def test_this_node_itself_is_never_gone() -> None:
    async with bench() as made:
        made.factory.member.says(Change.LEFT, "me", State.LEFT)
        assert made.offered() == {"t1", "t2", "t3"}


async def test_events_that_were_lost_are_made_up_for() -> None:
    async with bench() as made:
        made.factory.member.seen = {"n2": State.DEAD, "n3": State.ALIVE}
        made.factory.member.on_event(Overflow())
        assert made.offered() == {"t1", "t3"}


async def test_a_new_member_begins_without_verdicts() -> None:
    async with bench() as made:
        made.factory.member.says(Change.FAILED, "n2", State.DEAD)
        made.node.identity = replace(PAPERS, advertise_addr="10.0.0.2")
        made.liveness.look()
        await until(lambda: len(made.factory.made) == 2 and made.factory.running)
        assert made.offered() == {"t1", "t2", "t3"}


async def test_a_verdict_that_managers_contradict_lapses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verdicts, "LAPSE", 0.05)
    async with bench() as made:
        made.factory.member.says(Change.FAILED, "n2", State.DEAD)
        await until(lambda: made.applier.retries == 1)
        made.node.link = Link(True, "m", since=asyncio.get_running_loop().time())
        made.liveness.look()
        await until(lambda: made.applier.retries == 2)
        assert made.offered() == {"t1", "t2", "t3"}
    assert "does not reach node worker2, but the managers do" in caplog.text


async def test_managers_may_contradict_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "LAPSE", 0.05)
    async with bench() as made:
        made.node.link = Link(True, "m", since=asyncio.get_running_loop().time())
        state, made.applier.state = made.applier.state, NodeState("me")
        made.factory.member.says(Change.FAILED, "n2", State.DEAD)
        await until(lambda: made.applier.retries == 1)
        made.applier.state = state  # new assignments: tasks on a node that gossip does not see
        assert made.offered() == {"t1", "t3"}
        await until(lambda: made.applier.retries == 2)
        assert made.offered() == {"t1", "t2", "t3"}


async def test_an_end_is_told_once_and_believed_from_others() -> None:
    async with bench() as made:
        failed = model.TaskStatus(state=TaskState.TASK_FAILED)
        made.liveness.ended("t1", model.TaskStatus(state=TaskState.TASK_RUNNING))
        made.liveness.ended("unknown", failed)
        made.liveness.ended("t1", failed)
        made.liveness.ended("t1", failed)
        await until(lambda: made.told() == ["t1"])
        made.factory.member.on_event(UserMessage(ended_message("t2")))
        made.factory.member.on_event(UserMessage(ended_message("t1")))
        made.factory.member.on_event(UserMessage(b"something else"))
        await until(lambda: made.told() == ["t1", "t2"])  # passed on
        assert made.offered() == {"t3"}


async def test_who_was_away_when_an_end_was_told_hears_of_it_with_the_next_state() -> None:
    async with bench() as made:
        made.factory.member.on_event(UserState(ended_state({"t2"}), join=True))
        made.factory.member.on_event(UserState(b"of something else", join=True))
        assert made.offered() == {"t1", "t3"}
        await until(lambda: made.told() == ["t2"])
        await until(lambda: ("state", ended_state({"t2"})) in made.factory.member.calls)
        offered = made.applier.state.endpoints
        withdrawn = replace(offered["t2", "net"], state=EndpointState.ENDPOINT_WITHDRAWN)
        made.applier.state = replace(made.applier.state, endpoints={**offered, ("t2", "net"): withdrawn})
        assert made.offered() == {"t1", "t3"}  # managers know it too: nobody needs to be told any more
        await until(lambda: made.factory.member.calls[-1] == ("state", b""))


async def test_a_new_member_goes_on_telling() -> None:
    async with bench() as made:
        made.liveness.ended("t1", model.TaskStatus(state=TaskState.TASK_FAILED))
        made.offered()
        await until(lambda: ("state", ended_state({"t1"})) in made.factory.member.calls)
        made.node.identity = replace(PAPERS, advertise_addr="10.0.0.2")
        made.liveness.look()
        await until(lambda: len(made.factory.made) == 2 and made.factory.running)
        await until(lambda: ("state", ended_state({"t1"})) in made.factory.member.calls)


async def test_an_end_is_nothing_to_tell_without_a_swarm() -> None:
    made = Bench()
    running = asyncio.create_task(made.liveness.run())
    made.liveness.ended("t1", model.TaskStatus(state=TaskState.TASK_FAILED))
    await until(lambda: made.applier.retries == 1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_another_node_under_an_id_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as made:
        made.factory.member.on_event(MemberEvent(Change.CONFLICT, view("n2", State.ALIVE)))
    assert "another node gossips under the id of worker2" in caplog.text


async def test_who_is_wanted() -> None:
    async with bench() as made:
        start = made.factory.member.calls[0]
        assert start == ("start", "10.0.0.1", "10.0.0.1", 7946, "me", (b"k" * 16,))
        made.node.identity = replace(PAPERS, advertise_addr="", remote_addr="10.9.9.9")
        made.liveness.look()  # the way to the managers says more than what they saw long ago
        await until(lambda: len(made.factory.made) == 2 and made.factory.running)
        assert made.factory.member.calls[0][2] == "127.0.0.1"
        await made.liveness.leave()
        await until(lambda: not made.factory.running)
        assert ("leave",) in made.factory.member.calls
        made.node.contact = Contact()
        made.liveness.look()
        made.node.identity = None
        made.liveness.look()
        assert not made.factory.running


async def test_a_copy_of_another_nodes_disk_stays_silent() -> None:
    """Before somebody was asked nobody knows whether it is one; one that was taken for it no longer takes part."""
    async with bench() as made:
        made.node.link = Link()
        made.liveness.look()
        await until(lambda: not made.factory.running)
        made.node.link = Link(asked=True, turned_away=True)
        made.liveness.look()
        assert made.gossip._wanted is None
        assert ("leave",) not in made.factory.member.calls
        made.node.link = Link(asked=True, error="the clocks differ")
        made.liveness.look()
        await until(lambda: made.factory.running)
