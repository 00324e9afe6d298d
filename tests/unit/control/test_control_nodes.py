"""Tasks and nodes by the Control service: lists, updates, removals, and managers that come and go."""

from dataclasses import replace

import pytest
from control_bench import CALLER, Bench, node, refused, spec, task

from common import errors, model


async def test_lists_of_tasks(bench: Bench) -> None:
    web = await bench.create(spec("web"))
    net = await bench.network("my-net")
    leg = model.NetworkAttachment(network_id=net.id, addresses=("10.0.1.5/24",))
    await bench.put(
        task("t1", web.id, spec_version=web.spec_version, networks=(leg,)),
        task("t2", web.id, desired=model.TaskState.TASK_SHUTDOWN, node_id="manager"),
        task("t3", "gone"),
    )

    async def found(*terms: tuple[str, str]) -> list[str]:
        return [t.id for t in (await bench.listed("tasks", *terms)).tasks]

    assert await found() == ["t1", "t2", "t3"]
    assert await found(("service", "web")) == ["t1", "t2"]
    assert await found(("service", web.id), ("_up-to-date", "true")) == ["t1"]
    assert await found(("node", "host-worker")) == ["t1", "t3"]
    assert await found(("node", "manager"), ("service", "web")) == ["t2"]
    assert await found(("desired-state", "running")) == ["t1", "t3"]
    assert await found(("desired-state", "shutdown"), ("desired-state", "running")) == ["t1", "t2", "t3"]
    assert await found(("id", "t2")) == ["t2"]
    assert await found(("name", "web.1.t1")) == ["t1"]
    await refused(found(("node", "nosuch")), "NotFound", "node nosuch not found")
    await refused(found(("service", "nosuch")), "NotFound", "service nosuch not found")
    await refused(
        found(("desired-state", "asleep")), "InvalidArgument", "Invalid desired-state filter: 'asleep'"
    )
    one = (await bench.control.get_task(model.GetRequest("t1"), CALLER)).task
    assert one.networks[0].network == net
    stored = bench.store.view().tasks.get("t1")
    assert stored is not None
    assert stored.networks[0].network is None
    await refused(
        bench.control.get_task(model.GetRequest("nosuch"), CALLER), "NotFound", "task nosuch not found"
    )


async def test_lists_of_nodes(bench: Bench) -> None:
    async def found(*terms: tuple[str, str]) -> list[str]:
        return [n.id for n in (await bench.listed("nodes", *terms)).nodes]

    assert await found() == ["manager", "worker"]
    assert await found(("role", "worker")) == ["worker"]
    assert await found(("name", "host-w")) == ["worker"]
    assert await found(("membership", "accepted")) == ["manager", "worker"]
    assert await found(("node.label", "zone=worker")) == ["worker"]
    assert await found(("id", "man")) == ["manager"]
    with pytest.raises(errors.InvalidArgument, match="Invalid filter 'foo'"):
        await found(("foo", "bar"))
    shown = (await bench.control.get_node(model.GetRequest("host-manager"), CALLER)).node
    assert shown.manager_status is not None
    assert shown.manager_status.leader
    await refused(
        bench.control.get_node(model.GetRequest("nosuch"), CALLER), "NotFound", "node nosuch not found"
    )


async def test_updates_of_nodes(bench: Bench) -> None:
    worker = bench.store.view().nodes.get("worker")
    manager = bench.store.view().nodes.get("manager")
    assert worker is not None
    assert manager is not None
    drained = replace(worker.spec, availability=model.Availability.DRAIN, labels={"a": "b"})
    request = model.UpdateNodeRequest("worker", worker.version, drained)
    reply = await bench.control.update_node(request, CALLER)
    assert reply.node.spec == drained
    await refused(bench.control.update_node(request, CALLER), "Unknown", "update out of sequence")
    demoted = replace(manager.spec, role=model.NodeRole.WORKER)
    await refused(
        bench.control.update_node(model.UpdateNodeRequest("manager", manager.version, demoted), CALLER),
        "FailedPrecondition",
        "attempting to demote the last manager of the swarm",
    )


async def test_removal_of_nodes(bench: Bench) -> None:
    await bench.put(node("ready"))
    await refused(
        bench.control.remove_node(model.RemoveRequest("manager", force=True), CALLER),
        "FailedPrecondition",
        "node manager is a cluster manager and is a member of the raft cluster. "
        "It must be demoted to worker before removal",
    )
    await refused(
        bench.control.remove_node(model.RemoveRequest("host-ready"), CALLER),
        "FailedPrecondition",
        "node ready is not down and can't be removed",
    )
    await bench.control.remove_node(model.RemoveRequest("ready", force=True), CALLER)
    await bench.control.remove_node(model.RemoveRequest("host-worker"), CALLER)
    assert [n.id for n in bench.store.view().nodes.all()] == ["manager"]


async def managers(bench: Bench, **up: bool) -> None:
    """Managers beside the first one; the value says whether they answer."""
    bench.consensus.status |= up
    for name in up:
        status = model.ManagerStatus(False, model.Reachability.REACHABLE, f"{name}:2377", 9)
        made = replace(node(name), role=model.NodeRole.MANAGER, manager_status=status)
        await bench.put(replace(made, spec=replace(made.spec, role=model.NodeRole.MANAGER)))


async def role(bench: Bench, name: str, wanted: model.NodeRole) -> model.Node:
    known = bench.store.view().nodes.get(name)
    assert known is not None
    spec = replace(known.spec, role=wanted)
    return (await bench.control.update_node(model.UpdateNodeRequest(name, known.version, spec), CALLER)).node


async def test_managers_come_and_go(bench: Bench) -> None:
    promoted = await role(bench, "worker", model.NodeRole.MANAGER)
    assert (promoted.spec.role, promoted.role) == (model.NodeRole.MANAGER, model.NodeRole.WORKER)
    await refused(
        role(bench, "manager", model.NodeRole.WORKER),
        "FailedPrecondition",
        "attempting to demote the last manager of the swarm",
    )
    assert (await role(bench, "worker", model.NodeRole.WORKER)).spec.role is model.NodeRole.WORKER
    await role(bench, "worker", model.NodeRole.MANAGER)
    await bench.control.remove_node(model.RemoveRequest("worker"), CALLER)


async def test_a_demotion_that_costs_the_quorum(bench: Bench) -> None:
    await managers(bench, second=True, third=False)
    lost = "can't remove member from the raft: this would result in a loss of quorum"
    await refused(role(bench, "second", model.NodeRole.WORKER), "FailedPrecondition", lost)
    await refused(role(bench, "manager", model.NodeRole.WORKER), "FailedPrecondition", lost)
    await refused(
        bench.control.remove_node(model.RemoveRequest("third", force=True), CALLER),
        "FailedPrecondition",
        "node third is a cluster manager and is a member of the raft cluster. "
        "It must be demoted to worker before removal",
    )
    await role(bench, "third", model.NodeRole.WORKER)
    await bench.control.remove_node(model.RemoveRequest("third", force=True), CALLER)
    assert (await role(bench, "manager", model.NodeRole.WORKER)).spec.role is model.NodeRole.WORKER
    await refused(
        role(bench, "second", model.NodeRole.WORKER),
        "FailedPrecondition",
        "attempting to demote the last manager of the swarm",
    )


async def test_every_manager_shows_who_leads(bench: Bench) -> None:
    await managers(bench, second=True)
    bench.consensus.leader, bench.consensus.leader_id = False, "second"
    shown = (await bench.control.list_nodes(model.ListRequest(), CALLER)).nodes
    assert {n.id: n.manager_status.leader for n in shown if n.manager_status} == {
        "manager": False,
        "second": True,
    }
