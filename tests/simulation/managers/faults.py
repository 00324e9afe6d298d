"""What goes wrong in a run, by its seed: each run has its own mix, so that rare pairs of faults get their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from common import errors, model
from tests.simulation.managers.machine import Machine, Unanswered

if TYPE_CHECKING:
    from tests.simulation.managers.room import Room

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
MOST = 6
"""Machines, all in all."""


class Faults:
    """Does something every now and then, until it is cancelled."""

    def __init__(self, room: Room) -> None:
        self.room = room
        rng = room.rng
        kinds: list[tuple[Callable[[], Awaitable[None] | None], float]] = [
            (self.kill, 4), (self.kill_leader, 2), (self.kill_all, 0.5), (self.power_cut, 3), (self.pause, 3),
            (self.pause_leader, 2), (self.split, 2), (self.isolate_leader, 2), (self.one_way, 2), (self.heal, 3),
            (self.unruly, 1), (self.slow_disk, 1), (self.full_disk, 1), (self.skew, 0.5), (self.transfer, 1),
            (self.agent_moves, 2), (self.agent_restarts, 0.5), (self.scale, 2),
        ]  # fmt: skip
        changes: list[tuple[Callable[[], Awaitable[None] | None], float]] = [
            (self.promote, 2), (self.demote, 2), (self.join, 1.5), (self.leave, 1)
        ]  # fmt: skip
        if rng.random() < 0.5:
            kinds += changes
        self.kinds = [(call, weight) for call, weight in kinds if rng.random() < 0.7]
        self.kinds += [(self.heal, 2), (self.revive, 3)]
        self.mean = rng.choice((0.5, 1.5, 4.0))
        self._left = False
        self._demoting = 0

    async def run(self) -> None:
        room = self.room
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(room.rng.expovariate(1.0) * self.mean)
                call = room.rng.choices([c for c, _ in self.kinds], [w for _, w in self.kinds])[0]
                doing = call()
                if doing is not None:
                    group.create_task(self._tried(doing))

    async def _tried(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (errors.ShoalError, Unanswered) as exc:
            self.room.say(f"refused: {exc!r}")

    def _later(self, least: float, most: float, call: Callable[[], None]) -> None:
        loop, rng = self.room.loop, self.room.rng
        loop.call_at(loop.now + least + rng.random() ** 2 * (most - least), call)

    def _any(self, *, running: bool = True) -> Machine | None:
        found = [m for m in self.room.machines if m.running is running]
        return self.room.rng.choice(found) if found else None

    def _leader(self) -> Machine | None:
        try:
            return self.room.leader()
        except errors.Unavailable:
            return None

    # ---- processes and machines

    def _kill(self, machine: Machine | None, most: float = 6.0) -> None:
        if machine is not None and machine.running:
            self.room.say(f"{machine.hostname} is killed")
            machine.kill()
            self._later(0.1, most, machine.restart)

    def kill(self) -> None:
        self._kill(self._any())

    def kill_leader(self) -> None:
        self._kill(self._leader())

    def kill_all(self) -> None:
        for machine in self.room.machines:
            self._kill(machine, 1.0)

    def power_cut(self) -> None:
        machine = self._any()
        if machine is None:
            return
        self.room.say(f"{machine.hostname}: power cut")
        machine.power_cut()
        agent = self.room.agents.get(machine.node_id)
        self._later(1.0, 20.0, lambda: self._power_on(machine))
        if agent is not None:
            agent.online = False

    def _power_on(self, machine: Machine) -> None:
        agent = self.room.agents.get(machine.node_id)
        if machine.process is None:
            self.room.say(f"{machine.hostname}: power is back")
            machine.start()
            if agent is not None:
                agent.online = True

    def revive(self) -> None:
        machine = self._any(running=False)
        if machine is not None and machine.process is None:
            self._power_on(machine)

    def _pause(self, machine: Machine | None) -> None:
        if machine is not None and machine.running and not machine.paused:
            self.room.say(f"{machine.hostname} is paused")
            process = machine.process
            machine.pause()

            def resume() -> None:
                if machine.process is process:
                    self.room.say(f"{machine.hostname} goes on")
                    machine.resume()

            self._later(0.05, 20.0, resume)

    def pause(self) -> None:
        self._pause(self._any())

    def pause_leader(self) -> None:
        self._pause(self._leader())

    # ---- the network

    def split(self) -> None:
        rng, machines = self.room.rng, self.room.machines
        side = {m.ip for m in machines if rng.random() < 0.5}
        self.room.say(f"split: {sorted(side)} from the rest")
        for one in machines:
            for two in machines:
                if (one.ip in side) != (two.ip in side):
                    self.room.network.cut(one.ip, two.ip)

    def isolate_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self.room.say(f"{leader.hostname} is cut off")
            for other in self.room.machines:
                self.room.network.cut(leader.ip, other.ip)
                self.room.network.cut(other.ip, leader.ip)

    def one_way(self) -> None:
        one, two = self._any(), self._any()
        if one is not None and two is not None and one is not two:
            self.room.say(f"nothing goes from {one.hostname} to {two.hostname}")
            self.room.network.cut(one.ip, two.ip)

    def heal(self) -> None:
        if self.room.network.cuts:
            self.room.say("the network is healed")
            self.room.network.heal()

    def unruly(self) -> None:
        """Batches of Raft's get lost, come twice or in another order; everything takes longer."""
        network, rng = self.room.network, self.room.rng
        network.drop, network.duplicate, network.swap = (rng.choice((0.0, 0.02, 0.1)) for _ in range(3))
        network.delay, network.jitter = rng.choice((0.0005, 0.01, 0.05)), rng.choice((0.0005, 0.02, 0.2))

    # ---- disks and clocks

    def slow_disk(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.disk.sync = self.room.rng.choice((0.001, 0.02, 0.2, 1.0))
            self.room.say(f"{machine.hostname}: a sync takes {machine.disk.sync} s")

    def full_disk(self) -> None:
        machine = self._any()
        if machine is None:
            return
        self.room.say(f"{machine.hostname}: disk full")
        machine.disk.full = True

        def space() -> None:
            machine.disk.full = False

        self._later(0.5, 8.0, space)

    def skew(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.clock.skew = self.room.rng.choice((-3600.0, -5.0, 0.0, 5.0, 3600.0))
            self.room.say(f"{machine.hostname}: clock off by {machine.clock.skew} s")

    # ---- the agreement

    async def transfer(self) -> None:
        leader = self._leader()
        if leader is not None:
            self.room.say(f"{leader.hostname} hands leadership on")
            await leader.do(leader.member.consensus.transfer, 5.0)

    async def _update_node(self, target: Machine, role: model.NodeRole) -> None:
        asked = self._any()
        if asked is None or asked.found is None or not target.node_id:
            return
        self.room.say(f"{target.hostname} is to be {role.name.lower()}")
        reply = await asked.control("get_node", model.GetRequest(target.node_id), 10.0)
        spec = replace(reply.node.spec, role=role)
        request = model.UpdateNodeRequest(reply.node.id, reply.node.version, spec)
        await asked.control("update_node", request, 10.0)

    async def promote(self) -> None:
        found = [m for m in self.room.machines if m.found is None and m.running]
        if found:
            await self._update_node(self.room.rng.choice(found), MANAGER)

    async def demote(self) -> None:
        found = self.room.managers()
        if len(found) < 2 or self._left:
            return
        self._demoting += 1
        try:
            await self._update_node(self.room.rng.choice(found), WORKER)
        finally:
            self._demoting -= 1

    async def join(self) -> None:
        if len(self.room.machines) + len(self.room.retired) < MOST and (leader := self._leader()) is not None:
            room = self.room
            machine = room.machine()
            room.say(f"{machine.hostname} joins")
            await machine.up.wait()
            try:
                await machine.enlist(leader, room.rng.choice((MANAGER, WORKER)))
            except BaseException:
                machine.power_cut()
                room.retire(machine)
                raise
            room.agent(machine, tuple(m.addr for m in room.managers()))

    async def leave(self) -> None:
        """`swarm leave --force` of a manager, once: its state is gone whether or not the others can be told. Only where a
        majority of those that vote is left without it, and nobody is demoted from then on: what a user forces on two
        voters ends their agreement for good."""
        leader = self._leader()
        if self._left or self._demoting or leader is None:
            return
        members = leader.member.consensus.members()
        voting = {s.member.node_id for s in members if s.voter and s.reachable}
        found = [m for m in self.room.managers() if m.node_id in voting]
        if len(found) < 3 or len(members) != len(found) or voting != self.room.wanted():
            return
        self._left = True
        machine = self.room.rng.choice(found)
        self.room.say(f"{machine.hostname} leaves by force")
        await machine.leave(force=True)

    # ---- agents and users

    def agent_moves(self) -> None:
        """An agent's session breaks; it goes to another manager."""
        agent = self.room.rng.choice(list(self.room.agents.values()))
        for connection in list(self.room.network.connections.values()):
            if connection.ends[0] is agent.process:
                connection.lose(0)

    async def agent_restarts(self) -> None:
        agent = self.room.rng.choice(list(self.room.agents.values()))
        if agent._main is not None and not agent._main.done():
            await agent.stop()
            agent.start()

    async def scale(self) -> None:
        asked = self._any()
        if asked is None or asked.found is None:
            return
        service = (await asked.control("get_service", model.GetRequest("web"), 10.0)).service
        mode = model.ServiceMode(replicated=model.ReplicatedMode(self.room.rng.randrange(6)))
        spec = replace(service.spec, mode=mode)
        await asked.control(
            "update_service", model.UpdateServiceRequest(service.id, service.version, spec), 10.0
        )
