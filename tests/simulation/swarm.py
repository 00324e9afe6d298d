"""A whole swarm in one process: the leader's loops on a consensus of one, and agents that only pretend to run things."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from agent.state import NodeState
from common import errors, model
from common.model import Availability, EndpointState, TaskState
from common.rpc import Caller
from manager import lifecycle
from manager.allocator import loop as allocator
from manager.dispatcher.acks import Acks
from manager.dispatcher.service import Dispatcher
from manager.endpoints import loop as endpoints
from manager.orchestrator import loop as orchestrator
from manager.scheduler import loop as scheduler
from manager.store.store import ChangeSet, Store, Transaction
from manager.store.view import THIS_INDEX
from tests.simulation.virtual import VirtualClock

COMMIT = 0.002  # seconds that an entry takes
S = TaskState


class Broken(AssertionError):
    """The swarm has broken a promise."""


@dataclass(eq=False)
class Container:
    """What an agent has of a task."""

    status: model.TaskStatus
    work: asyncio.Task[None] | None = None
    kill: asyncio.Event = field(default_factory=asyncio.Event)


class Agent:
    """Follows its assignments as a real one would, with short delays instead of containers."""

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.swarm = swarm
        self.id = f"node{number}"
        self.address = f"192.0.2.{number}"
        self.machine = f"machine{number}"
        self.state = NodeState(self.id)
        self.containers: dict[str, Container] = {}
        self.unsent: dict[str, model.TaskStatus] = {}
        self.sequence = 0
        self.instance = b""
        self.online = True
        self.refused = ""
        self.mute = False  # connected, but acknowledges nothing
        self._main: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._outgoing: asyncio.Queue[model.AgentMessage] | None = None
        self._in_parts: list[model.AssignmentChange] = []

    # ---- power

    def start(self) -> None:
        """The agent's process starts."""
        self.instance = self.swarm.new_id().encode()
        self.state = replace(self.state, chain="")
        self._main = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """kill -9 of the agent; its containers go on."""
        assert self._main is not None
        self._main.cancel()
        await asyncio.wait([self._main])

    async def power_off(self) -> None:
        """The machine is gone, and everything on it."""
        await self.stop()
        for container in self.containers.values():
            if container.work is not None:
                container.work.cancel()
        for container in self.containers.values():
            if container.status.state == S.TASK_RUNNING:
                container.status = replace(container.status, state=S.TASK_FAILED, healthy=False)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            while True:
                try:
                    await self._talk()
                except errors.PermissionDenied as exc:
                    self.refused = exc.message
                except errors.ShoalError as exc:
                    self.refused = "" if isinstance(exc, errors.Unavailable) else exc.message
                await asyncio.sleep(0.1)

    # ---- session

    async def _talk(self) -> None:
        outgoing: asyncio.Queue[model.AgentMessage] = asyncio.Queue()
        description = model.NodeDescription(
            hostname=self.id,
            machine=self.machine,
            data_path_addr=self.address,
            routes=("0.0.0.0/0", "192.0.2.0/24"),
            resources=model.Resources(nano_cpus=4_000_000_000, memory_bytes=1 << 32),
        )
        hello = model.Hello(description, "", self.state.chain, self.state.fence, self.instance)
        outgoing.put_nowait(model.AgentMessage(hello=hello))
        self._in_parts = []
        caller = Caller(frozenset({model.Role.ROLE_WORKER}), self.id, self.address)
        dispatcher = self.swarm.dispatcher
        if dispatcher is None or not self.online:
            raise errors.Unavailable("no leader")
        self._outgoing = outgoing
        beats = asyncio.create_task(self._beat(outgoing))
        replies = dispatcher.session(_drain(outgoing), caller)
        try:
            async for message in replies:
                if not self.online:
                    break
                await self._take(message)
        finally:
            self._outgoing = None
            beats.cancel()
            await replies.aclose()

    async def _beat(self, outgoing: asyncio.Queue[model.AgentMessage]) -> None:
        while True:
            if self.unsent and self.online:
                self.sequence += 1
                updates = tuple(model.TaskStatusUpdate(t, s) for t, s in self.unsent.items())
                outgoing.put_nowait(model.AgentMessage(statuses=model.TaskStatuses(self.sequence, updates)))
            await asyncio.sleep(2)
            if self.online:
                outgoing.put_nowait(model.AgentMessage(heartbeat=model.Heartbeat()))

    async def _take(self, message: model.ManagerMessage) -> None:
        if message.assignments is None:
            return
        got = message.assignments
        seen, offered = self.state.fence, got.fence
        if (offered.term, offered.index) < (seen.term, seen.index):
            raise Broken(f"{self.id} was sent a lower fence")
        if not got.complete and got.applies_to != self.state.chain:
            raise Broken(f"{self.id}: the chain is broken")
        self._in_parts.extend(got.changes)
        if got.more:
            return
        changes, self._in_parts = self._in_parts, []
        self.state = self.state.with_changes(changes, got.fence, got.results_in, got.complete)
        self.swarm.received += 1
        self._changed.set()

    def _say(self, message: model.AgentMessage) -> None:
        if self._outgoing is not None and self.online:
            self._outgoing.put_nowait(message)

    # ---- work

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            index = self.state.fence.index
            await asyncio.sleep(0.005)  # the kernel takes its time
            if not self.mute:
                self._say(model.AgentMessage(acknowledge=model.Acknowledge(index)))
            for task_id, assignment in self.state.tasks.items():
                self._look(task_id, assignment)
            for task_id in [t for t in self.containers if t not in self.state.tasks]:
                gone = self.containers.pop(task_id)
                if gone.work is not None:
                    gone.work.cancel()

    def _look(self, task_id: str, assignment: model.TaskAssignment) -> None:
        container = self.containers.get(task_id)
        if container is None:
            known = assignment.task.status
            state = known.state if known.state > S.TASK_ASSIGNED else S.TASK_ASSIGNED
            container = self.containers[task_id] = Container(replace(known, state=state))
        if container.work is None or container.work.done():
            container.work = asyncio.create_task(self._live(task_id, container))
        if container.status.state > assignment.task.status.state:
            self._report(task_id, container.status)

    def _report(self, task_id: str, status: model.TaskStatus) -> None:
        self.unsent[task_id] = status
        self.sequence += 1
        update = model.TaskStatuses(self.sequence, (model.TaskStatusUpdate(task_id, status),))
        self._say(model.AgentMessage(statuses=update))

    def _set(self, task_id: str, container: Container, state: TaskState, err: str = "") -> None:
        if state == S.TASK_RUNNING:
            self.swarm.starting(self.state.tasks[task_id].task)
        container.status = model.TaskStatus(
            timestamp=self.swarm.clock.now_ns(),
            state=state,
            message=state.name.lower(),
            err=err,
            healthy=state == S.TASK_RUNNING,
        )
        self._report(task_id, container.status)

    async def _live(self, task_id: str, container: Container) -> None:
        """The task's own life, until it ends."""
        while container.status.state <= S.TASK_RUNNING:
            assignment = self.state.tasks.get(task_id)
            if assignment is None:
                return
            task, state = assignment.task, container.status.state
            stopping = task.desired_state > S.TASK_RUNNING
            draining = task.endpoint in (EndpointState.ENDPOINT_SERVING, EndpointState.ENDPOINT_WITHDRAWN)
            if container.kill.is_set() and state == S.TASK_RUNNING:
                self._set(task_id, container, S.TASK_FAILED, "task: non-zero exit (137)")
            elif stopping and not (state == S.TASK_RUNNING and draining):
                self.swarm.stopping(self, task)
                await asyncio.sleep(0.05)
                self._set(task_id, container, S.TASK_SHUTDOWN)
            elif state == S.TASK_RUNNING or (state == S.TASK_READY and task.desired_state <= S.TASK_READY):
                await asyncio.sleep(0.05)
            elif state == S.TASK_STARTING and self.swarm.fails(task):
                self._set(task_id, container, S.TASK_FAILED, "task: non-zero exit (1)")
            else:
                await asyncio.sleep(0.01)
                if state == S.TASK_STARTING:
                    await self._peers(task_id)
                steps = [S.TASK_ACCEPTED, S.TASK_PREPARING, S.TASK_READY, S.TASK_STARTING, S.TASK_RUNNING]
                self._set(task_id, container, next(s for s in steps if s > state))

    async def _peers(self, task_id: str) -> None:
        for _ in range(200):
            assignment = self.state.tasks.get(task_id)
            if assignment is None or assignment.peers_ready:
                return
            await asyncio.sleep(0.01)
        self.swarm.unready += 1


async def _drain(queue: asyncio.Queue[model.AgentMessage]) -> AsyncIterator[model.AgentMessage]:
    while True:
        yield await queue.get()


class Swarm:
    """The store, the leader, and agents; `check` runs after every entry."""

    def __init__(self, nodes: int) -> None:
        self.clock = VirtualClock()
        self.store = Store(self.clock)
        self.index = 0
        self.term = 1
        self.dispatcher: Dispatcher | None = None
        self.acks = Acks()
        self.counter = itertools.count(1)
        self.agents = {f"node{n}": Agent(self, n) for n in range(1, nodes + 1)}
        self.broken_images: set[str] = set()
        self.unready = 0
        self.received = 0
        self.entries = 0
        self.early_stops: list[str] = []
        self.overlaps: list[str] = []
        self.start_first = False
        self.held: dict[tuple[str, str], str] = {}
        self._leader: asyncio.Task[None] | None = None

    def new_id(self) -> str:
        """Ids that tell their order."""
        return f"id{next(self.counter):06d}"

    def fails(self, task: model.Task) -> bool:
        """Whether this task's process cannot start."""
        return task.spec.container is not None and task.spec.container.image in self.broken_images

    # ---- consensus of one

    async def _propose(self, data: bytes) -> int:
        await asyncio.sleep(COMMIT)
        self.index += 1
        self.entries += 1
        self.store.apply(self.index, self.term, data)
        return self.index

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Swarm]:
        """Everything up: nodes Ready, an ingress network."""
        self.store.attach(self._propose)
        self.store.subscribe(self._check)

        def init(tx: Transaction) -> None:
            tx.put(model.Cluster(id="cluster", epoch=1))
            tx.put(model.Network(id="ingress", spec=model.NetworkSpec(name="ingress", ingress=True)))
            for agent in self.agents.values():
                described = model.NodeDescription(hostname=agent.id, machine=agent.machine)
                tx.put(model.Node(id=agent.id, description=described))

        await self.store.update(init)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            self.lead()
            for agent in self.agents.values():
                agent.start()
            yield self

    async def _end(self) -> None:
        for agent in self.agents.values():
            await agent.power_off()
        await self.depose()
        await self.store.close()

    def lead(self) -> None:
        """A term of a leader begins."""
        self.term += 1
        self.acks = Acks()
        self.dispatcher = Dispatcher(self.store, self.acks, self.clock, lambda: self.term, self.new_id)
        self._leader = asyncio.create_task(self._lead(self.dispatcher, self.acks))

    async def _lead(self, dispatcher: Dispatcher, acks: Acks) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(dispatcher.run())
            group.create_task(orchestrator.run(self.store, self.clock, self.new_id))
            group.create_task(allocator.run(self.store, self.clock, acks))
            group.create_task(scheduler.run(self.store, self.clock))
            group.create_task(endpoints.run(self.store, self.clock, acks))

    async def depose(self) -> None:
        """The leader's term ends."""
        assert self._leader is not None
        self.dispatcher = None
        self._leader.cancel()
        await asyncio.wait([self._leader])
        if not self._leader.cancelled() and (failure := self._leader.exception()) is not None:
            raise failure

    # ---- what users do

    async def create(self, name: str, replicas: int, **spec: object) -> str:
        """`service create`; keywords are TaskSpec's, but for networks, ports, update and restart."""
        service_id = self.new_id()
        made = service_spec(name, replicas, **spec)
        await self.store.update(
            lambda tx: tx.put(model.Service(id=service_id, spec=made, spec_version=THIS_INDEX))
        )
        return service_id

    async def change(self, service_id: str, edit: Callable[[model.ServiceSpec], model.ServiceSpec]) -> None:
        """`service update`."""

        def work(tx: Transaction) -> None:
            service = tx.view.services.get(service_id)
            assert service is not None
            spec = edit(service.spec)
            changed = (spec.task, spec.endpoint) != (service.spec.task, service.spec.endpoint)
            tx.put(
                replace(
                    service,
                    spec=spec,
                    spec_version=THIS_INDEX if changed else service.spec_version,
                    previous_spec=service.spec,
                    previous_spec_version=service.spec_version,
                    update_status=None,
                )
            )

        await self.store.update(work)

    async def scale(self, service_id: str, replicas: int) -> None:
        """`service scale`."""
        mode = model.ServiceMode(replicated=model.ReplicatedMode(replicas))
        await self.change(service_id, lambda spec: replace(spec, mode=mode))

    async def remove(self, service_id: str) -> None:
        """`service rm`."""
        await self.store.update(lambda tx: tx.remove(tx.view.services.get(service_id)))

    async def network(self, name: str) -> str:
        """`network create`."""
        await self.store.update(lambda tx: tx.put(model.Network(id=name, spec=model.NetworkSpec(name=name))))
        return name

    async def availability(self, node_id: str, availability: Availability) -> None:
        """`node update --availability`."""

        def work(tx: Transaction) -> None:
            node = tx.view.nodes.get(node_id)
            assert node is not None
            tx.put(replace(node, spec=replace(node.spec, availability=availability)))

        await self.store.update(work)

    # ---- what tests look at

    def tasks(self, service_id: str) -> list[model.Task]:
        """All tasks of a service, oldest first."""
        return sorted(
            self.store.view().tasks.by_service(service_id), key=lambda t: (t.slot, t.created_at, t.id)
        )

    def running_tasks(self, service_id: str) -> list[model.Task]:
        """Those that run and are to run, on nodes that are up."""
        view = self.store.view()
        return [
            t
            for t in self.tasks(service_id)
            if t.status.state == S.TASK_RUNNING
            and lifecycle.wanted(t)
            and not lifecycle.down(view.nodes.get(t.node_id))
        ]

    async def until(self, condition: Callable[[], bool], within: float = 30.0) -> float:
        """Waits in virtual time; returns how long it took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not condition():
            if loop.time() - start > within:
                raise Broken(f"not so within {within} s")
            await asyncio.sleep(0.01)
        return loop.time() - start

    async def converged(self, service_id: str, replicas: int, within: float = 60.0) -> float:
        """Waits until exactly `replicas` tasks run and serve, and nothing is left over."""

        def there() -> bool:
            running = self.running_tasks(service_id)
            wanted = [t for t in self.tasks(service_id) if lifecycle.wanted(t)]
            return (
                len(running) == replicas == len(wanted)
                and len({t.slot for t in running}) == replicas
                and all(t.endpoint == EndpointState.ENDPOINT_SERVING or not t.networks for t in running)
            )

        return await self.until(there, within)

    # ---- promises

    def stopping(self, agent: Agent, task: model.Task) -> None:
        """A process is about to be stopped: no connected node may still balance to it."""
        for other in self.agents.values():
            if other._outgoing is None or not other.online or other.mute:
                continue
            for (task_id, _), record in other.state.endpoints.items():
                if task_id == task.id and record.state == EndpointState.ENDPOINT_SERVING:
                    self.early_stops.append(f"{task.id} while {other.id} balances to it")

    def starting(self, task: model.Task) -> None:
        """A process starts: notes whether another one of its slot still runs somewhere."""
        for agent in self.agents.values():
            for other_id, container in agent.containers.items():
                other = agent.state.tasks.get(other_id)
                if other is None or other_id == task.id or container.status.state != S.TASK_RUNNING:
                    continue
                if (other.task.service_id, other.task.slot) == (task.service_id, task.slot):
                    self.overlaps.append(f"{task.id} beside {other_id}")

    def _check(self, changes: ChangeSet) -> None:
        for change in changes.changes:
            old, new = change.old, change.new
            if isinstance(old, model.Task) and isinstance(new, model.Task):
                if new.status.state < old.status.state or (
                    lifecycle.ended(old)
                    and new.status.state < S.TASK_REMOVE
                    and new.status.state != old.status.state
                ):
                    raise Broken(f"{new.id} went from {old.status.state!r} to {new.status.state!r}")
                if old.node_id and new.node_id != old.node_id:
                    raise Broken(f"{new.id} moved to another node")
                if new.desired_state < old.desired_state and old.desired_state > S.TASK_RUNNING:
                    raise Broken(f"{new.id} was to end and is not any more")
        self._check_addresses()
        self._check_slots()

    def _check_addresses(self) -> None:
        view = self.store.view()
        seen: dict[tuple[str, str], int] = {}
        legs = [a for t in view.tasks.all() for a in t.networks] + [
            a for n in view.nodes.all() for a in n.attachments
        ]
        held = [(a.network_id, address) for a in legs for address in a.addresses]
        held += [(v.network_id, v.addr) for s in view.services.all() for v in s.endpoint.virtual_ips]
        for network_id, address in held:
            key = network_id, address.partition("/")[0]
            seen[key] = seen.get(key, 0) + 1
        for network in view.networks.all():
            for config in network.ipam.configs if network.ipam else ():
                seen[network.id, config.gateway] = seen.get((network.id, config.gateway), 0) + 1
            for hold in network.held:
                key = network.id, hold.addr
                seen[key] = seen.get(key, 0) + 1
        twice = [key for key, count in seen.items() if count > 1]
        if twice:
            raise Broken(f"held twice: {twice}")

    def _check_slots(self) -> None:
        slots: dict[tuple[str, int], int] = {}
        view = self.store.view()
        for task in view.tasks.all():
            if lifecycle.wanted(task) and not lifecycle.ended(task):
                key = task.service_id, task.slot
                slots[key] = slots.get(key, 0) + 1
        most = 2 if self.start_first else 1
        if any(count > most for count in slots.values()):
            raise Broken(f"a slot with more than {most} tasks: {slots}")


def service_spec(
    name: str,
    replicas: int,
    networks: tuple[str, ...] = (),
    ports: tuple[model.PortConfig, ...] = (),
    update: model.UpdateConfig | None = None,
    image: str = "nginx",
    **task: object,
) -> model.ServiceSpec:
    """A replicated service's spec."""
    return model.ServiceSpec(
        name=name,
        mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas)),
        task=model.TaskSpec(
            container=model.ContainerSpec(image=image),
            networks=tuple(model.NetworkAttachmentConfig(target=n) for n in networks),
            **task,  # type: ignore[arg-type]
        ),
        update=update,
        endpoint=model.EndpointSpec(mode=model.EndpointMode.VIP, ports=ports) if ports else None,
    )
