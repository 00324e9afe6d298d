"""Whatever happens, in any order: no promise is broken on the way, and afterwards the swarm is what was asked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import model
from common.model import Availability
from tests.simulation.swarm import Swarm
from tests.simulation.virtual import run

NODES = ("node1", "node2", "node3")
PORTS = (model.PortConfig(target_port=80, published_port=80),)
Event = tuple[str, int]

events = st.lists(
    st.tuples(
        st.sampled_from(
            ("scale", "kill", "crash", "power off", "power on", "drain", "active", "update", "leader", "mute",
             "cut", "restart agent")
        ),
        st.integers(0, 5),
        st.sampled_from((0.0, 0.013, 0.1, 0.7, 3.0, 8.0)),
    ),
    max_size=12,
)  # fmt: skip


async def happen(swarm: Swarm, service: str, event: str, number: int) -> None:
    agent = swarm.agents[NODES[number % 3]]
    running = swarm.running_tasks(service)
    off = agent._main is None or agent._main.done()
    match event:
        case "scale":
            await swarm.scale(service, number)
        case "kill" | "crash" if running:
            task = running[number % len(running)]
            container = swarm.agents[task.node_id].containers.get(task.id)
            if container is not None:
                container.kill.set()
        case "power off" if not off:
            await agent.power_off()
        case "power on" if off:
            agent.start()
        case "restart agent" if not off:
            await agent.stop()
            agent.start()
        case "drain":
            await swarm.availability(agent.id, Availability.DRAIN)
        case "active":
            await swarm.availability(agent.id, Availability.ACTIVE)
        case "update":
            await swarm.change(
                service, lambda s: replace(s, task=replace(s.task, force_update=s.task.force_update + 1))
            )
        case "leader":
            await swarm.depose()
            swarm.lead()
        case "mute":
            agent.mute = not agent.mute
        case "cut":
            agent.online = not agent.online


async def calm(swarm: Swarm) -> None:
    """Everything is repaired."""
    for agent in swarm.agents.values():
        agent.online, agent.mute = True, False
        await swarm.availability(agent.id, Availability.ACTIVE)
        if agent._main is None or agent._main.done():
            agent.start()


async def story(plan: list[tuple[str, int, float]], order: model.UpdateOrder) -> None:
    async with Swarm(3).running() as swarm:
        swarm.start_first = order == model.UpdateOrder.START_FIRST
        await swarm.network("front")
        service = await swarm.create(
            "web", 3, networks=("front",), ports=PORTS,
            update=model.UpdateConfig(parallelism=1, order=order, failure_action=model.FailureAction.FAILURE_CONTINUE),
        )  # fmt: skip
        for event, number, pause in plan:
            await happen(swarm, service, event, number)
            await asyncio.sleep(pause)
        await calm(swarm)
        await swarm.scale(service, 4)
        await swarm.converged(service, 4, 240)
        await asyncio.sleep(90)
        await swarm.converged(service, 4, 1)
        for agent in swarm.agents.values():
            alive = {t for t, c in agent.containers.items() if c.status.state == model.TaskState.TASK_RUNNING}
            assert alive == {t.id for t in swarm.running_tasks(service) if t.node_id == agent.id}
        await swarm.remove(service)
        await swarm.until(lambda: not swarm.tasks(service))
        await asyncio.sleep(90)
        assert not any(n.held for n in swarm.store.view().networks.all())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events, st.sampled_from((model.UpdateOrder.STOP_FIRST, model.UpdateOrder.START_FIRST)))
def test_converges_whatever_happens(plan: list[tuple[str, int, float]], order: model.UpdateOrder) -> None:
    run(story(plan, order))
