"""Filters with Docker's explanations, spread, preferences."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import model, overlays
from common.model import Availability, NodeState, PublishMode, TaskState
from manager.lifecycle import SECOND
from manager.plan import Plan
from manager.scheduler.nodeset import load
from manager.scheduler.place import place
from manager.scheduler.reconcile import Scheduler
from manager.store.tables import view_of
from manager.store.view import THIS_INDEX

NOW = 1_000_000 * SECOND
S = TaskState
Thing = model.Node | model.Task | model.Network


def node(name: str, **labels: str) -> model.Node:
    return model.Node(
        id=name,
        spec=model.NodeSpec(labels=labels),
        status=model.NodeStatus(state=NodeState.NODE_READY),
        description=model.NodeDescription(
            hostname=name,
            platform=model.Platform(os="linux", architecture="x86_64"),
            resources=model.Resources(nano_cpus=2_000_000_000, memory_bytes=1 << 30),
            abilities=overlays.ABILITIES,
        ),
    )


def task(name: str, where: str = "", state: TaskState = S.TASK_PENDING, **fields: object) -> model.Task:
    made = model.Task(
        id=name, service_id="s", service_name="web", spec_version=3, node_id=where,
        status=model.TaskStatus(state=state, timestamp=NOW), desired_state=S.TASK_RUNNING,
    )  # fmt: skip
    return replace(made, **fields)


def planned(*things: Thing) -> Plan:
    view = view_of(things)
    scheduler = Scheduler()
    scheduler.reset(view)
    return scheduler.reconcile(view, NOW) if scheduler.pending(NOW) else Plan()


def homes(plan: Plan) -> dict[str, str]:
    return {t.id: t.node_id for t in plan.changes.values() if isinstance(t, model.Task) and t.node_id}


def error(plan: Plan, name: str = "t") -> str:
    found = plan.changes["Task", name]
    assert isinstance(found, model.Task)
    assert found.status.state == S.TASK_PENDING
    return found.status.err


def test_assigned() -> None:
    found = planned(node("a"), task("t")).changes["Task", "t"]
    assert isinstance(found, model.Task)
    assert (found.node_id, found.assigned_index) == ("a", THIS_INDEX)
    assert found.status == model.TaskStatus(
        timestamp=NOW, state=S.TASK_ASSIGNED, message="scheduler assigned task to node"
    )


def test_a_host_mode_port_without_a_number() -> None:
    """Each task gets one on its node, apart from the mesh's and from what is there; a number asked for stays."""
    asked = tuple(
        model.PortConfig(target_port=80, published_port=n, publish_mode=PublishMode.HOST)
        for n in (0, 0, 49154)
    )
    taken = task("old", "a", S.TASK_RUNNING, ports=(replace(asked[0], published_port=49153),))
    mesh = model.Service(
        id="m", endpoint=model.Endpoint(ports=(model.PortConfig(target_port=80, published_port=49155),))
    )
    view = view_of((node("a"), mesh, taken, task("t", ports=asked)))
    scheduler = Scheduler()
    scheduler.reset(view)
    found = scheduler.reconcile(view, NOW).changes["Task", "t"]
    assert isinstance(found, model.Task)
    assert [port.published_port for port in found.ports] == [49156, 49157, 49154]


THREE = (node("a"), node("b"), node("c"))


def spec(**fields: object) -> model.TaskSpec:
    return model.TaskSpec(**fields)  # type: ignore[arg-type]


def reserve(cpus: int = 0, memory: int = 0) -> model.TaskSpec:
    reservations = model.Resources(nano_cpus=cpus, memory_bytes=memory)
    return spec(resources=model.ResourceRequirements(reservations=reservations))


def test_explanations_are_dockers() -> None:
    placed = spec(placement=model.Placement(constraints=("node.labels.disk==ssd",)))
    assert error(planned(*THREE, task("t", spec=placed))) == (
        "no suitable node (scheduling constraints not satisfied on 3 nodes)"
    )
    assert error(planned(*THREE, task("t", spec=reserve(memory=1 << 40)))) == (
        "no suitable node (insufficient resources on 3 nodes)"
    )
    port = (model.PortConfig(target_port=80, published_port=80, publish_mode=PublishMode.HOST),)
    others = [task(f"o{n.id}", n.id, S.TASK_RUNNING, service_id="other", ports=port) for n in THREE]
    assert error(planned(*THREE, *others, task("t", ports=port))) == (
        "no suitable node (host-mode port already in use on 3 nodes)"
    )
    most = spec(placement=model.Placement(max_replicas=1))
    running = [task(f"o{n.id}", n.id, S.TASK_RUNNING) for n in THREE]
    assert error(planned(*THREE, *running, task("t", spec=most))) == (
        "no suitable node (max replicas per node limit exceed)"
    )
    other = spec(placement=model.Placement(platforms=(model.Platform(architecture="arm64", os="linux"),)))
    assert error(planned(node("a"), task("t", spec=other))) == (
        "no suitable node (unsupported platform on 1 node)"
    )
    drained = replace(node("a"), spec=model.NodeSpec(availability=Availability.DRAIN))
    gone = replace(node("b"), status=model.NodeStatus(state=NodeState.NODE_DOWN))
    assert error(planned(drained, gone, node("c"), task("t", spec=reserve(memory=1 << 40)))) == (
        "no suitable node (2 nodes not available for new tasks; insufficient resources on 1 node)"
    )
    assert error(planned(task("t"))) == "no suitable node"


def test_tasks_of_encrypted_networks_go_where_the_kernel_can_seal() -> None:
    """A swarm may have both kinds of node; where no node can, the service says what is missing."""
    sealed = model.Network(
        id="net", spec=model.NetworkSpec(name="net", driver=model.Driver("overlay", {"encrypted": ""}))
    )
    able, bare = node("able"), node("bare")
    bare = replace(bare, description=replace(bare.description, encryption_lacks="esp4"))
    old = replace(node("old"), description=replace(bare.description, encryption_lacks="", abilities=()))
    wanted = task("t", networks=(model.NetworkAttachment(network_id="net"),))
    assert homes(planned(sealed, bare, able, wanted)) == {"t": "able"}
    assert error(planned(sealed, bare, wanted)) == (
        "no suitable node (encrypted networks not supported on 1 node: no kernel module esp4)"
    )
    other = replace(node("other"), description=replace(bare.description, encryption_lacks="gcm"))
    assert error(planned(sealed, bare, other, wanted)) == (
        "no suitable node (encrypted networks not supported on 2 nodes: no kernel module esp4, no kernel module gcm)"
    )
    assert error(planned(sealed, old, bare, wanted)) == (
        "no suitable node (encrypted networks not supported on 2 nodes: its agent is too old, no kernel module esp4)"
    )
    plain = replace(sealed, spec=model.NetworkSpec(name="net"))
    assert homes(planned(plain, bare, wanted)) == {"t": "bare"}
    assert homes(planned(plain, old, wanted)) == {"t": "old"}


def test_tasks_of_ipv6_networks_go_where_the_agent_knows_them() -> None:
    """While a swarm is upgraded node by node: the plan of an older agent would fail as a whole."""
    both = model.Network(id="net", spec=model.NetworkSpec(name="net", ipv6_enabled=True))
    able, old = node("able"), node("old")
    old = replace(old, description=replace(old.description, abilities=()))
    wanted = task("t", networks=(model.NetworkAttachment(network_id="net"),))
    assert homes(planned(both, old, able, wanted)) == {"t": "able"}
    assert error(planned(both, old, wanted)) == (
        "no suitable node (IPv6 networks not supported on 1 node: its agent is too old)"
    )
    mesh = replace(both, spec=replace(both.spec, ingress=True))
    assert homes(planned(mesh, old, wanted)) == {"t": "old"}


def test_the_platform_of_an_image_is_named_as_images_do() -> None:
    amd64 = spec(placement=model.Placement(platforms=(model.Platform(architecture="amd64", os="linux"),)))
    assert homes(planned(node("a"), task("t", spec=amd64))) == {"t": "a"}


def test_a_constraint_that_cannot_be_read_parks_its_tasks_only() -> None:
    bad = spec(placement=model.Placement(constraints=("nonsense",)))
    plan = planned(node("a"), task("t", spec=bad), task("u", service_id="other"))
    assert error(plan) == "constraint expected one operator from ==, !="
    assert homes(plan) == {"u": "a"}


def test_a_failed_attempt_is_not_written_twice() -> None:
    waiting = task("t", spec=reserve(memory=1 << 40))
    first = planned(*THREE, waiting)
    again = first.changes["Task", "t"]
    assert isinstance(again, model.Task)
    assert planned(*THREE, again).changes == {}


def test_resources_are_counted_within_a_pass() -> None:
    plan = planned(node("a"), *(task(f"t{n}", spec=reserve(cpus=900_000_000)) for n in range(3)))
    assert len(homes(plan)) == 2


def test_fewest_of_the_service_then_fewest_in_all() -> None:
    others = [task(f"o{n}", "a", S.TASK_RUNNING, service_id="other") for n in range(3)]
    mine = task("m", "b", S.TASK_RUNNING)
    assert homes(planned(*THREE[:2], *others, mine, task("t"))) == {"t": "a"}
    assert homes(planned(*THREE[:2], *others, task("t"))) == {"t": "b"}


def test_a_node_where_it_failed_five_times_comes_last() -> None:
    failed = [task(f"f{n}", "a", S.TASK_FAILED) for n in range(5)]
    load_b = [task(f"o{n}", "b", S.TASK_RUNNING) for n in range(4)]
    assert homes(planned(node("a"), node("b"), *failed, *load_b, task("t"))) == {"t": "b"}
    assert homes(planned(node("a"), node("b"), *failed[:4], *load_b, task("t"))) == {"t": "a"}


def test_preferences_divide_over_labels_first() -> None:
    nodes = [node("a", zone="1"), node("b", zone="1"), node("c", zone="1"), node("d", zone="2")]
    spread = model.PlacementPreference(spread=model.SpreadOver("node.labels.zone"))
    placed = spec(placement=model.Placement(preferences=(spread,)))
    found = homes(planned(*nodes, *(task(f"t{n}", spec=placed) for n in range(6))))
    assert Counter(found.values()) == {"a": 1, "b": 1, "c": 1, "d": 3}


def test_a_transaction_has_its_limit() -> None:
    plan = planned(*THREE, *(task(f"t{n:03}") for n in range(250)))
    assert len(plan.changes) == 200


def test_waiting_tasks_are_tried_again_only_when_something_has_changed() -> None:
    view = view_of([*THREE, *(task(f"t{n:03}", spec=reserve(memory=1 << 40)) for n in range(450))])
    scheduler = Scheduler()
    scheduler.reset(view)
    passes = 0
    while scheduler.pending(NOW):
        passes += 1
        assert passes < 10
        for thing in scheduler.reconcile(view, NOW).changes.values():
            assert isinstance(thing, model.Task)
            view.rows[model.Task].put(thing)
    assert passes == 3


@pytest.mark.parametrize("prefer", [False, True])
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
    st.lists(st.integers(0, 6), min_size=8, max_size=8),
    st.integers(1, 30),
)
def test_spread_is_even(prefer: bool, mine: list[int], others: list[int], count: int) -> None:
    """After placing, no node has two more of the service than another one that got fewer."""
    nodes = [node(f"n{i}") for i in range(len(mine))]
    there = [task(f"m{i}.{k}", f"n{i}", S.TASK_RUNNING) for i, n in enumerate(mine) for k in range(n)]
    there += [
        task(f"o{i}.{k}", f"n{i}", S.TASK_RUNNING, service_id="other")
        for i, n in enumerate(others[: len(mine)])
        for k in range(n)
    ]
    preferences = (model.PlacementPreference(spread=model.SpreadOver("node.hostname")),) if prefer else ()
    asked = spec(placement=model.Placement(preferences=preferences))
    infos = load(view_of([*nodes, *there]), NOW)
    placed, left, why = place([task(f"t{i}", spec=asked) for i in range(count)], infos, 1000)
    assert (len(placed), left, why) == (count, [], "")
    got = Counter(where for _, where in placed)
    after = {f"n{i}": n + got[f"n{i}"] for i, n in enumerate(mine)}
    fullest = max((after[name] for name in got), default=0)
    assert fullest <= min(after.values()) + 1
