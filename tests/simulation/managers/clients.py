"""Clients of Control: each works on one register at a time, at any manager, and gives up on what takes too long.

A register is a service without replicas; its value is a label. A write is `service update` with the version that was read
before, so of two at once one is refused.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from common import errors, model
from manager.store.store import NO_LEADER
from tests.simulation.history import Operation
from tests.simulation.managers.checks import LABEL
from tests.simulation.managers.machine import Machine, Unanswered

if TYPE_CHECKING:
    from tests.simulation.managers.room import Room

PATIENCE = 12.0
REFUSALS = (
    errors.InvalidArgument,
    errors.FailedPrecondition,
    errors.NotFound,
    errors.OutOfSequence,
    errors.PermissionDenied,
)


def certainly_not(exc: errors.ShoalError) -> bool:
    """Whether this error means that nothing was done, nor ever will be."""
    return isinstance(exc, REFUSALS) or exc.message in (NO_LEADER, "update out of sequence")


class Client:
    """One of them; `run` goes on until it is cancelled."""

    def __init__(self, room: Room, name: str) -> None:
        self.room = room
        self.name = name
        self.count = 0
        self.written = 0
        self.slowest_refusal = 0.0

    async def run(self) -> None:
        """Operations, one after the other."""
        room = self.room
        while True:
            await asyncio.sleep(room.rng.expovariate(1.0) * room.think)
            machines = [m for m in room.machines if m.found is not None]
            if not machines:
                continue
            machine = room.rng.choice(machines)
            key = room.rng.choice(room.registers)
            if room.rng.random() < 0.5:
                await self._read(machine, key)
            else:
                await self._write(machine, key)

    async def _read(self, machine: Machine, key: str) -> model.Service | None:
        room = self.room
        operation = room.history.read(self.name, key, room.loop.now)
        try:
            reply = await machine.control("get_service", model.GetRequest(key), PATIENCE)
        except (errors.ShoalError, Unanswered) as exc:
            room.say(f"{self.name} reads {key} at {machine.hostname}: {exc}")
            operation.refuse(room.loop.now)
            return None
        service: model.Service = reply.service
        operation.finish(room.loop.now, service.spec.labels.get(LABEL))
        return service

    async def _write(self, machine: Machine, key: str) -> None:
        room = self.room
        service = await self._read(machine, key)
        others = [m for m in room.machines if m.found is not None]
        if service is None or not others:
            return
        if room.rng.random() < 0.3:
            machine = room.rng.choice(others)
        self.count += 1
        value = f"{self.name}.{self.count}"
        spec = replace(service.spec, labels={**service.spec.labels, LABEL: value})
        operation = room.history.write(self.name, key, value, room.loop.now)
        await self._update(machine, operation, model.UpdateServiceRequest(service.id, service.version, spec))

    async def _update(
        self, machine: Machine, operation: Operation, request: model.UpdateServiceRequest
    ) -> None:
        room = self.room
        try:
            await machine.control("update_service", request, PATIENCE)
        except errors.ShoalError as exc:
            room.say(f"{self.name} writes {operation.value} at {machine.hostname}: {exc}")
            if certainly_not(exc):
                operation.refuse(room.loop.now)
        except Unanswered:
            room.say(f"{self.name} writes {operation.value} at {machine.hostname}: no answer")
        else:
            self.written += 1
            operation.finish(room.loop.now)
