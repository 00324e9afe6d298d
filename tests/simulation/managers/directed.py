"""Directed scenarios for whole managers: each is a story that must go well, told to a Room of its own.

`SCENARIOS` has them by name; test_directed.py runs all, catch.py those that must catch a planted bug.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from common import errors, model
from manager.store.store import NO_LEADER
from tests.simulation.history import Operation
from tests.simulation.managers.checks import LABEL, Violation
from tests.simulation.managers.clients import Client, certainly_not
from tests.simulation.managers.machine import Machine, Unanswered
from tests.simulation.managers.room import MANAGER, WORKER, Room, staged

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


# ---- leaders that come and go


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


# ---- restarts


async def _stream(room: Room, story: Callable[[], Awaitable[None]]) -> int:
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

    must(await _stream(room, story) > 20, "clients got through")
    await end(room)


@scenario(snapshot_interval=40, keep_entries=10)
async def all_are_restarted_in_turn(room: Room) -> None:
    await ready(room)

    async def story() -> None:
        for machine in (*room.machines, room.leader()):
            machine.kill()
            await asyncio.sleep(2)
            machine.restart()
            await room.until(lambda m=machine: m.found is not None and room.votes(m), 20, "it does not start")  # type: ignore[misc]
            await room.until(lambda: any(m.leads for m in room.machines), 10, "nobody leads")

    must(await _stream(room, story) > 50, "clients got through")
    await end(room)


@scenario(snapshot_interval=20, keep_entries=5)
async def a_follower_that_was_away_gets_a_snapshot(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    away = next(m for m in room.machines if m is not leader)
    away.kill()
    for number in range(60):
        await room.patiently(lambda n=number: write(room, leader, f"w{n}"))  # type: ignore[misc]
    fourth = await room.enlisted(MANAGER)
    await room.until(lambda: room.votes(fourth), 60, "the fourth is no voter")
    for number in range(60, 90):
        await room.patiently(lambda n=number: write(room, leader, f"w{n}"))  # type: ignore[misc]
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


# ---- members


@scenario()
async def two_join_at_once(room: Room) -> None:
    await ready(room, managers=1)
    await asyncio.gather(room.enlisted(MANAGER), room.enlisted(MANAGER))
    await room.until(lambda: all(room.votes(m) for m in room.machines), 60, room.unsettled)
    for machine in room.machines:
        await write(room, room.leader(), machine.hostname)
        must(await read(room, machine) == machine.hostname, "everyone reads")
    await end(room)


async def update_role(room: Room, asked: Machine, target: Machine, role: model.NodeRole) -> None:
    """`node promote` and `node demote`."""

    async def once() -> None:
        node = (await asked.control("get_node", model.GetRequest(target.node_id))).node
        spec = replace(node.spec, role=role)
        await asked.control("update_node", model.UpdateNodeRequest(node.id, node.version, spec))

    await room.patiently(once)


@scenario()
async def the_leader_is_demoted_and_promoted(room: Room) -> None:
    await ready(room)

    async def story() -> None:
        for _ in range(2):
            leader = room.leader()
            await update_role(room, leader, leader, WORKER)
            await room.until(lambda old=leader: old.found is None, 30, "it still is a manager")  # type: ignore[misc]
            must(len(room.leader().member.consensus.members()) == 2, "two are left")
            await update_role(room, room.leader(), leader, MANAGER)
            await room.until(lambda old=leader: room.votes(old), 30, "it is no manager again")  # type: ignore[misc]

    must(await _stream(room, story) > 20, "clients got through")
    await end(room)


@scenario()
async def a_manager_leaves_by_force_and_comes_back(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    gone = next(m for m in room.machines if m is not leader)
    await gone.leave(force=True)
    await room.until(lambda: not room.unsettled(), 60, room.unsettled)
    must(len(leader.member.consensus.members()) == 2, "two are left")
    await update_role(room, leader, gone, MANAGER)
    await room.until(lambda: room.votes(gone), 30, "it is no manager again")
    await end(room)


@scenario()
async def a_leader_finds_a_manager_that_has_never_heard_of_it(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    away, other = (m for m in room.machines if m is not leader)
    away.power_cut()
    fourth = await room.enlisted(MANAGER)
    await room.until(lambda: room.votes(fourth), 30, "the fourth is no voter")
    await room.patiently(lambda: leader.do(lambda: leader.member.consensus.transfer(fourth.node_id)))
    await room.until(lambda: fourth.leads, 10, "the fourth does not lead")
    await write(room, fourth, "by the fourth")
    away.start()
    await room.until(lambda: away.found is not None, 10, "it does not start")
    must(await room.patiently(lambda: read(room, away)) == "by the fourth", "it has caught up")
    must(fourth.leads, "the fourth leads all the time")
    other.kill()
    await room.patiently(lambda: write(room, fourth, "by three of four"))
    other.restart()
    await end(room)


# ---- without a quorum


@scenario()
async def without_a_quorum_all_fails_soon_and_nothing_is_half_done(room: Room) -> None:
    await ready(room)
    one = room.leader()
    others = [m for m in room.machines if m is not one]
    running = {t.id for t in one.member.store.view().tasks.all()}
    await write(room, one, "before")
    for machine in others:
        machine.power_cut()
    await asyncio.sleep(6)
    for number in range(3):
        begun = room.loop.now
        exc = await refused(read(room, one))
        must(exc is not None and exc.message == NO_LEADER, f"the read fails with Docker's words: {exc!r}")
        must(room.loop.now - begun < 2.3, "a read fails within 2 s")
        begun = room.loop.now
        request = model.CreateNetworkRequest(model.NetworkSpec(name=f"never{number}"))
        exc = await refused(one.control("create_network", request))
        must(exc is not None and exc.message == NO_LEADER, f"the write fails with Docker's words: {exc!r}")
        must(room.loop.now - begun < 2.3, "a write fails within 2 s")
    agent = room.agents[one.node_id]
    must(
        all(c.status.state == model.TaskState.TASK_RUNNING for c in agent.containers.values()), "tasks run on"
    )
    for machine in others:
        machine.start()
        room.agents[machine.node_id].online = True
    await end(room)
    view = room.leader().member.store.view()
    must(not [n for n in view.networks.all() if n.spec.name.startswith("never")], "no refused write is there")
    must(running <= {t.id for t in view.tasks.all()}, "tasks are kept")


@scenario()
async def two_of_three_are_lost_and_come_back_too_late(room: Room) -> None:
    await ready(room)
    one, *others = room.machines
    await write(room, room.leader(), "before")
    for machine in others:
        machine.power_cut()
        await room.agents[machine.node_id].power_off()
    await asyncio.sleep(5)
    services = {s.id for s in one.member.store.view().services.all()}
    await one.force_new_cluster()
    await room.until(lambda: one.leads, 10, "it does not lead alone")
    must(await read(room, one) == "before", "all is there")
    must({s.id for s in one.member.store.view().services.all()} == services, "services are there")
    epoch = one.member.store.view().cluster.epoch
    must(epoch > 1, "the epoch is higher")
    await write(room, one, "after")
    agent = room.agents[one.node_id]
    await room.until(lambda: agent.state.fence.epoch == epoch, 20, "its agent obeys the new epoch")
    # The two old ones are a majority of the old agreement. Nobody hears them.
    term = one.member.consensus.term
    for machine in others:
        other = room.agents[machine.node_id]
        other.identity = None  # it takes no step of its own for a while
        machine.start()
        other.start()
    await asyncio.sleep(15)
    must(await read(room, one) == "after", "nothing has changed")
    must(one.leads and one.member.consensus.term == term, "it leads on in its term")
    must([s.member.node_id for s in one.member.consensus.members()] == [one.node_id], "it is alone")
    must(agent.state.fence.epoch == epoch, "its agent is true to it")
    for machine in others:
        exc = await refused(write(room, machine, f"by {machine.hostname}", 5.0))
        room.say(f"{machine.hostname}: {exc!r}")
        other = room.agents[machine.node_id]
        other.identity = machine.identity()
        other.promotion.heard()
    await room.until(
        lambda: all(room.agents[m.node_id].state.fence.epoch == epoch for m in others),
        60,
        "all agents are won over",
    )
    await room.until(lambda: all(m.found is None for m in others), 60, "the old ones give up")
    for machine in others:
        await update_role(room, one, machine, MANAGER)
    await room.until(lambda: all(room.votes(m) for m in others), 60, "they are managers again")
    room.calm()
    await room.settle()


# ---- disks


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

    async def story() -> None:
        for _ in range(20):
            machine = room.rng.choice(room.machines)
            await asyncio.sleep(0.4 + room.rng.random() * 0.3)
            machine.power_cut()
            machine.start()
            await room.until(
                lambda m=machine: m.up.is_set() and m.found, 5, lambda m=machine: f"{m.daemon.failure}"
            )  # type: ignore[misc]

    await _stream(room, story)
    must(sum(m.disk.torn for m in room.machines) > 0, "writes were torn")
    await end(room)


# Those of other modules, which need what is above.
from tests.simulation.managers import directed_backup  # noqa: E402, F401
