"""Three managers in this process for tests of what goes from one to another: real TLS, real services, and an agreement
without Raft: what the leader proposes is applied everywhere at once, except where a test holds it back."""

import asyncio
import datetime as dt
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from common import errors, ids, model, pki, rpc, tokens
from common.clock import SystemClock
from common.pb import ca_pb2, control_pb2, dispatcher_pb2, raft_pb2
from manager.auth import Authorizer
from manager.ca import authority
from manager.ca.service import CertificateAuthority
from manager.control.service import Control
from manager.dispatcher.acks import Acks
from manager.dispatcher.atleader import SessionAtLeader
from manager.dispatcher.service import Dispatcher
from manager.raft.consensus import NotLeader
from manager.raft.forward import AtLeader, Forwarder
from manager.raft.forwarded import Forwarded
from manager.store.store import NO_LEADER, Store

RAFT = raft_pb2.DESCRIPTOR.services_by_name["Raft"]
CONTROL = control_pb2.DESCRIPTOR.services_by_name["Control"]
CA = ca_pb2.DESCRIPTOR.services_by_name["CA"]
DISPATCHER = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
NOW = dt.datetime.now(dt.UTC)


async def until(true: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - a condition with a deadline
            await asyncio.sleep(0.002)


class Agreed:
    """One member's part in the agreement."""

    def __init__(self, group: "Group", node_id: str, store: Store) -> None:
        self.group = group
        self.node_id = node_id
        self.store = store
        self.leader = False
        self.leader_id = ""
        self.held: list[bytes] | None = None
        self.before_propose: Callable[[], Any] | None = None
        self._news = asyncio.Event()

    @property
    def applied(self) -> int:
        return self.store.view().index

    async def changed(self) -> None:
        await self._news.wait()

    def follow(self, leader_id: str, leads: bool | None = None) -> None:
        self.leader_id = leader_id
        self.leader = leader_id == self.node_id if leads is None else leads
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def propose(self, data: bytes) -> int:
        if self.before_propose is not None:
            await self.before_propose()
        if not self.leader:
            raise NotLeader(NO_LEADER)
        self.group.entries += 1
        for member in self.group.members.values():
            member.take(data)
        return self.group.entries

    def take(self, data: bytes) -> None:
        if self.held is not None:
            self.held.append(data)
        else:
            self.store.apply(self.applied + 1, 1, data)

    def hold(self) -> None:
        self.held = []

    def release(self) -> None:
        held, self.held = self.held or [], None
        for data in held:
            self.take(data)

    async def read_index(self) -> int:
        if not self.leader_id:
            raise errors.ShoalError(NO_LEADER)
        return self.applied


@dataclass
class Group:
    members: dict[str, Agreed] = field(default_factory=dict)
    entries: int = 0

    def elect(self, node_id: str) -> None:
        for member in self.members.values():
            member.follow(node_id)


@dataclass
class Membership:
    """Raft.Join and Raft.Leave: notes who asked."""

    consensus: Agreed
    asked: list[str] = field(default_factory=list)

    async def join(self, request: model.RaftJoinRequest, caller: rpc.Caller) -> model.RaftJoinReply:
        self.asked.append(f"join {caller.node_id} {request.addr}")
        return model.RaftJoinReply(raft_id=7)

    async def leave(self, request: model.RaftLeaveRequest, caller: rpc.Caller) -> model.RaftTaken:
        self.asked.append(f"leave {caller.node_id}")
        return model.RaftTaken()


@dataclass
class Terms:
    """Stands for leader.Leader: a dispatcher while this manager leads."""

    consensus: Agreed
    dispatcher: Dispatcher | None = None
    sessions: int = 0

    async def session(
        self, requests: AsyncIterator[model.AgentMessage], caller: rpc.Caller
    ) -> AsyncIterator[model.ManagerMessage]:
        if self.dispatcher is None or not self.consensus.leader:
            raise errors.Unavailable(NO_LEADER)
        self.sessions += 1
        try:
            async for message in self.dispatcher.session(requests, caller):
                yield message
        finally:
            self.sessions -= 1

    async def run(self) -> None:
        while True:
            while not self.consensus.leader:
                await self.consensus.changed()
            self.dispatcher = Dispatcher(self.consensus.store, Acks(), SystemClock(), lambda: 1)
            serving = asyncio.create_task(self.dispatcher.run())
            try:
                while self.consensus.leader:
                    await self.consensus.changed()
            finally:
                self.dispatcher = None
                serving.cancel()
                await asyncio.wait([serving])


class Face:
    """The Raft service: only what is passed on."""

    def __init__(self, at_leader: Any, forwarded: Forwarded) -> None:
        self.join, self.leave, self.forward = at_leader.join, at_leader.leave, forwarded.forward

    async def exchange(self, requests: Any, caller: rpc.Caller) -> AsyncIterator[model.RaftTaken]:
        yield model.RaftTaken()

    install_snapshot = exchange


class Manager:
    """One of them."""

    def __init__(self, swarm: "Swarm", node_id: str) -> None:
        self.swarm, self.node_id = swarm, node_id
        self.store = Store(SystemClock())
        self.consensus = Agreed(swarm.group, node_id, self.store)
        swarm.group.members[node_id] = self.consensus
        self.store.attach(self.consensus.propose)
        self.membership = Membership(self.consensus)
        self.terms = Terms(self.consensus)
        self.batches: list[int] = []
        self.server: grpc.aio.Server | None = None
        self.port = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.channels: dict[str, grpc.aio.Channel] = {}

    async def start(self) -> None:
        self.authorizer = Authorizer(self.store, leads=lambda: self.consensus.leader)
        self.key, self.chain = self.swarm.certificate(self.node_id, model.NodeRole.MANAGER)
        clock, consensus = SystemClock(), self.consensus
        self.local_control = Control(
            self.store,
            consensus,
            clock,
            self.node_id,
            ids.new_id,
            secrets.token_bytes,  # type: ignore[arg-type]
        )
        ca = CertificateAuthority(self.store, clock, ids.new_id)
        self.forwarder = Forwarder(consensus, self.node_id, self.dial, self.store)
        self.forwarded = Forwarded(
            consensus,
            self.node_id,
            ((CONTROL, self.local_control), (CA, ca), (RAFT, self.membership)),
            self.authorizer.first,
        )
        self.control: Any = AtLeader(CONTROL, self.local_control, self.forwarder)
        services = (
            (CONTROL, self.control),
            (CA, AtLeader(CA, ca, self.forwarder)),
            (RAFT, Face(AtLeader(RAFT, self.membership, self.forwarder), self._counted())),
            (DISPATCHER, SessionAtLeader(self.terms, consensus, self.node_id, self.dial)),
        )
        self.server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
        self.server.add_generic_rpc_handlers([rpc.handler(d, i, self.authorizer) for d, i in services])
        roots = self.authorizer.roots()
        credentials = grpc.ssl_server_credentials(
            [(pki.key_pem(self.key), self.chain)], roots, require_client_auth=True
        )
        self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self.server.start()
        self.tasks = [asyncio.create_task(self.forwarder.run()), asyncio.create_task(self.terms.run())]

    def _counted(self) -> Any:
        forward = self.forwarded.forward

        class Counted:
            @staticmethod
            async def forward(requests: Any, caller: rpc.Caller) -> Any:
                async def seen() -> Any:
                    async for calls in requests:
                        self.batches.append(len(calls.calls))
                        yield calls

                async for replies in forward(seen(), caller):
                    yield replies

        return Counted

    def dial(self, node_id: str) -> grpc.aio.Channel:
        """As this manager."""
        if node_id not in self.channels:
            port = self.swarm.managers[node_id].port
            self.channels[node_id] = self.swarm.channel(port, self.key, self.chain)
        return self.channels[node_id]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await self.stop_serving()
        for channel in self.channels.values():
            await channel.close()
        self.authorizer.close()
        await self.store.close()

    async def stop_serving(self) -> None:
        if self.server is not None:
            await self.server.stop(None)
            self.server = None


class Swarm:
    """Managers m1, m2 and m3, and a worker w1; m1 leads."""

    def __init__(self) -> None:
        self.group = Group()
        self.root = pki.create_root(NOW)
        self.root_ca = authority.new_root(
            self.root, {role: secrets.token_bytes(authority.SECRET_BYTES) for role in model.NodeRole}
        )
        self.managers = {name: Manager(self, name) for name in ("m1", "m2", "m3")}
        self.group.elect("m1")

    def __getitem__(self, name: str) -> Manager:
        return self.managers[name]

    def certificate(self, node_id: str, role: model.NodeRole) -> tuple[pki.Key, bytes]:
        key = pki.new_key()
        life = dt.timedelta(days=1)
        return key, pki.issue_node(self.root, pki.create_csr(key), node_id, role, "c", NOW, life)

    def channel(self, port: int, key: pki.Key, chain: bytes) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.root_ca.cert, pki.key_pem(key), chain)
        return rpc.client(f"127.0.0.1:{port}", credentials, pki.SERVER_NAME)

    @asynccontextmanager
    async def client(
        self, manager: str, node_id: str, role: model.NodeRole = model.NodeRole.WORKER
    ) -> AsyncIterator[grpc.aio.Channel]:
        """A node's channel to a manager."""
        async with self.channel(self[manager].port, *self.certificate(node_id, role)) as channel:
            yield channel

    @asynccontextmanager
    async def joiner(self, manager: str, role: model.NodeRole) -> AsyncIterator[grpc.aio.Channel]:
        token = tokens.parse(authority.token_for(self.root_ca, role))
        key = pki.new_key()
        chain = pki.issue_joiner(pki.join_authority(token.secret, role, token.digest), key)
        async with self.channel(self[manager].port, key, chain) as channel:
            yield channel

    async def first(self) -> None:
        """What the swarm's store holds."""
        cluster = model.Cluster(
            id="c",
            root_ca=self.root_ca,
            epoch=1,
            spec=model.ClusterSpec(dispatcher=model.DispatcherConfig(heartbeat_period=5 * 10**9)),
        )

        def node(name: str, role: model.NodeRole) -> model.Node:
            described = model.NodeDescription(hostname=name, machine=name)
            return model.Node(id=name, spec=model.NodeSpec(role=role), role=role, description=described)

        nodes = [node(name, model.NodeRole.MANAGER) for name in self.managers]
        nodes.append(node("w1", model.NodeRole.WORKER))
        await self["m1"].store.update(lambda tx: [tx.put(thing) for thing in (cluster, *nodes)])


@asynccontextmanager
async def swarm() -> AsyncIterator[Swarm]:
    made = Swarm()
    await made.first()
    try:
        for manager in made.managers.values():
            await manager.start()
        yield made
    finally:
        for manager in made.managers.values():
            with suppress(AttributeError):
                await manager.stop()


def service(name: str) -> model.CreateServiceRequest:
    """A request for a service that passes every check."""
    container = model.ContainerSpec(image="busybox:latest")
    mode = model.ServiceMode(replicated=model.ReplicatedMode(1))
    return model.CreateServiceRequest(
        model.ServiceSpec(name=name, task=model.TaskSpec(container=container), mode=mode)
    )
