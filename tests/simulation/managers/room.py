"""The machines of a run with their managers and agents, the network between them, and what holds of all of them.

Made by runs.py; directed scenarios (stories.py) act through a Room's own methods.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import itertools
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from common import errors, model
from manager import lifecycle
from manager.raft.replica import Limits
from tests.simulation.history import History, Undecided, judge
from tests.simulation.managers.agents import PretendAgent
from tests.simulation.managers.checks import Checks, Violation
from tests.simulation.managers.clients import Client
from tests.simulation.managers.loop import SharedLoop
from tests.simulation.managers.machine import Machine, Unanswered
from tests.simulation.managers.network import Network
from tests.simulation.swarm import service_spec
from tests.simulation.virtual import VirtualClock

T = TypeVar("T")
MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
SETTLING = 120.0
"""Seconds after the faults by which all must be as it should be."""


class Room:
    """See the module's text."""

    def __init__(
        self,
        loop: SharedLoop,
        path: Path,
        seed: int,
        limits: Limits,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.loop = loop
        self.path = path
        self.seed = seed
        self.rng = random.Random(seed)
        self.trace = trace
        self.context = contextvars.copy_context()
        self.network = Network(loop, self.rng)
        self.checks = Checks()
        self.history = History()
        self.limits = limits
        self.clock = VirtualClock()
        self.machines: list[Machine] = []
        self.retired: list[Machine] = []
        self.agents: dict[str, PretendAgent] = {}
        self.clients: list[Client] = []
        self.registers: list[str] = []
        self.think = 0.3
        self.digest = hashlib.sha256()
        self._counter = itertools.count(1)
        self.over = False
        # What tests.simulation.swarm's Agent asks of its swarm.
        self.received = self.unready = 0

    def say(self, text: str) -> None:
        """For whoever replays a seed."""
        line = f"{self.loop.now:9.3f} {text}"
        self.digest.update(line.encode())
        if self.trace is not None:
            self.trace(line)

    def noise(self, loop: Any, context: dict[str, Any]) -> None:
        """What the loop can tell nobody else: a failure that nobody waited for is one of the daemon's."""
        exc = context.get("exception")
        if self.over or exc is None or isinstance(exc, (errors.ShoalError, grpc.aio.AioRpcError)):
            return
        self.checks.violated(
            f"{context['message']}: {exc!r} in {context.get('future') or context.get('handle')}"
        )

    def new_id(self) -> str:
        return f"id{next(self._counter):06d}"

    def fails(self, task: model.Task) -> bool:
        return False

    def starting(self, task: model.Task) -> None: ...

    def stopping(self, agent: object, task: model.Task) -> None: ...

    # ---- waiting

    async def until(
        self, condition: Callable[[], Any], within: float, what: Callable[[], str] | str
    ) -> float:
        """Waits in virtual time, and says how long; raises Violation."""
        begun = self.loop.now
        while not condition():
            if self.checks.wrong:
                raise Violation(self.checks.wrong)
            if self.loop.now - begun > within:
                raise Violation(f"not so within {within:.0f} s: {what if isinstance(what, str) else what()}")
            await asyncio.sleep(0.05)
        return self.loop.now - begun

    async def patiently(self, work: Callable[[], Awaitable[T]], within: float = 60.0) -> T:
        """Tries until it is answered."""
        deadline = self.loop.now + within
        while True:
            try:
                return await work()
            except (errors.ShoalError, Unanswered) as exc:
                if self.loop.now > deadline:
                    raise Violation(f"still refused after {within:.0f} s: {exc!r}") from exc
                await asyncio.sleep(0.3)

    # ---- building

    def machine(self) -> Machine:
        """Another machine, switched on."""
        made = Machine(self, len(self.machines) + len(self.retired) + 1)
        self.machines.append(made)
        made.start()
        return made

    def retire(self, machine: Machine) -> None:
        """A machine that takes no part any more."""
        self.machines.remove(machine)
        self.retired.append(machine)

    def agent(self, machine: Machine, managers: tuple[str, ...]) -> PretendAgent:
        """The agent of a machine whose node is in the swarm."""
        made = self.agents[machine.node_id] = PretendAgent(self, machine)
        made.managers = managers
        made.start()
        return made

    async def found(self) -> Machine:
        """The first machine, with a swarm of its own."""
        machine = self.machine()
        await machine.up.wait()
        await machine.init()
        self.agent(machine, (machine.addr,))
        return machine

    async def enlisted(self, role: model.NodeRole) -> Machine:
        """Another machine, whose node is in the swarm; its agent does the rest."""
        machine = self.machine()
        await machine.up.wait()

        async def enlist() -> None:
            await machine.enlist(self.leader(), role)

        await self.patiently(enlist)
        self.agent(machine, tuple(m.addr for m in self.machines if m.found is not None))
        return machine

    async def grow(self, managers: int, workers: int = 0) -> None:
        """A swarm of so many."""
        await self.found()
        for _ in range(managers - 1):
            machine = await self.enlisted(MANAGER)
            await self.until(partial(self.votes, machine), 60, f"{machine.hostname} is no voter")
        for _ in range(workers):
            await self.enlisted(WORKER)

    async def services(self, replicas: int = 3, registers: int = 2, networks: bool = False) -> None:
        """One service that runs, and registers for clients."""
        if networks:
            spec = model.NetworkSpec(name="front")
            await self.control("create_network", model.CreateNetworkRequest(spec))
        web = service_spec("web", replicas, networks=("front",) if networks else ())
        await self.control("create_service", model.CreateServiceRequest(web))
        for number in range(registers):
            name = f"register{number}"
            await self.control("create_service", model.CreateServiceRequest(service_spec(name, 0)))
            self.registers.append(name)

    async def control(self, method: str, request: Any) -> Any:
        """A call at the leader."""
        return await self.patiently(lambda: self.leader().control(method, request))

    # ---- looking

    def leader(self) -> Machine:
        """The machine that leads, by the newest term; raises errors.Unavailable."""
        leading = [m for m in self.machines if m.leads and not m.paused]
        if not leading:
            raise errors.Unavailable("nobody leads")
        return max(leading, key=lambda m: m.member.consensus.term)

    def votes(self, machine: Machine) -> bool:
        """Whether that machine's manager knows itself as a voter."""
        found = machine.found
        if found is None:
            return False
        return any(s.voter and s.member.node_id == machine.node_id for s in found.consensus.members())

    def managers(self) -> list[Machine]:
        """Machines with a manager."""
        return [m for m in self.machines if m.found is not None]

    def wanted(self) -> set[str]:
        """Node ids of those that the leader's store wants as managers."""
        try:
            view = self.leader().member.store.view()
        except errors.Unavailable:
            return set()
        return {n.id for n in view.nodes.all() if n.spec.role is MANAGER and n.id in self.agents}

    # ---- peace

    def calm(self) -> None:
        """Everything is repaired and switched on."""
        network = self.network
        network.drop = network.duplicate = network.swap = 0.0
        network.delay = network.jitter = 0.0005
        network.heal()
        for machine in self.machines:
            machine.disk.full, machine.disk.sync = False, 0.001
            machine.clock.skew = 0.0
            machine.off = False
            network.off.discard(machine.ip)
            if machine.process is None:
                machine.start()
            else:
                machine.resume()
        for agent in self.agents.values():
            agent.online, agent.mute, agent.stay_with = True, False, ""
        network.reconsider()

    def unsettled(self) -> str:
        """What is not yet as it should be; empty when all is."""
        leading = [m for m in self.machines if m.leads]
        if len(leading) != 1:
            return f"{len(leading)} leaders"
        leader = leading[0].member
        wanted = self.wanted()
        having = {m.node_id for m in self.managers()}
        if wanted != having:
            failures = [m.daemon.failure for m in self.machines if m.daemon is not None and m.daemon.failure]
            return (
                f"managers are {sorted(self.names(having))}, wanted {sorted(self.names(wanted))}; {failures}"
            )
        members = leader.consensus.members()
        if {s.member.node_id for s in members if s.voter and s.reachable} != wanted or len(members) != len(
            wanted
        ):
            return (
                f"the agreement is {[(self.name(s.member.node_id), s.voter, s.reachable) for s in members]}"
            )
        if different := self.checks.equal(self.managers()):
            return different
        if wrong := self.checks.slots(leader.store):
            return wrong
        return self._replicas(leader.store.view()) or self._nodes(leader.store.view())

    def names(self, ids: set[str]) -> list[str]:
        return [self.name(i) for i in ids]

    def name(self, node_id: str) -> str:
        return next((m.hostname for m in self.machines if m.node_id == node_id), node_id)

    def _replicas(self, view: Any) -> str:
        for service in view.services.all():
            mode = service.spec.mode.replicated
            if mode is None:
                continue
            tasks = [t for t in view.tasks.by_service(service.id) if lifecycle.wanted(t)]
            running = [t for t in tasks if t.status.state == model.TaskState.TASK_RUNNING]
            if not len(tasks) == len(running) == mode.replicas:
                return f"{service.spec.name}: {len(running)} of {len(tasks)} run, {mode.replicas} wanted"
            for task in running:
                agent = self.agents.get(task.node_id)
                if agent is None or task.id not in agent.containers:
                    return f"{service.spec.name}: {task.id} does not run"
        return ""

    def _nodes(self, view: Any) -> str:
        for node in view.nodes.all():
            agent = self.agents.get(node.id)
            if agent is None:
                continue
            if node.status.state != model.NodeState.NODE_READY:
                return f"{node.description.hostname} is {node.status.state.name}"
            manager = node.manager_status is not None
            if manager != (node.spec.role is MANAGER) or node.role is not node.spec.role:
                return f"{node.description.hostname}: {node.role.name}, {node.spec.role.name}, {node.manager_status}"
        return ""

    async def settle(self, within: float = SETTLING) -> float:
        """Waits until all is as it should be, twice in a row."""
        took = 0.0

        def settled() -> bool:
            self._show_the_way()
            return not self.unsettled()

        for _ in range(2):
            took += await self.until(settled, within, self.unsettled)
            await asyncio.sleep(0.5)
        return took

    def _show_the_way(self) -> None:
        """An agent that was away while all managers that it knew were replaced can't find the new ones: somebody has to
        tell it, as docs/managers.md says."""
        leading = [m for m in self.machines if m.leads]
        if len(leading) != 1:
            return
        there = {s.member.addr for s in leading[0].member.consensus.members() if s.voter}
        for agent in self.agents.values():
            if not agent.connected_to and not there & set(agent.managers):
                self.say(f"{agent.machine} is told of {sorted(there)}")
                agent.managers = tuple(sorted(there))

    def judge(self) -> str:
        """Of what clients saw; raises Violation."""
        if self.checks.wrong:
            raise Violation(self.checks.wrong)
        applied: dict[str, list[str]] = {name: [] for name in self.registers}
        for index in sorted(self.checks.values):
            for key, value in self.checks.values[index]:
                if not applied[key] or applied[key][-1] != value:
                    applied[key].append(value)
        self.history.applied = applied
        try:
            verdict = judge(self.history)
        except Undecided as exc:
            return f"no verdict: {exc}"
        if not verdict.ok:
            raise Violation(verdict.sentence)
        return verdict.sentence

    # ---- the end

    async def bury(self) -> None:
        """Ends all processes, also those that were killed."""
        self.over = True
        for machine in (*self.machines, *self.retired):
            self.network.off.add(machine.ip)
        for agent in self.agents.values():
            if agent._main is not None:
                await agent.power_off()
        for machine in (*self.machines, *self.retired):
            for process, _ in machine.lives:
                if process.halted:
                    self.loop.proceed(process)
        for _ in range(20):
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=20)
