"""Directed scenarios: leaders come and go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from common import errors, model
from manager.store.store import NO_LEADER
from tests.simulation.managers.checks import LABEL, Violation
from tests.simulation.managers.machine import Machine, Unanswered
from tests.simulation.managers.room import Room
from tests.simulation.managers.stories import (
    another_leader,
    end,
    must,
    read,
    ready,
    refused,
    scenario,
    write,
)


@scenario()
async def a_stale_leaders_assignments_are_refused(room: Room) -> None:
    await ready(room, workers=1)
    old = room.leader()
    agent = room.agents[room.machines[3].node_id]
    old.pause()
    new = await another_leader(room, old)
    agent.managers = (new.addr,)
    await room.until(lambda: agent.connected_to == new.addr, 30, "the agent goes to the new leader")
    web = (await new.control("get_service", model.GetRequest("web"))).service
    spec = replace(web.spec, mode=model.ServiceMode(replicated=model.ReplicatedMode(5)))
    await new.control("update_service", model.UpdateServiceRequest(web.id, web.version, spec))
    await asyncio.sleep(2)
    # The agent goes back to the old one, which stands still in the moment before it hears of its end.
    obeyed = room.checks.obeyed[agent.id]
    for other in room.machines[:3]:
        if other is not old:
            room.network.cut(other.ip, old.ip)
    agent.stay_with = old.addr
    for connection in list(room.network.connections.values()):
        if connection.ends[0] is agent.process:
            connection.lose(0)
    old.resume()
    await asyncio.sleep(4)
    must(room.checks.obeyed[agent.id] == obeyed, "the agent has obeyed nothing that the old leader sent")
    await end(room)


@scenario()
async def a_paused_leader_reads_nothing_stale(room: Room) -> None:
    await ready(room)
    old = room.leader()
    await write(room, old, "before")
    old.pause()
    new = await another_leader(room, old)
    await write(room, new, "after")
    asked = [asyncio.create_task(read(room, old)) for _ in range(5)]
    await asyncio.sleep(1)
    old.resume()
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        must(answer == "after" or isinstance(answer, errors.ShoalError), f"{answer!r} isn't read")
    await end(room)


@scenario()
async def a_cut_off_follower_reads_nothing_stale(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    follower = next(m for m in room.machines if m is not leader)
    await write(room, leader, "before")
    for other in room.machines:
        room.network.cut(other.ip, follower.ip)
        room.network.cut(follower.ip, other.ip)
    await write(room, leader, "after")
    begun = room.loop.now
    exc = await refused(read(room, follower))
    must(exc is not None and exc.message == NO_LEADER, f"the read fails with Docker's words: {exc!r}")
    must(room.loop.now - begun < 2.5, "it fails within 2 s")
    await end(room)


@scenario()
async def the_leader_dies_between_commit_and_reply(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    before = room.checks.applied

    def applied(name: str, store: Any, index: int, term: int, data: bytes) -> None:
        before(name, store, index, term, data)
        if any(value == "torn" for _, value in room.checks.values[index]) and leader.running:
            room.checks.applied = before  # type: ignore[method-assign]
            leader.kill()

    room.checks.applied = applied  # type: ignore[method-assign]
    try:
        await write(room, leader, "torn", 5.0)
    except Unanswered:
        room.say("no answer, as it should be")
    else:
        raise Violation("a leader that was killed has answered")
    new = await another_leader(room, leader)
    must(await room.patiently(lambda: read(room, new)) == "torn", "what was committed is there")
    await write(room, new, "next")
    leader.restart()
    await end(room)
    must(room.history.applied[room.registers[0]] == ["torn", "next"], "it was applied once")


@scenario()
async def whoever_leads_knows_all_that_was_acknowledged(room: Room) -> None:
    """Whenever a manager begins to lead, its store has every write that anybody acknowledged."""
    await ready(room)
    known: list[str] = []

    async def watch(machine: Machine) -> None:
        consensus = machine.member.consensus
        while True:
            await consensus.leading(True)
            service = machine.member.store.view().services.by_name(room.registers[0])
            value = service.spec.labels.get(LABEL) if service is not None else None
            if known and value != known[-1]:
                room.checks.violated(f"{machine.hostname} leads and has {value!r}, not {known[-1]!r}")
            await consensus.leading(False)

    for number in range(6):
        watching = [
            room.loop.create_task(watch(m), context=m.process.context)
            for m in room.machines
            if m.process is not None
        ]
        leader = room.leader()
        room.network.delay = 0.05  # the others don't hear in time that the last write is committed
        for step in range(3):
            operation = await write(room, leader, f"w{number}.{step}")
            known.append(str(operation.value))
        leader.power_cut()
        await another_leader(room, leader)
        await asyncio.sleep(1)
        room.network.delay = 0.0005
        leader.start()
        await room.until(lambda: not room.unsettled(), 60, room.unsettled)
        for task in watching:
            task.cancel()
    await end(room)
