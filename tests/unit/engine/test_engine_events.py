"""GET /events over what the runtime sees and what handlers do."""

import asyncio
import json

import pytest
from engine_fakes import NOW, World

from agent.engine import telling
from agent.runtime.api import ContainerConfig, ContainerEvent, ContainerState, EventKind, ExitStatus, Status

CONFIG = ContainerConfig("c" * 64, "web", "nginx", labels={"tier": "front"})


class Story:
    """The events of a runtime, one by one."""

    def __init__(self):
        self.queue = asyncio.Queue()

    async def watch(self):
        while True:
            yield await self.queue.get()
            self.queue.task_done()

    async def tell(self, *events):
        for event in events:
            self.queue.put_nowait(event)
        async with asyncio.timeout(10):
            await self.queue.join()


def event(kind, **more):
    return ContainerEvent(kind, CONFIG.id, NOW, config=CONFIG, **more)


@pytest.fixture
async def story(world: World):
    told = Story()
    world.runtime.watch = told.watch

    async def container(id):
        return next((c for c in world.runtime.running if c.id == id), None)

    world.runtime.container = container
    backend = world.engine._backend
    watching = asyncio.create_task(telling.watch(backend))
    yield told
    watching.cancel()
    await asyncio.wait([watching])


async def lines(world, **query):
    async with world.client.get("/events", params=query) as response:
        return [json.loads(line) for line in (await response.text()).splitlines()]


PAST = {"since": "1", "until": str(NOW // 10**9 + 1)}


async def test_a_life(world, story):
    running = ContainerState(CONFIG.id, "web", "nginx", CONFIG.labels, Status.RUNNING, pid=7, config=CONFIG)
    await story.tell(event(EventKind.RESYNC), event(EventKind.CREATE))
    world.runtime.running = [running]
    ended = {"exit": ExitStatus(3, NOW), "started_at": NOW - 5 * 10**9}
    await story.tell(
        event(EventKind.START), event(EventKind.KILL, signal=15), event(EventKind.EXIT, **ended),
        event(EventKind.REMOVE),
    )  # fmt: skip
    found = await within(lines(world, **PAST))
    assert [line["Action"] for line in found] == ["create", "start", "kill", "die", "destroy"]
    own = {"image": "nginx", "name": "web", "tier": "front"}
    assert found[2]["Actor"]["Attributes"] == {**own, "signal": "15"}
    assert found[3]["Actor"]["Attributes"] == {**own, "exitCode": "3", "execDuration": "5"}
    (died,) = await within(lines(world, **PAST, filters='{"event":["die"],"label":["tier=front"]}'))
    assert (died["status"], died["id"], died["from"]) == ("die", CONFIG.id, "nginx")


async def within(work):
    async with asyncio.timeout(10):
        return await work


async def test_what_comes_is_told_at_once(world, story):
    async with world.client.get("/events", params={"filters": '{"type":["container"]}'}) as response:
        await story.tell(event(EventKind.CREATE))
        line = json.loads(await within(response.content.readline()))
    assert (line["Action"], line["timeNano"]) == ("create", NOW)


async def test_networks_tell_too(world):
    _, made = await world.ask("POST", "/networks/create", {"Name": "net"})
    assert (await world.ask("DELETE", "/networks/net"))[0] == 204
    found = await within(lines(world, **PAST))
    assert [(line["Type"], line["Action"], line["Actor"]) for line in found] == [
        ("network", action, {"ID": made["Id"], "Attributes": {"name": "net", "type": "bridge"}})
        for action in ("create", "destroy")
    ]


@pytest.mark.parametrize(
    "query", [{"since": "x"}, {"until": "x"}, {"since": "9", "until": "8"}, {"filters": "x"}]
)
async def test_what_makes_no_sense(world, query):
    async with world.client.get("/events", params=query) as response:
        assert response.status == 400
