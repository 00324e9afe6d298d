"""The Control service over a store in memory, with an agreement that agrees at once; and things to give it. For tests."""

from collections.abc import Awaitable
from typing import Any

import pytest

from common import errors, model, rpc
from manager.control.service import Control
from manager.raft.consensus import MemberStatus
from manager.store import Store, StoreObject

CALLER = rpc.Caller(frozenset({model.Role.ROLE_LOCAL}))
SECOND = 10**9


class Clock:
    def now_ns(self) -> int:
        return 77 * SECOND

    def monotonic(self) -> float:
        return 77.0


class Agreed:
    """Consensus that agrees at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.term, self.leader, self.applied = 1, True, 0
        self.leader_id, self.removed = "manager", False
        self.status = {"manager": True}  # who answers

    async def propose(self, data: bytes) -> int:
        self.applied += 1
        self._store.apply(self.applied, 1, data)
        return self.applied

    async def read_index(self) -> int:
        return self.applied

    def members(self) -> tuple[MemberStatus, ...]:
        return tuple(
            MemberStatus(model.RaftMember(n, name, f"{name}:2377"), True, name == self.leader_id, up)
            for n, (name, up) in enumerate(self.status.items(), 1)
        )

    async def changed(self) -> None: ...

    async def leading(self, leads: bool) -> None: ...

    async def add(self, member: model.RaftMember) -> None: ...

    async def remove(self, node_id: str) -> None: ...

    async def transfer(self, node_id: str = "") -> None: ...

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...


class Bench:
    """Control with everything below it."""

    def __init__(self) -> None:
        self.store = Store(Clock())
        self.consensus = Agreed(self.store)
        self.store.attach(self.consensus.propose)
        self._ids = (f"id{n:023}" for n in range(1000))
        self.control = Control(
            self.store, self.consensus, Clock(), "manager", lambda: next(self._ids), lambda n: bytes(n)
        )

    async def put(self, *objects: StoreObject) -> None:
        await self.store.update(lambda tx: [tx.put(thing) for thing in objects])

    async def create(self, spec: model.ServiceSpec) -> model.Service:
        return (await self.control.create_service(model.CreateServiceRequest(spec), CALLER)).service

    async def update(self, service: model.Service, spec: model.ServiceSpec, **other: Any) -> model.Service:
        request = model.UpdateServiceRequest(service.id, service.version, spec, **other)
        return (await self.control.update_service(request, CALLER)).service

    async def network(self, name: str, subnet: str = "", **other: Any) -> model.Network:
        ipam = model.IPAMOptions(configs=(model.IPAMConfig(subnet=subnet),)) if subnet else None
        spec = model.NetworkSpec(name=name, ipam=ipam, **other)
        return (await self.control.create_network(model.CreateNetworkRequest(spec), CALLER)).network

    async def listed(self, what: str, *terms: tuple[str, str], status: bool = False) -> Any:
        request = model.ListRequest(tuple(model.FilterTerm(k, v) for k, v in terms), status)
        return await getattr(self.control, f"list_{what}")(request, CALLER)


def node(
    key: str,
    state: model.NodeState = model.NodeState.NODE_READY,
    role: model.NodeRole = model.NodeRole.WORKER,
    **description: Any,
) -> model.Node:
    return model.Node(
        id=key,
        spec=model.NodeSpec(role=role, labels={"zone": key}),
        description=model.NodeDescription(hostname=f"host-{key}", **description),
        status=model.NodeStatus(state=state),
        role=role,
        manager_status=model.ManagerStatus() if role is model.NodeRole.MANAGER else None,
    )


def spec(name: str = "web", *published: int, **task: Any) -> model.ServiceSpec:
    ports = tuple(model.PortConfig(target_port=80, published_port=p) for p in published)
    return model.ServiceSpec(
        name=name,
        labels={"tier": "back"},
        task=model.TaskSpec(container=model.ContainerSpec(image="nginx"), **task),
        mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=3)),
        endpoint=model.EndpointSpec(ports=ports) if ports else None,
    )


def attached(*targets: str) -> tuple[model.NetworkAttachmentConfig, ...]:
    return tuple(model.NetworkAttachmentConfig(target=t) for t in targets)


async def refused(attempt: Awaitable[object], code: str, text: str) -> None:
    with pytest.raises(errors.ShoalError) as raised:
        await attempt
    assert (raised.value.code, raised.value.message) == (code, text)


def task(
    key: str,
    service_id: str,
    state: model.TaskState = model.TaskState.TASK_NEW,
    desired: model.TaskState = model.TaskState.TASK_RUNNING,
    **other: Any,
) -> model.Task:
    fields: dict[str, Any] = {"name": f"web.1.{key}", "slot": 1, "node_id": "worker"} | other
    return model.Task(
        id=key,
        service_id=service_id,
        status=model.TaskStatus(state=state),
        desired_state=desired,
        **fields,
    )
