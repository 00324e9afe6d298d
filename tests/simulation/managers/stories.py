"""What directed scenarios for whole managers are made of: a story that must go well, told to a Room of its own.

`scenario` puts it into SCENARIOS; directed.py has all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from common import errors, model
from tests.simulation.history import Operation
from tests.simulation.managers.checks import LABEL, Violation
from tests.simulation.managers.clients import Client, certainly_not
from tests.simulation.managers.machine import Machine, Unanswered
from tests.simulation.managers.room import Room
from tests.simulation.managers.runs import staged

Story = Callable[[Room], Awaitable[None]]
Trace = Callable[[str], None]
SCENARIOS: dict[str, Callable[[Trace | None], None]] = {}


def scenario(seed: int = 1, **limits: Any) -> Callable[[Story], Story]:
    """Puts a story into SCENARIOS."""

    def put(story: Story) -> Story:
        SCENARIOS[story.__name__] = lambda trace: staged(story, seed, trace, **limits)
        return story

    return put


def must(true: object, what: str) -> None:
    """Raises Violation with what should be so."""
    if not true:
        raise Violation(f"it should be that {what}")


async def ready(room: Room, managers: int = 3, replicas: int = 3, workers: int = 0) -> None:
    """A swarm in which all is well."""
    await room.grow(managers, workers)
    await room.services(replicas, 1)
    await room.until(lambda: not room.unsettled(), 60, room.unsettled)


async def write(room: Room, machine: Machine, value: str, patience: float = 12.0) -> Operation:
    """One write of the register, noted in the history; raises what the client is told."""
    register = room.registers[0]
    found = (await machine.control("get_service", model.GetRequest(register), patience)).service
    spec = replace(found.spec, labels={**found.spec.labels, LABEL: value})
    operation = room.history.write("story", register, value, room.loop.now)
    try:
        await machine.control(
            "update_service", model.UpdateServiceRequest(found.id, found.version, spec), patience
        )
    except errors.ShoalError as exc:
        if certainly_not(exc):
            operation.refuse(room.loop.now)
        raise
    operation.finish(room.loop.now)
    return operation


async def read(room: Room, machine: Machine, patience: float = 12.0) -> str | None:
    """One read of the register, noted in the history."""
    register = room.registers[0]
    operation = room.history.read("story", register, room.loop.now)
    try:
        service = (await machine.control("get_service", model.GetRequest(register), patience)).service
    except (errors.ShoalError, Unanswered):
        operation.refuse(room.loop.now)
        raise
    value: str | None = service.spec.labels.get(LABEL)
    operation.finish(room.loop.now, value)
    return value


async def refused(work: Awaitable[object]) -> errors.ShoalError | None:
    """The error that something ends with."""
    try:
        await work
    except errors.ShoalError as exc:
        return exc
    return None


async def another_leader(room: Room, former: Machine, within: float = 10.0) -> Machine:
    """The next leader."""

    def leading() -> list[Machine]:
        return [m for m in room.machines if m.leads and m is not former and not m.paused]

    await room.until(leading, within, "nobody else leads")
    return leading()[0]


async def end(room: Room) -> None:
    """Peace, everything settled, a good history."""
    room.calm()
    await room.settle()
    room.judge()


async def stream(room: Room, story: Callable[[], Awaitable[None]]) -> int:
    """Clients write and read while something happens; says how many writes were acknowledged."""
    room.think = 0.05
    room.clients = [Client(room, f"c{n}") for n in range(3)]
    async with asyncio.TaskGroup() as group:
        busy = [group.create_task(c.run()) for c in room.clients]
        await asyncio.sleep(1)
        await story()
        await asyncio.sleep(1)
        for task in busy:
            task.cancel()
    return sum(c.written for c in room.clients)


async def update_role(room: Room, asked: Machine, target: Machine, role: model.NodeRole) -> None:
    """`node promote` and `node demote`."""

    async def once() -> None:
        node = (await asked.control("get_node", model.GetRequest(target.node_id))).node
        spec = replace(node.spec, role=role)
        await asked.control("update_node", model.UpdateNodeRequest(node.id, node.version, spec))

    await room.patiently(once)
