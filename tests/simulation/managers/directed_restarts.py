"""Directed scenarios: managers are killed and restarted, and their disks fail."""

from __future__ import annotations

import asyncio
from functools import partial

from tests.simulation.managers.machine import Machine
from tests.simulation.managers.room import MANAGER, Room
from tests.simulation.managers.stories import (
    another_leader,
    end,
    must,
    read,
    ready,
    refused,
    scenario,
    stream,
    write,
)


@scenario()
async def all_are_killed_at_once(room: Room) -> None:
    await ready(room)

    async def story() -> None:
        for _ in range(3):
            for machine in room.machines:
                machine.kill()
            await asyncio.sleep(0.5)
            for machine in room.machines:
                machine.restart()
            await room.until(lambda: any(m.leads for m in room.machines), 10, "nobody leads")
            await asyncio.sleep(1)

    must(await stream(room, story) > 20, "clients got through")
    await end(room)


@scenario(snapshot_interval=40, keep_entries=10)
async def all_are_restarted_in_turn(room: Room) -> None:
    await ready(room)

    async def story() -> None:
        for machine in (*room.machines, room.leader()):
            machine.kill()
            await asyncio.sleep(2)
            machine.restart()
            await room.until(partial(room.votes, machine), 20, "it does not start")
            await room.until(lambda: any(m.leads for m in room.machines), 10, "nobody leads")

    must(await stream(room, story) > 50, "clients got through")
    await end(room)


@scenario(snapshot_interval=20, keep_entries=5)
async def a_follower_that_was_away_gets_a_snapshot(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    away = next(m for m in room.machines if m is not leader)
    away.kill()
    for number in range(60):
        await room.patiently(partial(write, room, leader, f"w{number}"))
    fourth = await room.enlisted(MANAGER)
    await room.until(lambda: room.votes(fourth), 60, "the fourth is no voter")
    for number in range(60, 90):
        await room.patiently(partial(write, room, leader, f"w{number}"))
    away.restart()
    await room.until(lambda: not room.unsettled(), 60, room.unsettled)
    must(await read(room, away) == "w89", "it has all")
    must(len(away.member.consensus.members()) == 4, "it knows the fourth")
    away.kill()
    away.restart()
    await room.until(lambda: away.found is not None, 5, "it does not start")
    must(len(away.member.consensus.members()) == 4, "it knows the fourth after a restart")
    # The one who leads goes: those who are left, the one with the snapshot among them, are still a quorum.
    leader.kill()
    await another_leader(room, leader)
    await end(room)


@scenario()
async def a_full_disk_passes(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    leader.disk.full = True
    exc = await refused(write(room, leader, "x", 5.0))
    must(exc is not None and "No space left" in exc.message, f"the disk is named: {exc!r}")
    await asyncio.sleep(3)
    leader.disk.full = False
    await room.patiently(lambda: write(room, room.leader(), "y"))
    await end(room)


@scenario()
async def power_cuts_leave_a_state_that_starts(room: Room) -> None:
    await ready(room)
    for machine in room.machines:
        machine.disk.sync = 0.1

    def started(machine: Machine) -> bool:
        return machine.up.is_set() and machine.found is not None

    def failure(machine: Machine) -> str:
        return f"{machine.daemon and machine.daemon.failure}"

    async def story() -> None:
        for turn in range(100):
            if turn >= 20 and sum(m.disk.torn for m in room.machines) > 0:
                break
            machine = room.rng.choice(room.machines)
            await asyncio.sleep(0.4 + room.rng.random() * 0.3)
            machine.power_cut()
            machine.start()
            await room.until(partial(started, machine), 5, partial(failure, machine))

    await stream(room, story)
    must(sum(m.disk.torn for m in room.machines) > 0, "writes were torn")
    await end(room)
