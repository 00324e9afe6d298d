"""Whole managers in one process: whichever of them is asked, the answer is the same, and nobody gets more than is his."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from manager_swarm import ask
from managers import Machine, Machines, machines
from three_managers import service, until

from common import errors, model, pki, rpc
from common.model.stubs import CAStub, DispatcherStub, LocalStub
from common.pb import ca_pb2, control_pb2, dispatcher_pb2, raft_pb2
from manager.anywhere import target
from manager.raft import forward, group
from manager.store.store import NO_LEADER

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
LOST = "raft: failed to process the request: node lost leader status"


@asynccontextmanager
async def three(path: Path) -> AsyncIterator[Machines]:
    """Three managers, a leads; all vote."""
    async with machines(path, "a", "b", "c") as swarm:
        a, b, c = swarm.all.values()
        await b.join(a)
        await c.join(a)
        for machine in (a, b, c):
            await machine.until(lambda m: sum(s.voter for s in m.consensus.members()) == 3)
            await machine.until(
                lambda m: sum(n.manager_status is not None for n in m.store.view().nodes.all()) == 3
            )
        yield swarm


@asynccontextmanager
async def as_(machine: Machine, through: Machine) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a manager's port with the papers of a node's agent."""
    root = pki.split_chain(machine.certificate)[-1]
    credentials = grpc.ssl_channel_credentials(root, machine.key, machine.certificate)
    async with rpc.client(through.addr, credentials, pki.SERVER_NAME) as channel:
        yield channel


def names(machine: Machine) -> set[str]:
    return {s.spec.name for s in machine.member.store.view().services.all()}


async def create(machine: Machine, name: str) -> None:
    await ask(machine.running.control.CreateService, service(name))


async def outcomes(channel: grpc.aio.Channel) -> dict[str, str]:
    """What each method on the port gives for an empty request: OK or the name of a status."""
    found: dict[str, str] = {}
    for pb, name in (
        (ca_pb2, "CA"), (control_pb2, "Control"), (dispatcher_pb2, "Dispatcher"), (raft_pb2, "Raft"),
    ):  # fmt: skip
        for method in pb.DESCRIPTOR.services_by_name[name].methods:
            path = f"/shoal.{name}/{method.name}"
            for _ in range(30):  # on a busy machine the leader may be another one in between
                found[method.name] = await outcome(channel, path, method.client_streaming)
                if found[method.name] not in ("UNAVAILABLE", "UNAUTHENTICATED", "DEADLINE_EXCEEDED"):
                    break
                await asyncio.sleep(0.5)
    return found


async def outcome(channel: grpc.aio.Channel, path: str, streaming: bool) -> str:
    """Of one empty request."""
    try:
        if streaming:
            stream: Any = channel.stream_stream(path)(iter([b""]), timeout=30)
            async for _ in stream:
                break
        else:
            await channel.unary_unary(path)(b"", timeout=30)
    except grpc.aio.AioRpcError as exc:
        return str(exc.code().name)
    return "OK"


async def test_whichever_is_asked(tmp_path: Path) -> None:
    async with three(tmp_path) as swarm:
        a, b, c = swarm.all.values()
        await asyncio.gather(*(create(m, f"{m.name}-{n}") for m in (a, b, c) for n in range(30)))
        wanted = {f"{m}-{n}" for m in "abc" for n in range(30)}
        for machine in (a, b, c):
            # A read shows every write that was answered before, wherever either was.
            listed = await ask(machine.running.control.ListServices, model.ListRequest())
            assert {s.spec.name for s in listed.services} == wanted
        nodes = (await ask(c.running.control.ListNodes, model.ListRequest())).nodes
        assert [n.id for n in nodes if n.manager_status is not None and n.manager_status.leader] == [
            a.node_id
        ]

        worker = Machine("worker", b.running)
        await worker.enlist(b, WORKER)
        async with as_(worker, c) as channel:
            found = await outcomes(channel)
            assert {name for name, code in found.items() if code != "PERMISSION_DENIED"} == {
                "Renew",
                "Session",
            }
            assert (found["Renew"], found["Session"]) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
            renewed = await ask(CAStub(channel).Renew, model.RenewRequest(pki.create_csr(pki.new_key())))
            assert pki.leaf_identity(renewed.certificate)[0] == worker.node_id

            call = DispatcherStub(channel).Session()
            described = model.NodeDescription(hostname="worker", machine="worker")
            await call.write(model.AgentMessage(hello=model.Hello(description=described, instance=b"1")))
            message = await call.read()
            assert isinstance(message, model.ManagerMessage) and message.welcome is not None
            # The leader has it as it welcomes the node; a follower, as soon as it applies that.
            assert a.node(worker.node_id).status.state is model.NodeState.NODE_READY
            await c.until(lambda m: c.node(worker.node_id).status.state is model.NodeState.NODE_READY)
            dispatcher = a.member._leader._dispatcher
            assert dispatcher is not None and set(dispatcher._sessions) == {worker.node_id}
            call.cancel()
            await until(lambda: not dispatcher._sessions, within=12)  # it is not its silence that ends it
        # A worker's certificate passes nothing on, and Local is on no port.
        async with as_(worker, a) as channel:
            found = await outcomes(channel)
            assert found["Forward"] == found["Exchange"] == "PERMISSION_DENIED"
            with pytest.raises(errors.Unimplemented):
                await ask(LocalStub(channel).Status, model.StatusRequest())


async def test_a_new_leader_is_found(tmp_path: Path) -> None:
    """The leader goes in good order and by surprise; who writes meanwhile waits, and every answer is true."""
    async with three(tmp_path) as swarm:
        a, b, c = swarm.all.values()
        done: set[str] = set()
        unknown: set[str] = set()

        async def write(machine: Machine, name: str) -> None:
            (result,) = await asyncio.gather(create(machine, name), return_exceptions=True)
            if isinstance(result, errors.ShoalError) and result.message == LOST:
                unknown.add(name)
            else:
                assert result is None, result
                done.add(name)

        writes = [asyncio.create_task(write(b, f"first-{n}")) for n in range(20)]
        await a.member.consensus.transfer(c.node_id)
        await c.until(lambda m: m.consensus.leader)
        writes += [
            asyncio.create_task(write(m, f"{m.name}-second-{n}")) for m in (a, b, c) for n in range(20)
        ]
        await asyncio.gather(*writes)
        assert not unknown
        assert len(done) == 80

        stopping = asyncio.create_task(swarm.off("c"))
        writes = [asyncio.create_task(write(m, f"{m.name}-third-{n}")) for m in (a, b) for n in range(20)]
        await asyncio.gather(stopping, *writes)
        await swarm.led()
        for machine in (a, b):
            await ask(machine.running.control.GetCluster, model.Nothing())
            assert done <= names(machine) <= done | unknown


async def test_without_a_quorum_in_dockers_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with three(tmp_path) as swarm:
        a = swarm.all["a"]
        monkeypatch.setattr(group, "DEADLINE", 1.9)
        monkeypatch.setattr(forward, "PATIENCE", 1.9)
        await swarm.off("b")
        await swarm.off("c")

        async def told(call: Any) -> str:
            began = time.monotonic()
            with pytest.raises(errors.ShoalError) as failure:
                await call
            assert failure.value.status == 500
            assert time.monotonic() - began < 20
            return failure.value.described()

        control = a.running.control
        first = await asyncio.gather(
            told(create(a, "web")), told(ask(control.ListNodes, model.ListRequest()))
        )
        assert first[0] in (
            f"rpc error: code = Unknown desc = {LOST}",
            f"rpc error: code = Unknown desc = {NO_LEADER}",
        )
        assert first[1] == f"rpc error: code = Unknown desc = {NO_LEADER}"
        await a.until(lambda m: not m.consensus.leader_id)
        second = await asyncio.gather(told(create(a, "web")), told(ask(control.GetCluster, model.Nothing())))
        assert set(second) == {f"rpc error: code = Unknown desc = {NO_LEADER}"}
        await swarm.on("b")
        await a.until(lambda m: bool(m.consensus.leader_id))
        await create(a, "after")


def test_several_addresses_of_one_manager() -> None:
    assert target(["10.0.0.1:2377"]) == "10.0.0.1:2377"
    assert target(["10.0.0.1:2377", "10.0.0.2:2377"]) == "ipv4:10.0.0.1:2377,10.0.0.2:2377"
    assert target(["[::1]:2377", "[::2]:2377"]) == "ipv6:[::1]:2377,[::2]:2377"
