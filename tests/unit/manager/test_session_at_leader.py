"""An agent's session at a manager that does not lead: over real gRPC and TLS, to the leader and back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from three_managers import Swarm, swarm, until

from common import errors, model, pki, rpc
from common.model.stubs import DispatcherStub
from manager.dispatcher.atleader import SessionAtLeader
from manager.store.store import NO_LEADER

SOON = 12.0
"""Seconds: less than the three heartbeats after which a silent agent is given up."""


@pytest.fixture
async def managers() -> AsyncIterator[Swarm]:
    async with swarm() as made:
        await until(lambda: made["m1"].terms.dispatcher is not None)
        yield made


async def say(call: Any, **kind: Any) -> None:
    await call.write(model.AgentMessage(**kind))


async def read(call: Any) -> Any:
    """The next message, or the error that ends the stream."""
    try:
        async with asyncio.timeout(30):
            message = await call.read()
            if message is grpc.aio.EOF:
                raise errors.ShoalError(f"{await call.code()}: {await call.details()}")
    except grpc.aio.AioRpcError as exc:
        raise rpc.error_from(exc) from exc
    return message


async def greeted(channel: grpc.aio.Channel) -> Any:
    call = DispatcherStub(channel).Session()
    described = model.NodeDescription(hostname="worker1", machine="w1")
    await say(call, hello=model.Hello(description=described, instance=b"1"))
    assert (await read(call)).welcome.node_id == "w1"
    assert (await read(call)).assignments.complete
    return call


def task(name: str) -> model.Task:
    status = model.TaskStatus(state=model.TaskState.TASK_ASSIGNED)
    return model.Task(id=name, node_id="w1", status=status, desired_state=model.TaskState.TASK_RUNNING)


async def test_a_session_at_a_follower(managers: Swarm) -> None:
    m1, m2 = managers["m1"], managers["m2"]
    async with managers.client("m2", "w1") as channel:
        call = await greeted(channel)
        node = m2.store.view().nodes.get("w1")
        assert node is not None
        assert node.status == model.NodeStatus(state=model.NodeState.NODE_READY, addr="127.0.0.1")
        assert (m1.terms.sessions, m2.terms.sessions) == (1, 0)
        await m1.store.update(lambda tx: tx.put(task("t")))
        assert [c.key for c in (await read(call)).assignments.changes] == ["task/t"]
        update = model.TaskStatusUpdate("t", model.TaskStatus(state=model.TaskState.TASK_RUNNING))
        await say(call, statuses=model.TaskStatuses(sequence=3, updates=(update,)))
        assert (await read(call)).taken == model.StatusesTaken(3)
        found = m2.store.view().tasks.get("t")
        assert found is not None and found.status.state is model.TaskState.TASK_RUNNING
        call.cancel()
        await until(lambda: m1.terms.sessions == 0, SOON)


async def test_an_agent_that_hangs_up_is_gone_at_once(managers: Swarm) -> None:
    async with managers.client("m3", "w1") as channel:
        await greeted(channel)
        assert managers["m1"].terms.sessions == 1
    await until(lambda: managers["m1"].terms.sessions == 0, SOON)


async def test_what_ends_it_at_the_leader_ends_it_here(managers: Swarm) -> None:
    async with managers.client("m2", "w1") as channel, managers.client("m3", "w1") as other:
        first = await greeted(channel)
        second = await greeted(other)
        with pytest.raises(errors.Unavailable, match="another session of this node has taken over"):
            await read(first)

        def gone(tx: Any) -> None:
            tx.remove(tx.view.nodes.get("w1"))

        await managers["m1"].store.update(gone)
        with pytest.raises(errors.PermissionDenied, match="was removed"):
            await read(second)


async def test_it_ends_when_leadership_moves(managers: Swarm) -> None:
    async with managers.client("m2", "w1") as channel:
        call = await greeted(channel)
        managers["m2"].consensus.follow("m3")
        with pytest.raises(errors.Unavailable, match="does not have a leader"):
            await read(call)
        await until(lambda: managers["m1"].terms.sessions == 0, SOON)
        managers.group.elect("m3")
        await until(lambda: managers["m3"].terms.dispatcher is not None)
        await greeted(channel)
        assert managers["m3"].terms.sessions == 1


async def test_it_ends_with_the_leader(managers: Swarm) -> None:
    async with managers.client("m2", "w1") as channel:
        call = await greeted(channel)
        await managers["m1"].stop_serving()
        with pytest.raises(errors.ShoalError):
            await read(call)


async def test_a_closed_channel_to_the_leader_ends_it(managers: Swarm) -> None:
    async with managers.client("m2", "w1") as channel:
        call = await greeted(channel)
        await managers["m2"].channels.pop("m1").close()
        with pytest.raises(errors.Unavailable, match="does not have a leader"):
            await read(call)


async def test_an_agents_stream_that_breaks_ends_it(
    managers: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    m2 = managers["m2"]
    chain = managers.certificate("w1", model.NodeRole.WORKER)[1]
    caller = m2.authorizer.caller(pki.split_chain(chain)[0], "10.0.0.9")
    described = model.NodeDescription(hostname="worker1", machine="w1")

    async def breaks() -> AsyncIterator[model.AgentMessage]:
        yield model.AgentMessage(hello=model.Hello(description=described))
        raise RuntimeError("broken")

    sessions = SessionAtLeader(m2.terms, m2.consensus, "m2", m2.dial)

    async def all_of() -> None:
        async for _ in sessions.session(breaks(), caller):
            pass

    with pytest.raises(errors.Unavailable):
        await all_of()
    assert "reading an agent's session failed" in caplog.text
    await until(lambda: managers["m1"].terms.sessions == 0)


@pytest.mark.parametrize("leader", ["", "m2"])
async def test_nobody_to_pass_it_on_to(managers: Swarm, leader: str) -> None:
    """No leader, or itself but not yet."""
    managers["m2"].consensus.follow(leader, leads=False)
    async with managers.client("m2", "w1") as channel:
        call = DispatcherStub(channel).Session()
        await say(call, hello=model.Hello())
        with pytest.raises(errors.Unavailable, match="does not have a leader"):
            await read(call)


async def test_it_is_passed_on_once(managers: Swarm) -> None:
    """m2 takes m3 for the leader, m3 knows better: nobody sends the stream round in circles."""
    managers["m2"].consensus.follow("m3")
    async with managers.client("m2", "w1") as channel:
        call = DispatcherStub(channel).Session()
        await say(call, hello=model.Hello())
        with pytest.raises(errors.Unavailable) as failure:
            await read(call)
    assert failure.value.message == NO_LEADER
    assert managers["m1"].terms.sessions == 0
