"""The agent's side of places in the swarm's networks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.single.attachments import Attachments
from agent.single.record import Leg, SingleRecord
from agent.state import NodeState
from agent.statuses import StatusQueue
from common import errors, model
from common.clock import SystemClock

RECORD = SingleRecord("c" * 64, "one", "net", (Leg("net", ("al",)),))
HELD = replace(RECORD, legs=(Leg("net", ("al",), attachment="a1"),), sandbox="c" * 64)
S = model.TaskState


class Bench:
    def __init__(self, patience: float = 20.0, peers: float = 20.0) -> None:
        self.statuses = StatusQueue()
        self.stood: list[str] = []
        self.told: list[model.ContainerAttachments] = []
        self.places = Attachments(self.statuses, SystemClock(), self.stands, patience, peers)
        self.places.declare = lambda: self.told.append(self.places.held)
        self.places.update(NodeState("n1"))

    async def stands(self, id: str) -> None:
        self.stood.append(id)

    def give(self, state: S = S.TASK_ASSIGNED, ready: bool = True, *addresses: str, mac: str = "") -> None:
        """The managers give what was asked for last."""
        id = self.told[-1].held[0].id
        given = model.NetworkAttachment(network_id="net", addresses=addresses, mac=mac)
        task = model.Task(id=id, status=model.TaskStatus(state=state), networks=(given,))
        self.places.update(NodeState("n1", tasks={id: model.TaskAssignment(task, ready)}))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_place_is_named_given_told_and_let_go() -> None:
    b = Bench()
    asking = asyncio.create_task(b.places.acquire(RECORD, RECORD.legs[0]))
    await until(lambda: b.told)
    (named,) = b.told[0].held
    assert (named.container_id, named.name) == ("c" * 64, "one")
    assert named.networks == (model.NetworkAttachmentConfig("net", ("al",)),)
    b.give(S.TASK_PENDING)
    b.give(ready=False)
    await until(lambda: b.stood == [named.id])
    assert not asking.done()
    b.give()
    assert await asking == named.id
    b.places.started(named.id, "c" * 64, 7)
    batch = b.statuses.batch()
    assert batch is not None and batch.updates[0].status.state == S.TASK_RUNNING
    b.places.release(named.id)
    assert b.told[-1].held == ()


async def test_the_managers_refusal_is_dockers_text() -> None:
    b = Bench()
    asking = asyncio.create_task(b.places.acquire(RECORD, RECORD.legs[0]))
    await until(lambda: b.told)
    said = "network net not manually attachable"
    b.places.refused(model.AttachmentRefused(b.told[0].held[0].id, "net", "PermissionDenied", said))
    with pytest.raises(errors.ShoalError) as caught:
        await asking
    assert caught.value.message == (
        f"Could not attach to network net: rpc error: code = PermissionDenied desc = {said}"
    )
    assert caught.value.status == 500
    assert b.told[-1].held == ()


async def test_managers_that_do_not_answer_and_no_swarm_at_all() -> None:
    b = Bench(patience=0.01)
    with pytest.raises(
        errors.ShoalError, match=r"attaching to network failed, make sure .* deadline exceeded"
    ):
        await b.places.acquire(RECORD, RECORD.legs[0])
    b.places.update(NodeState())
    with pytest.raises(errors.NotFound, match="network net not found"):
        await b.places.acquire(RECORD, RECORD.legs[0])
    assert b.places.held.held == ()


async def test_other_nodes_are_not_waited_for_without_end() -> None:
    b = Bench(peers=0.01)
    asking = asyncio.create_task(b.places.acquire(RECORD, RECORD.legs[0]))
    await until(lambda: b.told)
    b.give(ready=False)
    assert await asking


async def test_another_swarm_knows_nothing_of_places_in_the_last_one() -> None:
    b = Bench()
    b.places.keep([HELD])
    b.places.update(NodeState("n2"))
    assert b.told[-1].held == ()


async def test_after_a_restart_places_are_kept_and_told_again() -> None:
    b = Bench()
    b.places.keep([HELD, SingleRecord("d" * 64)])
    assert [place.id for place in b.places.held.held] == ["a1"]
    b.places.started("a1", "c" * 64, 7)
    assert b.statuses.batch() is None  # the managers have not spoken yet
    task = model.Task(id="a1", status=model.TaskStatus(state=S.TASK_ASSIGNED))
    b.places.update(NodeState("n1", tasks={"a1": model.TaskAssignment(task)}))
    batch = b.statuses.batch()
    assert batch is not None and [u.task_id for u in batch.updates] == ["a1"]


async def test_a_new_name_is_told_at_once() -> None:
    b = Bench()
    b.places.keep([HELD])
    b.places.renamed(replace(HELD, name="new"))
    assert b.told[-1].held == (replace(b.told[-1].held[0], id="a1", name="new"),)


CHOSEN = Leg("net", wanted="10.0.1.7", wanted6="fd00::07", mac="92:d0:c6:0a:29:33")


async def test_the_address_and_mac_that_a_container_asks_for() -> None:
    b = Bench()
    asking = asyncio.create_task(b.places.acquire(RECORD, CHOSEN))
    await until(lambda: b.told)
    (config,) = b.told[0].held[0].networks
    assert (config.addresses, config.mac) == (("10.0.1.7", "fd00::07"), "92:d0:c6:0a:29:33")
    b.give(S.TASK_ASSIGNED, True, "10.0.1.7/24", "fd00::7/64", mac="92:d0:c6:0a:29:33")
    assert b.places.addresses(await asking) == ("10.0.1.7", "fd00::7")


@pytest.mark.parametrize(
    ("addresses", "mac", "what"),
    [
        (("10.0.1.2/24", "fd00::7/64"), "92:d0:c6:0a:29:33", "address"),
        (("10.0.1.7/24", "fd00::7/64"), "", "MAC address"),
    ],
)
async def test_older_managers_give_something_else(addresses: tuple[str, ...], mac: str, what: str) -> None:
    b = Bench()
    asking = asyncio.create_task(b.places.acquire(RECORD, CHOSEN))
    await until(lambda: b.told)
    b.give(S.TASK_ASSIGNED, True, *addresses, mac=mac)
    with pytest.raises(errors.ShoalError, match=f"too old to give a chosen {what}: upgrade them"):
        await asking
    assert b.told[-1].held == ()


async def test_an_address_that_cannot_be_had() -> None:
    b = Bench()
    asking = asyncio.create_task(b.places.acquire(RECORD, CHOSEN))
    await until(lambda: b.told)
    b.places.refused(
        model.AttachmentRefused(b.told[0].held[0].id, "net", "", "Invalid address", address=True)
    )
    with pytest.raises(
        errors.ShoalError, match=r"^attaching to network failed, .* manager logs: Invalid address$"
    ):
        await asking


async def test_an_address_that_somebody_has_is_waited_for() -> None:
    b = Bench()
    asking = asyncio.create_task(b.places.acquire(RECORD, CHOSEN))
    await until(lambda: b.told)
    taken = model.AttachmentRefused(b.told[0].held[0].id, "net", "", "in use", address=True, waits=True)
    b.places.refused(taken)
    b.give(S.TASK_ASSIGNED, False, "10.0.1.7/24", "fd00::7/64", mac="92:d0:c6:0a:29:33")
    await until(lambda: b.stood)
    b.places.refused(taken)  # late: it has its place
    b.give(S.TASK_ASSIGNED, True, "10.0.1.7/24", "fd00::7/64", mac="92:d0:c6:0a:29:33")
    assert await asking
    b = Bench(patience=0.01)
    asking = asyncio.create_task(b.places.acquire(RECORD, CHOSEN))
    await until(lambda: b.told)
    b.places.refused(replace(taken, id=b.told[0].held[0].id))
    with pytest.raises(errors.ShoalError, match=r"manager logs: context deadline exceeded: in use$"):
        await asking
