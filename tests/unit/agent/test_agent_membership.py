"""Init, join and leave against doubles of the manager: whole or not at all, in Docker's words."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

sys.path.insert(0, str(Path(__file__).parent / "worker"))

from fakes import FakeNetwork, FakeRuntime, until

from agent import identity
from agent.applier import Applier
from agent.database import open_database
from agent.engine.backend import ALREADY_MEMBER, NOT_MEMBER, InitOptions, JoinOptions, LocalState
from agent.membership import NO_SWARM, NOT_MANAGER, Membership, Parts
from agent.runtime.api import Status
from agent.state import NodeState
from agent.statuses import StatusQueue
from agent.worker.files import TaskFiles
from agent.worker.tools import Tools
from agent.worker.worker import Worker
from common import errors, joining, model, pki, rpc
from common.clock import SystemClock
from common.pb import backup_pb2, control_pb2, dispatcher_pb2, local_pb2
from common.rpc import Caller

CLUSTER, NODE = "cluster1", "node1"


class ManagerDouble:
    """A manager's Local service and its dispatcher, with a real root."""

    def __init__(self) -> None:
        self.root = pki.create_root(dt.datetime.now(dt.UTC))
        self.active = False
        self.leaves: list[bool] = []
        self.joins: list[model.JoinRequest] = []
        self.join_error: errors.ShoalError | None = None
        self.before_join: Callable[[], Awaitable[None]] | None = None
        self.assigned: tuple[model.AssignmentChange, ...] = ()
        self.refuse: errors.ShoalError | None = None
        self.leave_error: errors.ShoalError | None = None
        self.addr = ""
        self.state = model.StatusReplyState.INACTIVE
        self.role = model.NodeRole.WORKER
        self.fence = model.Fence()
        self.sessions: list[asyncio.Queue[model.ManagerMessage]] = []
        self.restores: list[list[model.RestoreRequest]] = []
        self.restore_error: errors.ShoalError | None = None
        self.restored_as = NODE
        self.epoch = 1
        self.read_error: errors.ShoalError | None = None
        self.reads = 0

    def welcome(self) -> model.Welcome:
        managers = (model.ManagerAddress("m1", self.addr),)
        return model.Welcome(
            "s", 2_000_000_000, managers, role=self.role, node_id=NODE, cluster_id=CLUSTER, fence=self.fence
        )

    def say(self, role: model.NodeRole, term: int, index: int) -> None:
        """The node's role changes, as a leader of `term` has it."""
        self.role, self.fence = role, model.Fence(CLUSTER, 1, term, index)
        for session in self.sessions:
            session.put_nowait(model.ManagerMessage(update=self.welcome()))

    def certificate(self, csr: bytes) -> bytes:
        return pki.issue_node(self.root, csr, NODE, model.NodeRole.WORKER, CLUSTER, dt.datetime.now(dt.UTC))

    async def init(self, request: model.InitRequest, caller: Caller) -> model.InitReply:
        if request.force_new_cluster:
            return model.InitReply(NODE, CLUSTER, b"", request.advertise_addr or self.addr)
        if request.subnet_size == 99:
            raise errors.InvalidArgument("subnet size must be less than 32")
        self.active = True
        return model.InitReply(NODE, CLUSTER, self.certificate(request.csr), self.addr)

    async def join(self, request: model.JoinRequest, caller: Caller) -> model.JoinReply:
        self.joins.append(request)
        if self.before_join:
            await self.before_join()
        if self.join_error:
            raise self.join_error
        self.active, self.state = True, model.StatusReplyState.ACTIVE
        return model.JoinReply()

    async def status(self, request: model.StatusRequest, caller: Caller) -> model.StatusReply:
        return model.StatusReply(self.state, NODE if self.state is model.StatusReplyState.ACTIVE else "")

    def __getattr__(self, name: str) -> Any:
        """The methods of Control that nobody here asks for."""

        async def unasked(request: object, caller: Caller) -> object:
            raise errors.Unimplemented(name)

        return unasked

    async def get_cluster(self, request: model.Nothing, caller: Caller) -> model.ClusterReply:
        self.reads += 1
        if self.read_error:
            raise self.read_error
        return model.ClusterReply(model.Cluster(CLUSTER, epoch=self.epoch))

    async def unlock(self, request: model.UnlockRequest, caller: Caller) -> model.UnlockReply:
        if request.key != "right":
            raise errors.Unauthenticated("swarm could not be unlocked: invalid key provided")
        return model.UnlockReply()

    async def leave(self, request: model.LeaveRequest, caller: Caller) -> model.LeaveReply:
        if self.leave_error and not request.force:
            raise self.leave_error
        self.leaves.append(request.force)
        self.active, self.state = False, model.StatusReplyState.INACTIVE
        return model.LeaveReply()

    async def save(self, request: model.BackupRequest, caller: Caller) -> AsyncIterator[model.BackupChunk]:
        if request.passphrase == "bad":
            raise errors.Unavailable("no backup")
        for data in (b"one", b"two", request.passphrase.encode()):
            yield model.BackupChunk(data)

    async def restore(
        self, requests: AsyncIterator[model.RestoreRequest], caller: Caller
    ) -> AsyncIterator[model.RestoreReply]:
        self.restores.append([request async for request in requests])
        if self.restore_error:
            raise self.restore_error
        self.active, self.state = True, model.StatusReplyState.ACTIVE
        certificate = self.certificate(self.restores[-1][0].csr)
        yield model.RestoreReply(self.restored_as, CLUSTER, certificate, advertise_addr=self.addr)

    async def session(
        self, requests: AsyncIterator[model.AgentMessage], caller: Caller
    ) -> AsyncIterator[model.ManagerMessage]:
        await anext(requests)
        if self.refuse:
            raise self.refuse
        yield model.ManagerMessage(welcome=self.welcome())
        yield model.ManagerMessage(
            assignments=model.Assignments(model.Fence(CLUSTER, 1, 1, 5), True, "", "a", self.assigned, False)
        )
        queue: asyncio.Queue[model.ManagerMessage] = asyncio.Queue()
        self.sessions.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.sessions.remove(queue)


def _worker(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    return Caller(frozenset({model.Role.ROLE_WORKER, model.Role.ROLE_LOCAL}))


@contextlib.asynccontextmanager
async def manager(folder: Path) -> AsyncIterator[ManagerDouble]:
    double = ManagerDouble()
    key = pki.new_key()
    now = dt.datetime.now(dt.UTC)
    chain = pki.issue_node(double.root, pki.create_csr(key), "m1", model.NodeRole.MANAGER, CLUSTER, now)
    server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
    for service in (
        dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"],
        local_pb2.DESCRIPTOR.services_by_name["Local"],
        control_pb2.DESCRIPTOR.services_by_name["Control"],
        backup_pb2.DESCRIPTOR.services_by_name["Backup"],
    ):
        server.add_generic_rpc_handlers((rpc.handler(service, double, _worker),))
    credentials = grpc.ssl_server_credentials(
        [(pki.key_pem(key), chain)], double.root.cert, require_client_auth=True
    )
    double.addr = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.add_insecure_port(f"unix://{folder}/manager.sock")
    await server.start()
    try:
        yield double
    finally:
        await server.stop(None)


class NodeBench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "agent"
        self.database, remembered = open_database(self.folder)
        self.network, self.runtime = FakeNetwork(), FakeRuntime()
        statuses = StatusQueue()
        tools = Tools(
            self.runtime, self.network, self.database, statuses, SystemClock(), folder / "volumes",  # type: ignore[arg-type]
            TaskFiles(folder / "files"), model.NodeDescription,
        )  # fmt: skip
        self.worker = Worker(tools)
        self.applier = Applier(remembered.state, self.database, self.network, self.worker)
        self.membership = Membership(
            Parts(
                self.folder, self.database, self.applier, statuses, self.worker, self.network, self._routes,
                str(folder / "manager.sock"),
            ),
            remembered.contact,
        )  # fmt: skip

    async def _routes(self) -> tuple[str, ...]:
        return ("10.0.0.0/8",)


@contextlib.asynccontextmanager
async def node(folder: Path) -> AsyncIterator[NodeBench]:
    made = NodeBench(folder)
    async with asyncio.TaskGroup() as group:
        jobs = [group.create_task(w()) for w in (made.worker.run, made.applier.run, made.membership.run)]
        await made.worker.adopt({})
        try:
            yield made
        finally:
            for job in jobs:
                job.cancel()
    await made.membership.close()
    made.database.close()


def options(addr: str) -> InitOptions:
    return InitOptions("0.0.0.0:2377", addr)


async def test_init_leave_and_init_again(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        assert n.membership.membership().state == LocalState.INACTIVE
        with pytest.raises(errors.Unavailable, match="This node is not a swarm manager"):
            n.membership.control()
        for _ in range(2):
            assert await n.membership.init(options(double.addr)) == NODE
            shown = n.membership.membership()
            assert (shown.state, shown.node_id, shown.manager) == (LocalState.ACTIVE, NODE, True)
            assert shown.managers == (model.ManagerAddress("m1", double.addr),)
            n.membership.control()
            with pytest.raises(errors.Unavailable) as caught:
                await n.membership.init(options(double.addr))
            assert caught.value.message == ALREADY_MEMBER
            await until(lambda: n.applier.applied_index == 5)
            await n.membership.leave(force=True)
            assert n.membership.membership().state == LocalState.INACTIVE
            assert identity.load(n.folder) is None
            assert n.applier.state == NodeState()
        assert double.leaves == [True, True]


async def test_gossip_hears_of_everything_and_says_good_bye_first(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        seen: list[tuple[bool, bool]] = []
        n.membership.on_contact = lambda: seen.append(
            (n.membership.identity is not None, n.membership.link.connected)
        )

        async def leaving() -> None:
            seen.append((n.membership.identity is not None, True))

        n.membership.on_leaving = leaving
        await n.membership.init(options(double.addr))
        assert seen == [(True, False), (True, True)]
        assert n.membership.contact.managers
        double.leave_error = errors.Unavailable("You are attempting to leave the swarm")
        with pytest.raises(errors.Unavailable):
            await n.membership.leave(False)
        assert len(seen) == 2
        await n.membership.leave(force=True)
        assert seen[2] == (True, True)
        assert seen[3][0] is False


async def test_leave_without_force_is_the_managers_word(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        with pytest.raises(errors.Unavailable) as caught:
            await n.membership.leave(False)
        assert caught.value.message == NOT_MEMBER
        await n.membership.init(options(double.addr))
        double.leave_error = errors.Unavailable("You are attempting to leave the swarm")
        with pytest.raises(errors.Unavailable, match="You are attempting to leave"):
            await n.membership.leave(False)
        assert n.membership.membership().state == LocalState.ACTIVE
        assert identity.load(n.folder) is not None


async def test_unlock_is_the_managers_word(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        with pytest.raises(errors.Conflict, match="swarm is not locked"):
            await n.membership.unlock("right")
        await n.membership.init(options(double.addr))
        with pytest.raises(errors.Unauthenticated, match="could not be unlocked: invalid key provided"):
            await n.membership.unlock("wrong")
        await n.membership.unlock("right")


async def test_an_init_that_the_dispatcher_refuses_leaves_nothing(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        double.refuse = errors.PermissionDenied("it looks like a copy of its disk")
        with pytest.raises(errors.Unavailable, match="copy of its disk"):
            await n.membership.init(options(double.addr))
        assert double.leaves == [True]
        assert identity.load(n.folder) is None
        assert n.membership.membership().state == LocalState.INACTIVE


async def test_a_bad_init_is_described_and_leaves_nothing(tmp_path: Path) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:
        with pytest.raises(errors.InvalidArgument) as caught:
            await n.membership.init(InitOptions("0.0.0.0:2377", double.addr, subnet_size=99))
        assert (
            caught.value.message
            == "rpc error: code = InvalidArgument desc = subnet size must be less than 32"
        )
        assert double.leaves == []


async def test_no_manager_socket(tmp_path: Path) -> None:
    async with node(tmp_path) as n:
        with pytest.raises(errors.Unavailable, match=r"manager\.sock does not exist"):
            await n.membership.init(options("127.0.0.1:2377"))
        assert identity.load(n.folder) is None


async def test_join_and_its_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with manager(tmp_path) as double, node(tmp_path) as n:

        async def joined(addr: str, token: str, csr: bytes, *more: object) -> model.IssueReply:
            if token == "bad":
                raise errors.InvalidArgument(joining.NO_TOKEN)
            if token == "malformed":
                raise errors.ShoalError("invalid join token")
            if token == "away":
                raise joining.unreachable(addr, "connect: connection refused")
            return model.IssueReply(
                NODE, CLUSTER, model.NodeRole.WORKER, double.certificate(csr), "10.0.0.9", (double.addr,)
            )

        monkeypatch.setattr(joining, "join", joined)
        for token, kind, text in (
            ("bad", errors.InvalidArgument, f"rpc error: code = InvalidArgument desc = {joining.NO_TOKEN}"),
            ("malformed", errors.ShoalError, "invalid join token"),
            ("away", errors.Unavailable, "rpc error: code = Unavailable desc = connection error"),
        ):
            with pytest.raises(kind) as caught:
                await n.membership.join(JoinOptions((double.addr,), token))
            assert caught.value.message.startswith(text)
            assert n.membership.membership().state == LocalState.INACTIVE
            assert identity.load(n.folder) is None
        await n.membership.join(JoinOptions((double.addr,), "good"))
        shown = n.membership.membership()
        assert (shown.state, shown.manager, shown.node_addr) == (LocalState.ACTIVE, False, "10.0.0.9")
        with pytest.raises(errors.Unavailable) as refused:
            n.membership.control()
        assert refused.value.message == NOT_MANAGER
        with pytest.raises(errors.Unavailable) as again:
            await n.membership.join(JoinOptions((double.addr,), "good"))
        assert again.value.message == ALREADY_MEMBER
        await n.membership.leave(False)
        with pytest.raises(errors.Unavailable) as inactive:
            n.membership.control()
        assert inactive.value.message == NO_SWARM


async def test_a_join_as_a_manager_that_ends_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is a worker while its manager is made: tasks come to it."""
    async with manager(tmp_path) as double, node(tmp_path) as n:

        async def joined(addr: str, token: str, csr: bytes, *more: object) -> model.IssueReply:
            certificate = double.certificate(csr)
            return model.IssueReply(
                NODE, CLUSTER, model.NodeRole.MANAGER, certificate, "10.0.0.9", (double.addr,)
            )

        async def task_runs() -> None:
            await until(lambda: any(c.status is Status.RUNNING for c in n.runtime.found.values()))

        monkeypatch.setattr(joining, "join", joined)
        spec = model.TaskSpec(container=model.ContainerSpec(image="nginx"))
        status = model.TaskStatus(state=model.TaskState.TASK_ASSIGNED)
        task = model.Task(
            id="t1", name="web.1.t1", spec=spec, node_id=NODE, status=status,
            desired_state=model.TaskState.TASK_RUNNING,
        )  # fmt: skip
        assignment = model.Assignment(task=model.TaskAssignment(task, peers_ready=True))
        double.assigned = (model.AssignmentChange(key="task/t1", assignment=assignment),)
        double.before_join = task_runs
        double.join_error = errors.Unavailable("the leader cannot reach this manager")
        with pytest.raises(errors.Unavailable, match="cannot reach"):
            await n.membership.join(JoinOptions((double.addr,), "good"))
        assert n.membership.membership().state == LocalState.INACTIVE
        assert (n.runtime.found, n.network.torn_down) == ({}, 1)
        assert n.database.read().state == NodeState() and n.database.read().tasks == {}


async def test_a_member_that_restarts_goes_on(tmp_path: Path) -> None:
    async with manager(tmp_path) as double:
        async with node(tmp_path) as n:
            await n.membership.init(options(double.addr))
            await until(lambda: n.applier.applied_index == 5)
        async with node(tmp_path) as n:
            assert n.membership.membership().node_id == NODE
            assert n.applier.state.fence == model.Fence(CLUSTER, 1, 1, 5)
            await until(lambda: n.membership.link.connected)
