"""Agents that only pretend to run things, on the simulated network: sessions with any manager, and a mind for fences."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc.aio

from agent import fence
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
        self.role = model.NodeRole.WORKER
        self.role_fence = model.Fence()
        self.managers: tuple[str, ...] = ()
        self.connected_to = ""
        self.stay_with = ""  # for directed scenarios
        self.duties = True
        self._turn = machine.number
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
            group.create_task(self._duty())
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
        addresses = self.managers
        if self.stay_with:
            addresses = (self.stay_with,)
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

    # ---- the manager beside it

    async def _duty(self) -> None:
        """A node whose role says so gets a manager, or gets rid of it."""
        while True:
            await asyncio.sleep(0.5 + self.room.rng.random() * 0.2)
            machine = self.machine_
            if not self.duties or not self.connected_to or machine.process is None or not machine.up.is_set():
                continue
            member, daemon = machine.found, machine.daemon
            assert daemon is not None
            try:
                if self.role is model.NodeRole.MANAGER:
                    if (
                        (member is None
                        and not daemon.failure)
                        or (member is not None
                        and member.consensus.removed)
                    ):
                        self.room.say(f"{machine.hostname} becomes a manager")
                        await machine.become_manager(self.managers)
                        self.room.say(f"{machine.hostname} is a manager")
                elif member is not None or daemon.failure:
                    self.room.say(f"{machine.hostname} is no manager any more")
                    await machine.leave(demoted=True)
            except errors.ShoalError as exc:
                self.room.say(f"{machine.hostname}: {exc.message}")
            except Unanswered:
                self.room.say(f"{machine.hostname}: no answer")
