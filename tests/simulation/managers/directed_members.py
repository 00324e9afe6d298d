"""Directed scenarios: managers join and leave, and there are too few of them."""

from __future__ import annotations

import asyncio
from functools import partial

from common import model
from manager.raft.core.messages import EntryType
from manager.store.store import NO_LEADER
from tests.simulation.managers.machine import Machine, Unanswered
from tests.simulation.managers.room import MANAGER, WORKER, Room
from tests.simulation.managers.stories import (
    end,
    must,
    read,
    ready,
    refused,
    scenario,
    stream,
    update_role,
    write,
)


@scenario()
async def two_join_at_once(room: Room) -> None:
    await ready(room, managers=1)
    await asyncio.gather(room.enlisted(MANAGER), room.enlisted(MANAGER))
    await room.until(lambda: all(room.votes(m) for m in room.machines), 60, room.unsettled)
    for machine in room.machines:
        await write(room, room.leader(), machine.hostname)
        must(await read(room, machine) == machine.hostname, "everyone reads")
    await end(room)


@scenario()
async def the_leader_is_demoted_and_promoted(room: Room) -> None:
    await ready(room)

    def demoted(machine: Machine) -> bool:
        return machine.found is None

    async def story() -> None:
        for _ in range(2):
            leader = room.leader()
            await update_role(room, leader, leader, WORKER)
            await room.until(partial(demoted, leader), 30, "it still is a manager")
            must(len(room.leader().member.consensus.members()) == 2, "two are left")
            await update_role(room, room.leader(), leader, MANAGER)
            await room.until(partial(room.votes, leader), 30, "it is no manager again")

    must(await stream(room, story) > 20, "clients got through")
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
async def a_manager_is_demoted_and_promoted_and_its_agent_hears_only_of_the_second(room: Room) -> None:
    await ready(room)
    leader = room.leader()
    target, other = (m for m in room.machines if m is not leader)
    agent, former = room.agents[target.node_id], target.member
    await agent.stop()
    agent.stay_with = other.addr
    room.network.cut(leader.ip, target.ip)
    room.network.cut(target.ip, leader.ip)
    await update_role(room, leader, target, WORKER)
    await room.until(lambda: _node(leader, target).role is WORKER, 10, "it is demoted")
    await update_role(room, leader, target, MANAGER)
    await room.until(lambda: _node(leader, target).role is MANAGER, 10, "it may become one")
    must(target.found is former, "its manager has not heard that it was taken out")
    agent.start()
    await room.until(lambda: agent.connected_to == other.addr, 5, "its agent hears that it is to be one")
    must(not former.consensus.removed, "its manager still has not heard")
    room.network.heal()
    await end(room)
    must(room.votes(target) and target.found is not former, "it is another member now")


@scenario()
async def a_join_is_cut_off_and_nobody_wants_it_any_more(room: Room) -> None:
    await ready(room, workers=1)
    leader, target = room.leader(), next(m for m in room.machines if m.found is None)
    target.disk.sync = 0.5
    await update_role(room, leader, target, MANAGER)
    await room.until(lambda: target.found is not None, 10, "it joins")
    must(not room.votes(target), "it is not through")
    target.power_cut()
    await update_role(room, leader, target, WORKER)
    await room.until(lambda: _node(leader, target).role is WORKER, 10, "it is demoted")
    target.start()
    await room.until(lambda: target.found is not None, 10, "what was left of it starts")
    await end(room)
    must(not list(target.root.iterdir()), "nothing is left")


@scenario()
async def a_manager_that_is_to_go_is_elected_and_agrees_to_its_own_removal(room: Room) -> None:
    """Of two, the leader loses power when only the other one has its removal on its disk: that one then leads, and is the
    only one to know when it is agreed on. The one that is left must learn of it before it ends."""
    await ready(room, managers=2)
    leader = room.leader()
    other = next(m for m in room.machines if m is not leader)
    agent = room.agents[other.node_id]
    await agent.stop()  # what is left of its manager stays
    log, known = other.member.consensus.runner.replica._node.raft.log, leader.member.consensus.applied
    leader.disk.sync = 5.0
    asking = asyncio.create_task(leader.do(lambda: leader.member.consensus.remove(other.node_id)))

    def heard() -> bool:
        return any(e.type is not EntryType.NORMAL for e in log.entries(known + 1))

    await room.until(heard, 1, "it has its removal in its log")
    must(len(leader.member.consensus.members()) == 2, "it is not agreed on")
    leader.power_cut()
    await asyncio.wait([asking])
    must(isinstance(asking.exception(), Unanswered), "nobody knows what became of it")
    leader.disk.sync = 0.001
    leader.start()
    await leader.up.wait()
    await room.until(lambda: leader.leads, 30, "the one that is left leads")
    must(len(leader.member.consensus.members()) == 1, "the other one is out")
    agent.start()
    await end(room)


def _node(leader: Machine, machine: Machine) -> model.Node:
    found = leader.member.store.view().nodes.get(machine.node_id)
    assert found is not None
    return found


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
