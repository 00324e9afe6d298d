"""The session against a manager double over real gRPC and mTLS: fences, chain, statuses, reconnection, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from agent.applier import Applier
from agent.session import Session
from agent.state import NodeState
from agent.statuses import StatusQueue
from common import errors, model, pki, rpc
from common.pb import dispatcher_pb2
from common.rpc import Caller

CLUSTER = "c1"


class Memory:
    def __init__(self) -> None:
        self.states: list[NodeState] = []

    async def put_state(self, state: NodeState) -> None:
        self.states.append(state)


class Kernel:
    def __init__(self) -> None:
        self.applied: list[NodeState] = []
        self.failures = 0

    async def apply(self, state: NodeState) -> None:
        if self.failures:
            self.failures -= 1
            raise errors.Internal("no buffer space")
        self.applied.append(state)


class Tasks:
    def __init__(self) -> None:
        self.updates: list[tuple[NodeState, bool]] = []

    def update(self, state: NodeState, complete: bool = False) -> None:
        self.updates.append((state, complete))


class Manager:
    """Dispatcher.Session as a script: sends what is put in `send`, keeps what it receives."""

    def __init__(self) -> None:
        self.send: asyncio.Queue[model.ManagerMessage | errors.ShoalError | None] = asyncio.Queue()
        self.received: list[model.AgentMessage] = []
        self.sessions = 0
        self.refuse: errors.ShoalError | None = None

    async def session(
        self, requests: AsyncIterator[model.AgentMessage], caller: Caller
    ) -> AsyncIterator[model.ManagerMessage]:
        self.sessions += 1
        self.received.append(await anext(requests))
        if self.refuse:
            raise self.refuse
        yield model.ManagerMessage(
            welcome=model.Welcome(
                session_id=f"s{self.sessions}", heartbeat_period=50_000_000, node_id="n1", cluster_id=CLUSTER
            )
        )
        reader = asyncio.create_task(self._read(requests))
        try:
            while (message := await self.send.get()) is not None:
                if isinstance(message, errors.ShoalError):
                    raise message
                yield message
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self, requests: AsyncIterator[model.AgentMessage]) -> None:
        async for message in requests:
            self.received.append(message)

    def of(self, kind: str) -> list[Any]:
        return [found for m in self.received if (found := getattr(m, kind)) is not None]

    def assign(self, index: int, applies_to: str, results_in: str, *ids: str, complete: bool = False,
               epoch: int = 1, term: int = 1, more: bool = False) -> None:  # fmt: skip
        changes = tuple(
            model.AssignmentChange(
                False, f"task/{i}", model.Assignment(task=model.TaskAssignment(model.Task(id=i)))
            )
            for i in ids
        )
        fence = model.Fence(CLUSTER, epoch, term, index)
        self.send.put_nowait(
            model.ManagerMessage(
                assignments=model.Assignments(fence, complete, applies_to, results_in, changes, more)
            )
        )


class Node:
    """The member's side: what agent/membership.py does for the session."""

    def __init__(self, addr: str) -> None:
        self.addr = addr
        self.welcomes: list[model.Welcome] = []
        self.taken: list[dict[str, model.TaskStatus]] = []
        self.description = model.NodeDescription(hostname="worker1")
        self.connections = 0
        self.attempts = 0

    def addresses(self) -> list[str]:
        return [self.addr]

    async def hello(self, chain: str, fence: model.Fence) -> model.Hello:
        return model.Hello(model.NodeDescription(hostname="worker1"), "", chain, fence, b"i")

    async def describe(self) -> model.NodeDescription:
        return self.description

    async def welcomed(self, welcome: model.Welcome) -> None:
        self.welcomes.append(welcome)

    def connected(self) -> None:
        self.connections += 1

    def asked(self) -> None:
        self.attempts += 1

    async def committed(self, statuses: dict[str, model.TaskStatus]) -> None:
        self.taken.append(statuses)


class Bench:
    def __init__(
        self, manager: Manager, session: Session, applier: Applier, statuses: StatusQueue, node: Node
    ) -> None:
        self.manager, self.session, self.applier, self.statuses, self.node = (
            manager,
            session,
            applier,
            statuses,
            node,
        )
        self.kernel: Kernel
        self.tasks: Tasks
        self.server: grpc.aio.Server


def _authorize(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    return Caller(frozenset({model.Role.ROLE_WORKER}), "n1")


def _papers() -> tuple[bytes, bytes, bytes, bytes, bytes]:
    now = dt.datetime.now(dt.UTC)
    root = pki.create_root(now)
    server_key, client_key = pki.new_key(), pki.new_key()
    server = pki.issue_node(root, pki.create_csr(server_key), "m1", model.NodeRole.MANAGER, CLUSTER, now)
    client = pki.issue_node(root, pki.create_csr(client_key), "n1", model.NodeRole.WORKER, CLUSTER, now)
    return root.cert, pki.key_pem(server_key), server, pki.key_pem(client_key), client


@contextlib.asynccontextmanager
async def bench(start: NodeState | None = None, stranger: bool = False) -> AsyncIterator[Bench]:
    root, server_key, server_cert, client_key, client_cert = _papers()
    manager = Manager()
    server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
    service = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    server.add_generic_rpc_handlers((rpc.handler(service, manager, _authorize),))
    credentials = grpc.ssl_server_credentials([(server_key, server_cert)], root, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    if stranger:
        root, _, _, client_key, client_cert = _papers()
    state = start or NodeState("n1", model.Fence(CLUSTER))
    statuses, node, kernel, tasks = StatusQueue(), Node(f"127.0.0.1:{port}"), Kernel(), Tasks()
    applier = Applier(state, Memory(), kernel, tasks)  # type: ignore[arg-type]

    def dial(addr: str) -> grpc.aio.Channel:
        return rpc.client(addr, grpc.ssl_channel_credentials(root, client_key, client_cert), pki.SERVER_NAME)

    session = Session(node, applier, statuses, dial, (0.01, 0.05), random.Random(1))
    made = Bench(manager, session, applier, statuses, node)
    made.kernel, made.tasks, made.server = kernel, tasks, server
    try:
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(session.run()), group.create_task(applier.run())]
            try:
                yield made
            finally:
                for job in jobs:
                    job.cancel()
    finally:
        await server.stop(None)


async def until(condition: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_assignments_are_applied_and_acknowledged() -> None:
    async with bench() as b:
        b.manager.assign(7, "", "a", "t1", complete=True)
        b.manager.assign(9, "a", "b", "t2")
        await until(lambda: [a.index for a in b.manager.of("acknowledge")][-1:] == [9])
        assert set(b.kernel.applied[-1].tasks) == {"t1", "t2"}
        assert any(complete for _, complete in b.tasks.updates)
        assert b.applier.state.chain == "b"
        hello = b.manager.of("hello")[0]
        assert (hello.chain, hello.instance) == ("", b"i")
        await until(lambda: len(b.manager.of("heartbeat")) >= 2)


async def test_a_complete_set_in_parts_is_one_change() -> None:
    async with bench(NodeState("n1", model.Fence(CLUSTER), "old", {"gone": model.TaskAssignment()})) as b:
        b.manager.assign(7, "", "a", "t1", complete=True, more=True)
        b.manager.assign(7, "a", "b", "t2", complete=True)
        await until(lambda: b.kernel.applied)
        assert [set(s.tasks) for s in b.kernel.applied] == [{"t1", "t2"}]


@pytest.mark.parametrize(("epoch", "term", "index"), [(1, 5, 50), (2, 4, 50), (2, 5, 49)])
async def test_an_older_stream_is_refused(epoch: int, term: int, index: int) -> None:
    state = NodeState("n1", model.Fence(CLUSTER, 2, 5, 50), "a", {"t1": model.TaskAssignment()})
    async with bench(state) as b:
        b.manager.assign(index, "", "x", complete=True, epoch=epoch, term=term)
        await until(lambda: len(b.manager.of("hello")) == 2)
        assert set(b.applier.state.tasks) == {"t1"}
        assert b.kernel.applied == []
        assert b.manager.of("hello")[1].fence == model.Fence(CLUSTER, 2, 5, 50)


async def test_kinds_of_newer_managers_are_left_out() -> None:
    async with bench() as b:
        change = model.AssignmentChange(False, "volume/v1", model.Assignment())
        message = model.Assignments(model.Fence(CLUSTER, 1, 1, 7), True, "", "a", (change,))
        b.manager.send.put_nowait(model.ManagerMessage(assignments=message))
        await until(lambda: b.applier.applied_index == 7)


async def test_a_lost_message_forces_everything_anew() -> None:
    async with bench() as b:
        b.manager.assign(7, "", "a", "t1", complete=True)
        b.manager.assign(9, "other", "c", "t3")
        await until(lambda: len(b.manager.of("hello")) == 2)
        assert b.manager.of("hello")[1].chain == ""
        b.manager.assign(9, "", "c", "t1", "t3", complete=True)
        await until(lambda: b.applier.applied_index == 9)


async def test_reconnecting_goes_on_with_the_chain_and_acknowledges_again() -> None:
    async with bench() as b:
        b.manager.assign(7, "", "a", "t1", complete=True)
        await until(lambda: b.manager.of("acknowledge"))
        b.manager.send.put_nowait(errors.Unavailable("no leader"))
        await until(lambda: len(b.manager.of("hello")) == 2)
        assert b.manager.of("hello")[1].chain == "a"
        await until(lambda: [a.index for a in b.manager.of("acknowledge")] == [7, 7])


async def test_statuses_are_sent_until_taken() -> None:
    status = model.TaskStatus(1, model.TaskState.TASK_RUNNING, "started")
    async with bench() as b:
        b.statuses.put("t1", status)
        await until(lambda: b.manager.of("statuses"))
        b.manager.send.put_nowait(errors.Unavailable("no leader"))
        await until(lambda: len(b.manager.of("statuses")) == 2)
        again = b.manager.of("statuses")[1]
        assert again.updates == (model.TaskStatusUpdate("t1", status),)
        b.manager.send.put_nowait(model.ManagerMessage(taken=model.StatusesTaken(again.sequence)))
        await until(lambda: b.node.taken == [{"t1": status}])
        assert len(b.statuses) == 0


async def test_a_refusal_is_shown_and_tried_again() -> None:
    async with bench() as b:
        b.manager.refuse = errors.PermissionDenied("it looks like a copy of its disk")
        await until(lambda: b.session.link.error and b.manager.sessions > 2)
        assert "copy of its disk" in b.session.link.error
        assert b.session.settled.is_set()
        assert b.session.link.turned_away and b.node.attempts
        b.manager.refuse = errors.Unavailable("no leader")
        await until(lambda: not b.session.link.error)
        assert b.session.link.asked and not b.session.link.turned_away
        b.manager.refuse = None
        await until(lambda: b.session.link.connected)
        assert (b.session.link.error, b.session.link.asked, b.session.link.turned_away) == ("", True, False)


async def test_a_manager_of_another_swarm_gets_nothing() -> None:
    async with bench(stranger=True) as b:
        await asyncio.sleep(0.3)
        assert b.manager.sessions == 0
        assert not b.session.link.connected


async def test_the_kernel_is_tried_again_before_it_is_acknowledged() -> None:
    async with bench() as b:
        b.kernel.failures = 2
        b.manager.assign(7, "", "a", "t1", complete=True)
        await until(lambda: b.manager.of("acknowledge"))
        assert len(b.kernel.applied) == 1
        assert b.session.link.connected


async def test_a_changed_node_describes_itself_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.session.DESCRIBE_EVERY", 0.02)
    async with bench() as b:
        await until(lambda: b.session.link.connected)
        b.node.description = model.NodeDescription(hostname="worker1", routes=("10.0.0.0/8",))
        await until(lambda: b.manager.of("description") == [b.node.description])


async def test_an_unreachable_manager_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as b:
        await until(lambda: b.session.link.connected)
        await b.server.stop(None)
        await until(lambda: not b.session.link.connected)
        await asyncio.sleep(0.3)
        assert b.session.link.error == ""
    assert not [r for r in caplog.records if r.exc_info and r.name == "session"]


async def test_what_gossip_does_not_see_is_told_once_on_each_connection() -> None:
    async with bench() as b:
        seen, dead, left = model.Unseen(), model.Unseen(("n9",)), model.Unseen((), ("n9",))
        b.session.report(dead)  # nobody is there to be told
        await until(lambda: b.node.connections == 1)
        for unseen in (seen, seen, dead, dead, left):
            b.session.report(unseen)
        await until(lambda: len(b.manager.of("unseen")) == 3)
        assert b.manager.of("unseen") == [seen, dead, left]
        b.manager.assign(7, "other", "x", "t1")  # out of chain: the session begins anew
        await until(lambda: b.node.connections == 2)
        b.session.report(left)
        await until(lambda: len(b.manager.of("unseen")) == 4)
