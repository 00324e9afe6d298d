"""Sessions over real gRPC on loopback: beginnings, endings, refusals, and what they leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import grpc.aio
import pytest

from common import errors, model, rpc
from common.clock import SystemClock
from common.model import NodeState, TaskState
from common.model.stubs import DispatcherStub
from common.pb import dispatcher_pb2
from manager.dispatcher.acks import Acks
from manager.dispatcher.service import Dispatcher
from manager.store.store import Store

PERIOD = 20_000_000_000  # ns between heartbeats: more than any test takes
SECONDS = PERIOD / 1e9
OPEN = model.NetworkSpec(name="open", attachable=True)


class Clock(SystemClock):
    """The real one, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class Bench:
    store: Store
    acks: Acks
    channel: grpc.aio.Channel
    clock: Clock
    dispatcher: Dispatcher
    loops: asyncio.Task[None] | None = None
    entries: int = 0
    agreed: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, no write is agreed on."""

    def node(self, name: str = "n1") -> model.Node:
        found = self.store.view().nodes.get(name)
        assert found is not None
        return found

    async def silence(self, condition: Callable[[], bool]) -> None:
        """Time goes on to where somebody is silent for too long, until `condition` is true."""

        def passes() -> bool:
            planned = self.dispatcher._lookout._liveness.next()
            if planned is not None:
                self.clock.ahead += max(0.0, planned - self.clock.monotonic())
                self.dispatcher._lookout._deadlines.set()
            return condition()

        await until(passes)


def caller(context: grpc.aio.ServicerContext[Any, Any]) -> rpc.Caller:
    told = dict(context.invocation_metadata() or ())
    return rpc.Caller(frozenset({model.Role.ROLE_WORKER}), str(told["node"]), str(told["address"]))


@asynccontextmanager
async def bench(period: int = PERIOD) -> AsyncIterator[Bench]:
    clock = Clock()
    store, acks = Store(clock), Acks()
    dispatcher = Dispatcher(store, acks, clock, lambda: 3)
    made = Bench(store, acks, grpc.aio.insecure_channel("127.0.0.1:1"), clock, dispatcher)
    made.agreed.set()

    async def propose(data: bytes) -> int:
        await made.agreed.wait()
        made.entries += 1
        store.apply(made.entries, 3, data)
        return made.entries

    store.attach(propose)
    spec = model.ClusterSpec(dispatcher=model.DispatcherConfig(heartbeat_period=period))
    await store.update(lambda tx: tx.put(model.Cluster(id="c", spec=spec, epoch=2)))
    described = model.NodeDescription(hostname="worker1", machine="aaaa")
    await store.update(lambda tx: tx.put(model.Node(id="n1", description=described)))
    server = grpc.aio.server()
    service = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    server.add_generic_rpc_handlers([rpc.handler(service, dispatcher, caller)])
    port = server.add_insecure_port("127.0.0.1:0")
    loops = made.loops = asyncio.create_task(dispatcher.run())
    await server.start()
    await made.channel.close()
    made.channel = rpc.client(f"127.0.0.1:{port}")
    try:
        yield made
    finally:
        await made.channel.close()
        await server.stop(None)
        loops.cancel()
        with suppress(asyncio.CancelledError):
            await loops
        await store.close()


class Client:
    """An agent's end of a stream."""

    def __init__(self, bench: Bench, address: str = "127.0.0.1", node: str = "n1") -> None:
        self.call = DispatcherStub(bench.channel).Session(metadata=(("node", node), ("address", address)))

    async def hello(self, machine: str = "aaaa", instance: bytes = b"1", chain: str = "") -> model.Welcome:
        described = model.NodeDescription(hostname="worker1", machine=machine)
        await self.say(hello=model.Hello(description=described, instance=instance, chain=chain))
        message = await self.read()
        assert message.welcome is not None
        return message.welcome

    async def say(self, **kind: Any) -> None:
        await self.call.write(model.AgentMessage(**kind))

    async def read(self) -> model.ManagerMessage:
        try:
            async with asyncio.timeout(30):
                message = await self.call.read()
        except grpc.aio.AioRpcError as exc:
            raise rpc.error_from(exc) from exc
        if message is grpc.aio.EOF:
            with suppress(asyncio.CancelledError):
                code, text = await self.call.code(), await self.call.details()
                raise errors.BY_CODE.get(code.name.title().replace("_", ""), errors.ShoalError)(text)
        return message  # type: ignore[no-any-return]

    async def assignments(self) -> model.Assignments:
        while (found := (await self.read()).assignments) is None:
            pass
        return found


async def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - a condition with a deadline
            await asyncio.sleep(0.005)


def task(name: str, state: TaskState = TaskState.TASK_ASSIGNED) -> model.Task:
    status = model.TaskStatus(state=state)
    return model.Task(id=name, node_id="n1", status=status, desired_state=TaskState.TASK_RUNNING)


async def test_welcome_assignments_statuses() -> None:
    async with bench() as made:
        agent = Client(made)
        welcome = await agent.hello()
        assert (welcome.node_id, welcome.cluster_id, welcome.heartbeat_period) == ("n1", "c", PERIOD)
        assert made.node().status == model.NodeStatus(state=NodeState.NODE_READY, addr="127.0.0.1")
        first = await agent.assignments()
        assert (first.complete, first.changes) == (True, ())
        await made.store.update(lambda tx: tx.put(task("t")))
        second = await agent.assignments()
        assert [c.key for c in second.changes] == ["task/t"]
        assert second.applies_to == first.results_in
        assert second.fence == model.Fence(cluster_id="c", epoch=2, term=3, index=made.entries)
        running = model.TaskStatus(state=TaskState.TASK_RUNNING)
        updates = (model.TaskStatusUpdate("t", running), model.TaskStatusUpdate("unknown", running))
        await agent.say(statuses=model.TaskStatuses(sequence=7, updates=updates))
        reply = await agent.read()
        assert reply.taken == model.StatusesTaken(7)
        found = made.store.view().tasks.get("t")
        assert found is not None
        assert found.status.state == TaskState.TASK_RUNNING
        await agent.say(acknowledge=model.Acknowledge(second.fence.index))
        await until(lambda: made.acks.index("n1") == second.fence.index)


async def test_heartbeats_write_nothing_and_silence_is_down() -> None:
    async with bench() as made:
        agent = Client(made)
        await agent.hello()
        await agent.assignments()
        entries = made.entries
        liveness = made.dispatcher._lookout._liveness
        for _ in range(10):
            before = liveness.next()
            made.clock.ahead += SECONDS
            await agent.say(heartbeat=model.Heartbeat())
            await until(lambda before=before: liveness.next() != before)  # type: ignore[misc]
        assert made.entries == entries
        await made.silence(lambda: made.node().status.state == NodeState.NODE_DOWN)
        with pytest.raises(errors.Unavailable, match="no heartbeat"):
            await agent.read()
        agent = Client(made)
        await agent.hello()
        assert made.node().status.state == NodeState.NODE_READY


async def test_whoever_comes_back_while_it_is_written_down_is_ready() -> None:
    async with bench() as made:
        first = Client(made)
        await first.hello()
        first.call.cancel()
        await until(lambda: not made.acks.live("n1"))
        made.agreed.clear()
        other = asyncio.create_task(made.store.update(lambda tx: tx.put(model.Node(id="n2"))))
        await asyncio.sleep(0)
        agent = Client(made)
        greeting = asyncio.create_task(agent.hello())
        # The greeting, and behind it that nothing was heard for too long.
        await until(lambda: len(made.store._queue) == 1)
        await made.silence(lambda: len(made.store._queue) == 2)
        made.agreed.set()
        await greeting
        assert made.node().status.state == NodeState.NODE_READY
        await other


async def test_whoever_comes_back_while_gossip_holds_it_dead_is_ready() -> None:
    """The others have not seen it come back yet, and nobody would ever take back that it is Down."""
    async with bench() as made:
        await made.store.update(lambda tx: tx.put(model.Node(id="n2")))
        first, witness = Client(made), Client(made, node="n2")
        await first.hello()
        await witness.hello(machine="bbbb")
        first.call.cancel()
        await until(lambda: not made.acks.live("n1"))
        made.agreed.clear()
        agent = Client(made)
        described = model.NodeDescription(hostname="another", machine="aaaa")  # which is to be written down
        await agent.say(hello=model.Hello(description=described, instance=b"1"))
        await until(lambda: "n1" in made.dispatcher._lookout._opening and not made.store._queue)
        await witness.say(unseen=model.Unseen(left=("n1",)))
        await until(lambda: made.dispatcher._sessions["n2"].gossip is not None)
        await until(lambda: not made.dispatcher._lookout._sightings.is_set())
        made.agreed.set()
        made.agreed.clear()  # for the one write that waits for it, and not for what comes next
        await until(lambda: "n1" in made.dispatcher._sessions)
        made.agreed.set()
        await agent.assignments()
        await made.store.update(lambda tx: tx.put(model.Node(id="n3")))  # what was under way is written
        assert made.node().status.state == NodeState.NODE_READY


async def test_a_session_that_does_not_begin_leaves_no_node_that_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench() as made:
        first = Client(made)
        await first.hello()
        first.call.cancel()
        await until(lambda: not made.acks.live("n1"))

        async def fails(hello: model.Hello, caller: rpc.Caller) -> None:
            made.dispatcher._lookout._liveness.forget(
                "n1"
            )  # its time is up while the session is being opened
            raise errors.Unavailable("not now")

        monkeypatch.setattr(made.dispatcher, "_greeted", fails)
        with pytest.raises(errors.Unavailable, match="not now"):
            await Client(made).hello()
        assert made.dispatcher._lookout._liveness.heard("n1")
        await made.silence(lambda: made.node().status.state == NodeState.NODE_DOWN)


async def test_a_session_that_begins_while_the_term_ends_ends_with_it() -> None:
    """Nobody would ever end it: the agent would talk to a dispatcher that is no more, and its node stay Down."""
    async with bench() as made:
        assert made.loops is not None
        made.agreed.clear()
        agent = Client(made)
        described = model.NodeDescription(hostname="worker1", machine="aaaa")
        await agent.say(hello=model.Hello(description=described, instance=b"1"))
        await until(lambda: made.dispatcher._lookout._liveness.heard("n1"))
        made.loops.cancel()
        await asyncio.wait([made.loops])
        made.agreed.set()
        with pytest.raises(errors.Unavailable, match="does not have a leader"):
            await agent.read()


async def test_a_broken_stream_alone_is_not_down_and_the_agent_goes_on_where_it_was() -> None:
    async with bench() as made:
        agent = Client(made)
        await agent.hello()
        first = await agent.assignments()
        agent.call.cancel()
        await until(lambda: not made.acks.live("n1"))
        assert made.node().status.state == NodeState.NODE_READY
        await made.store.update(lambda tx: tx.put(task("t")))
        agent = Client(made)
        await agent.hello(chain=first.results_in)
        resumed = await agent.assignments()
        assert (resumed.complete, resumed.applies_to) == (False, first.results_in)
        assert [c.key for c in resumed.changes] == ["task/t"]
        agent.call.cancel()
        agent = Client(made)
        await agent.hello(chain="something else")
        assert (await agent.assignments()).complete


async def test_a_restarted_agent_takes_over_and_a_clone_does_not() -> None:
    async with bench() as made:
        first = Client(made)
        await first.hello()
        await first.assignments()
        second = Client(made)
        await second.hello(instance=b"2")
        with pytest.raises(errors.Unavailable, match="taken over"):
            await first.read()
        copy = Client(made, address="192.0.2.9")
        with pytest.raises(errors.ShoalError, match=r"connected from 127\.0\.0\.1.*calls from 192\.0\.2\.9"):
            await copy.hello(instance=b"3")
        other = Client(made, address="192.0.2.9")
        with pytest.raises(errors.ShoalError, match="belongs to another machine"):
            await other.hello(machine="bbbb", instance=b"3")
        assert made.acks.live("n1")
        await made.store.update(lambda tx: tx.put(task("t")))
        while "task/t" not in [c.key for c in (await second.assignments()).changes]:
            pass


async def test_a_removed_node_is_sent_away() -> None:
    async with bench() as made:
        agent = Client(made)
        await agent.hello()
        await agent.assignments()
        await made.store.update(lambda tx: tx.remove(made.node()))
        with pytest.raises(errors.ShoalError, match="removed from the swarm"):
            await agent.read()


async def test_what_a_welcome_says_is_said_again_when_it_changes() -> None:
    async with bench() as made:
        agent = Client(made)
        await agent.hello()
        await agent.assignments()
        cluster = made.store.view().cluster
        keys = (model.EncryptionKey(subsystem="networking:gossip", key=b"k", lamport_time=1),)
        changed = model.Cluster(id="c", spec=cluster.spec, epoch=2, network_keys=keys)
        await made.store.update(lambda tx: tx.put(changed))
        message = await agent.read()
        assert message.update is not None
        assert message.update.network_keys == keys


async def test_places_of_single_containers_are_written_refused_and_ended() -> None:
    async with bench() as made:
        await made.store.update(lambda tx: tx.put(model.Network(id="net", spec=OPEN)))
        agent = Client(made)
        await agent.hello()
        await agent.assignments()
        entries = made.entries
        await agent.say(attachments=model.ContainerAttachments())

        def place(id: str, network: str) -> model.ContainerAttachment:
            return model.ContainerAttachment(id * 25, "c", "one", (model.NetworkAttachmentConfig(network),))

        held = (place("a", "open"), place("b", "nosuch"))
        await agent.say(attachments=model.ContainerAttachments(held))
        while (refused := (await agent.read()).refused) is None:
            pass
        assert refused == model.AttachmentRefused("b" * 25, "nosuch", "NotFound", "network nosuch not found")
        found = made.store.view().tasks.get("a" * 25)
        assert found is not None and (found.node_id, made.entries) == ("n1", entries + 1)
        renamed = model.ContainerAttachments((replace(held[0], name="two"),))
        await agent.say(attachments=renamed)
        await until(lambda: [t.name for t in made.store.view().tasks.all()] == ["two"])
        await agent.say(attachments=model.ContainerAttachments())
        await until(
            lambda: {t.status.state for t in made.store.view().tasks.all()} == {TaskState.TASK_SHUTDOWN}
        )


OVERLAY = model.Network(id="net", spec=model.NetworkSpec(name="web-net"))


async def orders(agent: Client, check_id: str, answers: int = 3) -> None:
    """An agent's part of a check, of which it answers so many phases."""
    for phase in list(model.CheckPhase)[1 : 1 + answers]:
        while (order := (await agent.read()).check) is None:
            pass
        assert (order.id, order.phase) == (check_id, phase)
        assert (order.plan is not None) == (phase is model.CheckPhase.CHECK_LISTEN)
        clock = SystemClock().now_ns()
        await agent.say(report=model.CheckReport("other", phase, clock))
        await agent.say(report=model.CheckReport(check_id, phase, clock))


async def checked(agent: Client) -> model.NetworkCheck:
    while (found := (await agent.read()).checked) is None:
        pass
    return found


async def test_a_network_check_leads_its_nodes_through_all_phases() -> None:
    async with bench() as made:
        await made.store.update(lambda tx: tx.put(model.Node(id="n2", role=model.NodeRole.MANAGER)))
        await made.store.update(lambda tx: tx.put(OVERLAY))
        one, two = Client(made), Client(made, node="n2")
        await one.hello()
        await two.hello(machine="bbbb")
        await two.say(ask=model.CheckAsk("c1", "net"))
        async with asyncio.TaskGroup() as group:
            group.create_task(orders(one, "c1"))
            group.create_task(orders(two, "c1"))
        found = await checked(two)
        assert found.id == "c1" and not found.code
        assert [(n.id, n.state) for n in found.nodes] == [("n1", "ready"), ("n2", "ready")]
        assert {f.kind for f in found.faults} == {"4789", "7946/udp"}  # nobody has heard anything


async def test_a_network_check_goes_on_without_those_who_do_not_answer() -> None:
    async with bench() as made:
        await made.store.update(lambda tx: tx.put(model.Node(id="n2", role=model.NodeRole.MANAGER)))
        await made.store.update(lambda tx: tx.put(model.Node(id="n3")))
        await made.store.update(lambda tx: tx.put(OVERLAY))
        one, two = Client(made), Client(made, node="n2")
        await one.hello()
        await two.hello(machine="bbbb")
        await two.say(ask=model.CheckAsk("c1", "net"))
        await orders(two, "c1")
        found = await checked(two)
        assert {n.id: n.state for n in found.nodes} == {"n1": "silent", "n2": "ready", "n3": "down"}


async def test_a_network_check_that_cannot_be_is_refused() -> None:
    async with bench() as made:
        await made.store.update(lambda tx: tx.put(OVERLAY))
        agent = Client(made)
        await agent.hello()
        await agent.say(ask=model.CheckAsk("c1", "net"))  # no manager's, and not on the network
        assert await checked(agent) == model.NetworkCheck(
            id="c1", code="NotFound", error="network net not found"
        )
