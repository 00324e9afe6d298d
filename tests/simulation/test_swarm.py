"""The leader's loops together, in virtual time: what a user sees of create, scale, failures, updates."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from common import model
from common.model import Availability, NodeState, TaskState, UpdateState
from manager import lifecycle
from tests.simulation.swarm import Swarm
from tests.simulation.virtual import run

WEB = (model.PortConfig(target_port=80, published_port=80),)


async def ready(swarm: Swarm) -> None:
    await swarm.until(
        lambda: all(
            n.status.state == NodeState.NODE_READY and n.attachments for n in swarm.store.view().nodes.all()
        ),
        5,
    )


def test_create_scale_remove() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            await ready(swarm)
            assert {n.number for n in swarm.store.view().nodes.all()} == {1, 2, 3}
            await swarm.network("front")
            service = await swarm.create("my-nginx", 5, networks=("front",), ports=WEB)
            took = await swarm.converged(service, 5)
            assert took < 1, took
            found = swarm.store.view().services.get(service)
            assert {v.network_id for v in found.endpoint.virtual_ips} == {"ingress", "front"}
            per_node = [sum(t.node_id == n for t in swarm.tasks(service)) for n in swarm.agents]
            assert sorted(per_node) == [1, 2, 2]
            assert swarm.unready == 0, "peers were not ready in time"
            await swarm.scale(service, 2)
            await swarm.until(lambda: len(swarm.tasks(service)) == 2)
            await swarm.scale(service, 7)
            await swarm.converged(service, 7)
            await swarm.remove(service)
            await swarm.until(lambda: not swarm.tasks(service))
            assert swarm.early_stops == []
            for agent in swarm.agents.values():
                await swarm.until(lambda agent=agent: not agent.state.tasks and not agent.state.endpoints)
            held = sum(len(n.held) for n in swarm.store.view().networks.all())
            assert held > 0
            await asyncio.sleep(70)
            assert not any(n.held for n in swarm.store.view().networks.all())

    run(story())


def test_idle_swarm_writes_nothing() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 3, networks=("front",))
            await swarm.converged(service, 3)
            await asyncio.sleep(1)
            entries, received = swarm.entries, swarm.received
            await asyncio.sleep(600)
            assert (swarm.entries, swarm.received) == (entries, received)
            assert all(n.status.state == NodeState.NODE_READY for n in swarm.store.view().nodes.all())

    run(story())


def test_killed_task_is_replaced_after_the_delay() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            service = await swarm.create("web", 2)
            await swarm.converged(service, 2)
            victim = swarm.tasks(service)[0]
            swarm.agents[victim.node_id].containers[victim.id].kill.set()
            await swarm.until(lambda: len(swarm.running_tasks(service)) == 1)
            took = await swarm.converged(service, 2)
            assert 4.5 < took < 6, took
            dead = swarm.store.view().tasks.get(victim.id)
            assert dead.status.state == TaskState.TASK_FAILED
            assert dead.desired_state == TaskState.TASK_SHUTDOWN
            assert dead.status.err == "task: non-zero exit (137)"

    run(story())


def test_history_is_kept_to_five() -> None:
    async def story() -> None:
        async with Swarm(1).running() as swarm:
            service = await swarm.create("web", 1, restart=model.RestartPolicy(delay=0))
            for _ in range(9):
                await swarm.converged(service, 1)
                (task,) = swarm.running_tasks(service)
                swarm.agents[task.node_id].containers[task.id].kill.set()
                await swarm.until(lambda: not swarm.running_tasks(service))
            await swarm.converged(service, 1)
            await asyncio.sleep(1)
            assert len(swarm.tasks(service)) == 5

    run(story())


def test_max_attempts() -> None:
    async def story() -> None:
        async with Swarm(1).running() as swarm:
            swarm.broken_images.add("bad")
            policy = model.RestartPolicy(delay=1_000_000_000, max_attempts=7)
            service = await swarm.create("web", 1, image="bad", restart=policy)
            await asyncio.sleep(60)
            assert len(swarm.tasks(service)) == 8
            assert all(t.status.state == TaskState.TASK_FAILED for t in swarm.tasks(service))
            swarm.broken_images.clear()
            spec = lambda s: replace(s, task=replace(s.task, force_update=1))  # noqa: E731
            await swarm.change(service, spec)
            await swarm.converged(service, 1)

    run(story())


def test_lost_node_is_down_and_its_tasks_move_at_once() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 6, networks=("front",), ports=WEB)
            await swarm.converged(service, 6)
            await swarm.agents["node3"].power_off()
            view = swarm.store.view()
            took = await swarm.until(lambda: view.nodes.get("node3").status.state == NodeState.NODE_DOWN)
            assert 4 <= took < 7, took
            took = await swarm.converged(service, 6)
            assert took < 1, took
            assert view.nodes.get("node3").status.message == "heartbeat failure"
            swarm.agents["node3"].start()
            await swarm.until(lambda: view.nodes.get("node3").status.state == NodeState.NODE_READY)
            await asyncio.sleep(5)
            left = [t for t in view.tasks.by_node("node3") if t.status.state <= TaskState.TASK_RUNNING]
            assert left == []
            assert len(swarm.running_tasks(service)) == 6

    run(story())


def test_agent_restart_changes_nothing() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            service = await swarm.create("web", 4)
            await swarm.converged(service, 4)
            before = {t.id for t in swarm.running_tasks(service)}
            await swarm.agents["node1"].stop()
            await asyncio.sleep(1)
            swarm.agents["node1"].start()
            await asyncio.sleep(20)
            assert {t.id for t in swarm.running_tasks(service)} == before

    run(story())


def test_drain_moves_tasks() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 4, networks=("front",))
            await swarm.converged(service, 4)
            await swarm.availability("node1", Availability.DRAIN)
            await swarm.until(lambda: all(t.node_id == "node2" for t in swarm.running_tasks(service)), 5)
            await swarm.converged(service, 4)
            assert swarm.early_stops == []

    run(story())


def test_a_mute_node_holds_a_stop_back_for_three_seconds() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 4, networks=("front",))
            await swarm.converged(service, 4)
            swarm.agents["node2"].mute = True
            await swarm.scale(service, 3)
            took = await swarm.until(lambda: len(swarm.tasks(service)) == 3)
            assert 3 <= took < 4, took

    run(story())


def test_rolling_update_stop_first() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            await swarm.network("front")
            service = await swarm.create(
                "web", 6, networks=("front",), update=model.UpdateConfig(parallelism=2)
            )
            await swarm.converged(service, 6)
            low = 6
            await swarm.change(service, lambda s: replace(s, task=replace(s.task, force_update=1)))
            view = swarm.store.view()
            await swarm.until(lambda: view.services.get(service).update_status is not None)
            assert view.services.get(service).update_status.state == UpdateState.UPDATE_UPDATING

            def done() -> bool:
                nonlocal low
                low = min(low, len(swarm.running_tasks(service)))
                return view.services.get(service).update_status.state == UpdateState.UPDATE_COMPLETED

            took = await swarm.until(done)
            assert low == 4
            assert took < 10, took
            version = view.services.get(service).spec_version
            assert all(t.spec_version == version for t in swarm.running_tasks(service))
            assert swarm.early_stops == []
            assert swarm.overlaps == []

    run(story())


def test_rolling_update_start_first_never_falls_below() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            swarm.start_first = True
            update = model.UpdateConfig(parallelism=1, order=model.UpdateOrder.START_FIRST)
            service = await swarm.create("web", 3, update=update)
            await swarm.converged(service, 3)
            low = 3
            await swarm.change(service, lambda s: replace(s, task=replace(s.task, force_update=1)))
            view = swarm.store.view()

            def done() -> bool:
                nonlocal low
                low = min(low, len(swarm.running_tasks(service)))
                status = view.services.get(service).update_status
                return status is not None and status.state == UpdateState.UPDATE_COMPLETED

            await swarm.until(done)
            assert low == 3
            await swarm.converged(service, 3)

    run(story())


def test_a_service_moves_to_another_network() -> None:
    """--network-add and --network-rm at once: one task after the other, and what is left serves under its old VIP."""

    async def story() -> None:
        async with Swarm(3).running() as swarm:
            for name in ("old", "new"):
                await swarm.network(name)
            service = await swarm.create("web", 3, networks=("old",))
            await swarm.converged(service, 3)
            target = (model.NetworkAttachmentConfig(target="new"),)
            await swarm.change(service, lambda s: replace(s, task=replace(s.task, networks=target)))
            view = swarm.store.view()
            seen: list[tuple[int, list[str]]] = []

            def done() -> bool:
                found = view.services.get(service)
                left = [t for t in view.tasks.by_service(service) if not lifecycle.ended(t)]
                old = sum(a.network_id == "old" for t in left for a in t.networks)
                now = (old, sorted(v.network_id for v in found.endpoint.virtual_ips))
                if not seen or seen[-1] != now:
                    seen.append(now)
                status = found.update_status
                return status is not None and status.state == UpdateState.UPDATE_COMPLETED

            took = await swarm.until(done)
            assert 5 < took < 20, took  # one at a time, then five seconds of watching
            assert [old for old, vips in seen if vips == ["new", "old"]][:3] == [3, 2, 1]
            assert seen[-1] == (0, ["new"])
            assert swarm.early_stops == []

    run(story())


def test_another_endpoint_mode_makes_no_task_anew() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 2, networks=("front",))
            await swarm.converged(service, 2)
            before = {t.id for t in swarm.running_tasks(service)}
            view = swarm.store.view()
            for mode in (model.EndpointMode.DNSRR, model.EndpointMode.VIP):
                await swarm.change(service, lambda s, m=mode: replace(s, endpoint=model.EndpointSpec(mode=m)))
                wanted = 1 if mode is model.EndpointMode.VIP else 0
                await swarm.until(
                    lambda n=wanted: len(view.services.get(service).endpoint.virtual_ips) == n, 5
                )
                await asyncio.sleep(10)
                assert {t.id for t in swarm.running_tasks(service)} == before
                (record,) = {a.state.services[service].mode for a in swarm.agents.values()}
                assert record == mode

    run(story())


def test_failing_update_pauses_and_rolls_back() -> None:
    async def story(action: model.FailureAction, state: UpdateState) -> None:
        async with Swarm(2).running() as swarm:
            update = model.UpdateConfig(parallelism=1, failure_action=action)
            service = await swarm.create("web", 3, update=update)
            await swarm.converged(service, 3)
            swarm.broken_images.add("bad")
            await swarm.change(
                service,
                lambda s: replace(s, task=replace(s.task, container=model.ContainerSpec(image="bad"))),
            )
            view = swarm.store.view()

            def reached() -> bool:
                status = view.services.get(service).update_status
                return status is not None and status.state == state

            await swarm.until(reached, 60)
            assert len(swarm.running_tasks(service)) >= 2
            if action == model.FailureAction.FAILURE_ROLLBACK:
                await swarm.converged(service, 3)

    run(story(model.FailureAction.FAILURE_PAUSE, UpdateState.UPDATE_PAUSED))
    run(story(model.FailureAction.FAILURE_ROLLBACK, UpdateState.UPDATE_ROLLBACK_COMPLETED))


def test_new_leader_goes_on() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 5, networks=("front",), ports=WEB)
            await asyncio.sleep(0.03)
            await swarm.depose()
            await asyncio.sleep(5)
            swarm.lead()
            await swarm.converged(service, 5)
            before = {t.id for t in swarm.running_tasks(service)}
            await swarm.depose()
            await asyncio.sleep(120)
            swarm.lead()
            await asyncio.sleep(60)
            assert {t.id for t in swarm.running_tasks(service)} == before

    run(story())


def test_sixty_tasks_on_an_overlay() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 60, networks=("front",))
            took = await swarm.converged(service, 60)
            assert took < 2, took
            assert swarm.received < 60, swarm.received
            assert swarm.unready == 0

    run(story())


def test_a_thousand_tasks_come_in_transactions_of_bounded_size() -> None:
    async def story() -> None:
        async with Swarm(3).running() as swarm:
            service = await swarm.create("web", 1000)
            await swarm.converged(service, 1000)

    run(story())


def test_released_addresses_are_free_again_after_a_minute_though_nothing_else_happens() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 4, networks=("front",))
            await swarm.converged(service, 4)
            await swarm.scale(service, 3)
            view = swarm.store.view()
            await swarm.until(lambda: len(view.networks.get("front").held) == 1)
            took = await swarm.until(lambda: not view.networks.get("front").held, 70)
            assert 59 < took < 64, took

    run(story())


def test_a_node_that_does_not_acknowledge_keeps_addresses_from_being_given_again() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            await swarm.network("front")
            service = await swarm.create("web", 4, networks=("front",))
            await swarm.converged(service, 4)
            swarm.agents["node1"].mute = True
            await swarm.scale(service, 3)
            await asyncio.sleep(200)
            view = swarm.store.view()
            assert len(view.networks.get("front").held) == 1
            swarm.agents["node1"].mute = False
            swarm.agents["node1"]._changed.set()
            await swarm.until(lambda: not view.networks.get("front").held)

    run(story())


def test_an_exhausted_network_shows_in_the_tasks_and_recovers() -> None:
    async def story() -> None:
        async with Swarm(2).running() as swarm:
            ipam = model.IPAMOptions(configs=(model.IPAMConfig(subnet="10.9.0.0/29"),))
            small = model.Network(id="small", spec=model.NetworkSpec(name="small", ipam=ipam))
            await swarm.store.update(lambda tx: tx.put(small))
            service = await swarm.create("web", 7, networks=("small",))
            await swarm.until(lambda: len(swarm.running_tasks(service)) == 4)
            await asyncio.sleep(1)
            entries = swarm.entries
            await asyncio.sleep(100)
            assert swarm.entries == entries, "retries without news"
            waiting = [t for t in swarm.tasks(service) if t.status.state == TaskState.TASK_NEW]
            assert len(waiting) == 3
            assert {t.status.err for t in waiting} == {"no available IPv4 addresses on network small"}
            other = await swarm.create("other", 1, networks=("small",))
            await swarm.until(lambda: swarm.store.view().services.get(other).error != "")
            await swarm.remove(other)
            await swarm.scale(service, 4)
            await swarm.converged(service, 4)
            (victim, *_) = swarm.running_tasks(service)
            await swarm.availability(victim.node_id, Availability.DRAIN)
            await swarm.converged(service, 4, 90)

    run(story())
