"""Agents that only pretend to run things, on the simulated network: sessions with any manager, and a mind for fences."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc.aio

from agent import fence
from agent.identity import Identity
from agent.promotion import Promotion
from common import errors, model, rpc
from common.model.stubs import DispatcherStub
from tests.simulation.managers.loop import Process
from tests.simulation.managers.machine import Unanswered
from tests.simulation.managers.wires import Channel, Shown
from tests.simulation.swarm import Agent, _drain

if TYPE_CHECKING:
    from tests.simulation.managers.machine import Machine
    from tests.simulation.managers.room import Room

WELCOME = 5.0


class PretendAgent(Agent):
    """The agent beside a manager, or alone on a worker."""

    def __init__(self, room: Room, machine: Machine) -> None:
        super().__init__(room, machine.number)  # type: ignore[arg-type]
        self.room = room
        self.machine_ = machine
        self.id = machine.node_id
        self.machine = machine.hostname
        self.address = machine.ip
        self.state = replace(self.state, node_id=self.id)
        self.role: model.NodeRole | None = None
        self.role_fence = model.Fence()
        self.identity: Identity | None = machine.identity()
        manager: Any = _BesideIt(machine)
        self.promotion = Promotion(self, manager)
        self.managers: tuple[str, ...] = ()
        self.connected_to = ""
        self.stay_with = ""  # for directed scenarios
        self._turn = 0
        self._partial: list[model.AssignmentChange] = []
        self._in_parts_ = False
        self.process = Process(f"{machine.ip}/agent", self._in_thread)

    async def _in_thread(self, executor: Any, call: Any) -> Any:
        return call()

    def start(self) -> None:
        self.instance = self.room.new_id().encode()
        self.state = replace(self.state, chain="")
        self._main = self.room.loop.create_task(self._run(), context=self.process.context)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            group.create_task(self.promotion.run())
            delay = 0.1
            while True:
                self.refused = ""
                try:
                    await self._talk()
                except grpc.aio.AioRpcError as exc:
                    failure = rpc.error_from(exc)
                    self.refused = "" if isinstance(failure, errors.Unavailable) else failure.message
                except errors.ShoalError as exc:
                    self.refused = exc.message
                delay = 0.1 if self.connected_to else min(2 * delay, 2.0)
                self.connected_to = ""
                self._turn += 1
                await asyncio.sleep(delay * self.room.rng.uniform(0.5, 1.0))

    # ---- session

    async def _talk(self) -> None:
        addresses = [self.stay_with] if self.stay_with else self.addresses()
        if not addresses:
            raise errors.Unavailable("no manager is known")
        addr = addresses[self._turn % len(addresses)]
        outgoing: asyncio.Queue[model.AgentMessage] = asyncio.Queue()
        description = model.NodeDescription(
            hostname=self.machine, machine=self.machine, data_path_addr=self.address,
            routes=("0.0.0.0/0", "10.0.0.0/24"),
            resources=model.Resources(nano_cpus=4_000_000_000, memory_bytes=1 << 32),
        )  # fmt: skip
        hello = model.Hello(description, self.address, self.state.chain, self.state.fence, self.instance)
        outgoing.put_nowait(model.AgentMessage(hello=hello))
        self._partial, self._in_parts_ = [], False
        async with Channel(self.room.network, addr, Shown(self.machine_.certificate)) as channel:
            call: Any = DispatcherStub(channel).Session()  # type: ignore[arg-type]
            call.pump(_drain(outgoing))
            beats: asyncio.Task[None] | None = None
            try:
                async with asyncio.timeout(WELCOME):
                    first = await anext(call, None)
                if first is None or first.welcome is None:
                    raise errors.Unavailable("no welcome")
                self._greet(first.welcome)
                self._outgoing, self.connected_to = outgoing, addr
                beats = asyncio.create_task(self._beat(outgoing))
                async for message in call:
                    self._hear(message)
            except TimeoutError as exc:
                raise errors.Unavailable("no welcome in time") from exc
            finally:
                self._outgoing = None
                call.cancel()
                if beats is not None:
                    beats.cancel()

    def _greet(self, welcome: model.Welcome) -> None:
        if welcome.managers:
            self.managers = tuple(sorted(m.addr for m in welcome.managers))
        if fence.refusal(self.role_fence, welcome.fence) is None:
            self.role, self.role_fence = welcome.role, welcome.fence
            self.promotion.heard()

    def _hear(self, message: model.ManagerMessage) -> None:
        if message.assignments is not None:
            self._assigned(message.assignments)
        elif message.taken is not None:
            if message.taken.sequence >= self.sequence:
                self.unsent.clear()
        elif message.update is not None:
            self._greet(message.update)

    def _assigned(self, got: model.Assignments) -> None:
        if reason := fence.refusal(self.state.fence, got.fence):
            self.room.checks.refused += 1
            raise errors.ShoalError(f"assignments refused: {reason}")
        complete = got.complete or self._in_parts_
        if not complete and got.applies_to != self.state.chain:
            self.state = replace(self.state, chain="")
            raise errors.ShoalError("the chain is broken")
        self.room.checks.obeys(self, got.fence)
        if got.complete and not got.applies_to:
            self._partial = []
        self._partial += got.changes
        self._in_parts_ = complete and got.more
        if self._in_parts_:
            return
        changes, self._partial = self._partial, []
        self.state = self.state.with_changes(changes, got.fence, got.results_in, complete)
        self.room.received += 1
        self._changed.set()

    # ---- the manager beside it (agent/promotion.py's Node)

    def keep(self, papers: Identity) -> None:
        self.identity = papers

    def addresses(self) -> list[str]:
        own = [a for a in self.managers if a == self.machine_.addr]
        return own + [a for a in self.managers if a != self.machine_.addr]


class _BesideIt:
    """agent/own_manager.py, to the manager on the same machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def ask(self, method: str, request: model.Message, timeout: float) -> model.Message:
        machine = self._machine
        machine.room.say(f"{machine.hostname}: its agent asks for {method}")
        try:
            reply: model.Message = await machine.ask_local(method.lower(), request, timeout)
        except Unanswered as exc:
            raise errors.DeadlineExceeded("Deadline Exceeded") from exc
        return reply

    async def status(self, timeout: float) -> Any:
        try:
            return await self._machine.ask_local("status", model.StatusRequest(), timeout)
        except Unanswered as exc:
            raise errors.DeadlineExceeded("Deadline Exceeded") from exc

    async def epoch(self, timeout: float) -> int:
        try:
            reply = await self._machine.control("get_cluster", model.Nothing(), timeout)
        except Unanswered as exc:
            raise errors.DeadlineExceeded("Deadline Exceeded") from exc
        return int(reply.cluster.epoch)
