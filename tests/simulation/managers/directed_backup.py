"""Directed scenarios of backups: one manager is set back to a file, and the others know nothing of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from common import model
from manager import backup
from manager.store import codec
from tests.simulation.managers.agents import PretendAgent
from tests.simulation.managers.checks import LABEL
from tests.simulation.managers.machine import Machine
from tests.simulation.managers.room import MANAGER, Room
from tests.simulation.managers.stories import another_leader, must, ready, scenario, update_role, write
from tests.simulation.swarm import service_spec

Objects = dict[tuple[str, str], Any]


@scenario()
async def restored_backup_is_newer_than_the_swarm_that_goes_on(room: Room) -> None:
    """Twice from the same file, each time in a swarm that went on after it."""
    await ready(room, workers=1)
    one = room.leader()
    await write(room, one, "before")
    follower = next(m for m in room.machines[:3] if m is not one)
    data = await follower.backup()
    held = _objects(codec.decode_snapshot(model.RaftSnapshot.from_bytes(backup.read(data)[1]).data)[0])
    must(_register(room, held) == "before", "the backup has what was acknowledged")
    epochs = [one.member.store.view().cluster.epoch]
    for number in range(2):
        leader = room.leader()
        await _goes_on(room, leader, f"after{number}")
        must(_objects(leader.member.store.capture().objects).keys() > held.keys(), "the swarm has gone on")
        epochs.append(await _set_back(room, one, data, held, f"old{number}"))
        must(epochs == sorted(set(epochs)), f"every epoch is higher than the last: {epochs}")
        await _converges(room, one, epochs[-1])
        must(_lasting(_now(one), held) == _lasting(held, held), "all is as in the backup")
    must(await room.patiently(lambda: _written(room, one)) == "next", "the swarm goes on")
    await room.settle()


async def _goes_on(room: Room, leader: Machine, value: str) -> None:
    """Acknowledged writes that the backup knows nothing of: a value, a service, a network, more replicas."""
    await write(room, leader, value)
    await leader.control("create_service", model.CreateServiceRequest(service_spec(f"of-{value}", 2)))
    network = model.NetworkSpec(name=f"net-of-{value}")
    await leader.control("create_network", model.CreateNetworkRequest(network))
    web = (await leader.control("get_service", model.GetRequest("web"))).service
    spec = replace(web.spec, mode=model.ServiceMode(replicated=model.ReplicatedMode(5)))
    await leader.control("update_service", model.UpdateServiceRequest(web.id, web.version, spec))
    await room.until(lambda: not room.unsettled(), 60, room.unsettled)


async def _set_back(room: Room, one: Machine, data: bytes, held: Objects, value: str) -> int:
    """`one` is restored, the others, whom it cannot reach, go on; says which epoch it has then."""
    others = [m for m in room.machines[:3] if m is not one]
    worker = room.agents[room.machines[3].node_id]
    worker.stay_with = others[0].addr
    for machine in others:
        room.agents[machine.node_id].stay_with = machine.addr
        room.network.cut(machine.ip, one.ip)
        room.network.cut(one.ip, machine.ip)
    highest = max(room.checks.obeyed.values())
    await one.restore(data)
    found = _now(one)
    must(_lasting(found, held) == _lasting(held, held), "what was restored is what the backup holds")
    must({k for k in found if k[0] != "Task"} == {k for k in held if k[0] != "Task"}, "nothing else is there")
    must(not _strangers(found), "no task is of a service that isn't there")
    own = room.agents[one.node_id]
    own.identity, own.managers = one.identity(), (one.addr,)
    await room.until(lambda: one.leads, 10, "it does not lead alone")
    term, epoch = one.member.consensus.term, one.member.store.view().cluster.epoch
    await room.until(lambda: own.state.fence.epoch == epoch, 20, "its own agent does not follow it")
    must(room.checks.obeyed[own.id] > highest, "it is newer than all that agents have obeyed")

    old = await another_leader(room, one)
    await room.until(lambda: worker.connected_to == others[0].addr, 30, "the worker is not with the old ones")
    await write(room, old, value)
    old_web = (await old.control("get_service", model.GetRequest("web"))).service
    spec = replace(old_web.spec, mode=model.ServiceMode(replicated=model.ReplicatedMode(7)))
    await old.control("update_service", model.UpdateServiceRequest(old_web.id, old_web.version, spec))
    await asyncio.sleep(15)
    must(worker.state.fence.epoch < epoch, "the worker has heard the old ones only")
    must(old.leads and one.leads and one.member.consensus.term == term, "both lead on, each in its term")
    must([s.member.node_id for s in one.member.consensus.members()] == [one.node_id], "it is alone")
    must(_lasting(_now(one), held) == _lasting(held, held), "the old ones change nothing in it")

    await _follows(room, worker, one, epoch)
    # It goes back to the old ones, who go on all the time: it does nothing that they say.
    obeyed = room.checks.obeyed[worker.id]
    _send(room, worker, old.addr)
    await asyncio.sleep(10)
    must(old.leads, "the old ones still lead")
    must(room.checks.obeyed[worker.id] == obeyed, "the worker obeys the old ones no longer")
    must(worker.state.fence.epoch == epoch, "the worker is true to the restored one")
    _send(room, worker, "")
    return epoch


async def _converges(room: Room, one: Machine, epoch: int) -> None:
    """The old managers reach the restored one, which ends them, also those that joined after the backup. All come back."""
    others = [m for m in room.machines[:3] if m is not one]
    term = one.member.consensus.term
    room.calm()
    await room.until(lambda: all(m.found is None for m in others), 10, "the old ones do not end")
    must(one.leads and one.member.consensus.term == term, "it leads on all the time")
    agents = [room.agents[m.node_id] for m in room.machines]
    await room.until(
        lambda: all(a.state.fence.epoch == epoch for a in agents),
        90,
        lambda: f"agents obey {[a.state.fence.epoch for a in agents]}",
    )
    must(all(m.found is None for m in others), "the old ones do not come back by themselves")
    for machine in others:
        await update_role(room, one, machine, MANAGER)
    await room.until(lambda: all(room.votes(m) for m in others), 60, "they are no managers again")
    await room.settle()


# ---- agents


def _send(room: Room, agent: PretendAgent, addr: str) -> None:
    """An agent loses its session, and goes there."""
    agent.stay_with = addr
    for connection in list(room.network.connections.values()):
        if connection.ends[0] is agent.process:
            connection.lose(0)


async def _follows(room: Room, agent: PretendAgent, one: Machine, epoch: int) -> None:
    _send(room, agent, one.addr)
    await room.until(
        lambda: agent.state.fence.epoch == epoch, 30, lambda: f"{agent.machine} obeys {agent.state.fence}"
    )


# ---- what a manager has


def _objects(things: Any) -> Objects:
    return {(type(t).__name__, t.id): t for t in things}


def _now(machine: Machine) -> Objects:
    return _objects(machine.member.store.capture().objects)


def _lasting(found: Objects, held: Objects) -> Objects:
    """What nobody but a user changes, as it is; of nodes, what users say of them but for their role."""
    kinds = {key[0] for key in (*found, *held)} - {"Task", "Cluster", "Node"}
    lasting = {key: thing for key, thing in found.items() if key[0] in kinds}
    for key, thing in found.items():
        if key[0] == "Node":
            lasting[key] = (replace(thing.spec, role=MANAGER), thing.number, thing.description.machine)
        elif key[0] == "Cluster":
            lasting[key] = (thing.spec, thing.root_ca)
    return lasting


def _strangers(found: Objects) -> list[str]:
    return [k[1] for k, t in found.items() if k[0] == "Task" and ("Service", t.service_id) not in found]


def _register(room: Room, found: Objects) -> str | None:
    service = next(t for k, t in found.items() if k[0] == "Service" and t.spec.name == room.registers[0])
    value: str | None = service.spec.labels.get(LABEL)
    return value


async def _written(room: Room, machine: Machine) -> str | None:
    await write(room, machine, "next")
    return _register(room, _now(machine))
