"""What nodes are sent: folded by an agent's own rules it is always what they should have, whatever changes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.state import NodeState
from common import model
from common.model import EndpointState, TaskState
from manager.dispatcher.assignments import Interned, bare, desired, diff, node_record, service_record
from manager.dispatcher.feed import CHUNK, Feed
from manager.dispatcher.interest import Interest
from manager.membership import Membership
from manager.store.store import Change, ChangeKind
from manager.store.tables import View, memory

NODES = ("a", "b", "c")
ASSIGNED = model.TaskStatus(state=TaskState.TASK_ASSIGNED)
NETWORKS = ("web", "db", "ingress")
Items = Mapping[str, model.Assignment]


def leg(network: str, number: int) -> model.NetworkAttachment:
    return model.NetworkAttachment(network_id=network, addresses=(f"10.0.0.{number}/24",), aliases=("x",))


def config(name: str, number: int = 0, size: int = 0) -> model.Config:
    data = bytes(size) or f"data {number}".encode()
    return model.Config(id=name, spec=model.ConfigSpec(name=f"name-{name}", data=data))


def using(task: model.Task, *configs: str) -> model.Task:
    references = tuple(model.ConfigReference(model.FileTarget(c), config_id=c) for c in configs)
    spec = model.TaskSpec(container=model.ContainerSpec(image="nginx", configs=references))
    return replace(task, spec=spec)


def fold(state: NodeState, messages: list[model.Assignments]) -> NodeState:
    """As agents do: parts of a complete set are gathered, changes need the right predecessor."""
    gathered: list[model.AssignmentChange] = []
    in_parts = False
    for message in messages:
        complete = message.complete or in_parts
        if not complete:
            assert message.applies_to == state.chain
        gathered.extend(message.changes)
        in_parts = message.more
        if not in_parts:
            state = state.with_changes(gathered, message.fence, message.results_in, complete)
            gathered = []
    return state


def as_items(state: NodeState) -> dict[str, object]:
    items: dict[str, object] = {f"task/{k}": v for k, v in state.tasks.items()}
    items.update({f"network/{k}": model.NetworkRecord(network=v) for k, v in state.networks.items()})
    items.update({f"service/{k}": v for k, v in state.services.items()})
    items.update({f"endpoint/{t}/{n}": v for (t, n), v in state.endpoints.items()})
    items.update({f"node/{k}": v for k, v in state.nodes.items()})
    items.update({f"config/{k}": v for k, v in state.configs.items()})
    return items


def contents(items: Items) -> dict[str, object]:
    return {k: v.task or v.network or v.service or v.endpoint or v.node or v.config for k, v in items.items()}


class Feeds(RuleBasedStateMachine):
    """A store that changes at random; three nodes follow it, working only when they are said to be concerned."""

    @initialize()
    def begin(self) -> None:
        self.view = View(memory())
        self.members, self.interned = Membership(), Interned()
        self.ids = itertools.count(1)
        self.addresses = itertools.count(10)
        self.feeds = {n: Feed(lambda: f"chain{next(self.ids)}") for n in NODES}
        self.states = {n: NodeState(n) for n in NODES}
        self.ready = True
        for name in NETWORKS:
            spec = model.NetworkSpec(name=name, ingress=name == "ingress")
            self.write(model.Network(id=name, spec=spec))
        for number, name in enumerate(NODES, 1):
            self.write(model.Node(id=name, number=number, status=model.NodeStatus(addr=f"192.0.2.{number}")))

    def apply(self, change: Change) -> None:
        self.view.index += 1
        self.members.apply(change)
        interest = Interest()
        interest.add(change, self.members, self.view)
        for node_id in NODES if interest.everyone else interest.nodes & set(NODES):
            self.send(node_id)

    def send(self, node_id: str) -> None:
        feed = self.feeds[node_id]
        wanted = desired(self.view, self.members, self.interned, node_id, lambda task: self.ready, feed.fresh)
        fence = model.Fence(cluster_id="c", index=self.view.index)
        messages = feed.step(wanted, fence)
        assert all(m.complete == messages[0].complete for m in messages)
        self.states[node_id] = fold(self.states[node_id], messages)

    def write(self, thing: model.Node | model.Network | model.Service | model.Task | model.Config) -> None:
        old = self.view.rows[type(thing)].put(thing)
        self.apply(Change(ChangeKind.CREATE if old is None else ChangeKind.UPDATE, old, thing))

    def remove(self, thing: model.Service | model.Task | model.Config) -> None:
        old = self.view.rows[type(thing)].remove(thing.id)
        self.apply(Change(ChangeKind.REMOVE, old, None))

    @rule(
        where=st.sampled_from(NODES),
        networks=st.sets(st.sampled_from(NETWORKS)),
        picks=st.sets(st.integers(0, 3)),
    )
    def new_task(self, where: str, networks: set[str], picks: set[int]) -> None:
        name = f"t{next(self.ids)}"
        legs = tuple(leg(n, next(self.addresses) % 250) for n in sorted(networks))
        status = model.TaskStatus(state=TaskState.TASK_ASSIGNED)
        task = model.Task(id=name, name=name, node_id=where, networks=legs, status=status)
        self.write(using(task, *(c.id for c in self.some_configs(picks))))

    @rule(
        pick=st.integers(0, 50),
        state=st.sampled_from((TaskState.TASK_RUNNING, TaskState.TASK_FAILED, TaskState.TASK_ORPHANED)),
        desired_state=st.sampled_from((TaskState.TASK_RUNNING, TaskState.TASK_SHUTDOWN)),
        endpoint=st.sampled_from(EndpointState),
    )
    def change_task(
        self, pick: int, state: TaskState, desired_state: TaskState, endpoint: EndpointState
    ) -> None:
        tasks = list(self.view.tasks.all())
        if tasks:
            old = tasks[pick % len(tasks)]
            status = model.TaskStatus(state=max(state, old.status.state))
            self.write(
                replace(
                    old,
                    status=status,
                    desired_state=desired_state,
                    endpoint=endpoint,
                    endpoint_index=old.endpoint_index + (endpoint != old.endpoint),
                )
            )

    @rule(pick=st.integers(0, 50))
    def remove_task(self, pick: int) -> None:
        tasks = list(self.view.tasks.all())
        if tasks:
            self.remove(tasks[pick % len(tasks)])

    @rule(name=st.sampled_from(("s1", "s2")), network=st.sampled_from(NETWORKS), deleted=st.booleans())
    def write_service(self, name: str, network: str, deleted: bool) -> None:
        vips = (model.VirtualIP(network_id=network, addr="10.0.0.2/24"),)
        endpoint = model.Endpoint(virtual_ips=vips)
        spec = model.ServiceSpec(name=name)
        self.write(model.Service(id=name, spec=spec, endpoint=endpoint, pending_delete=deleted))

    @rule()
    def new_config(self) -> None:
        number = next(self.ids)
        self.write(config(f"c{number}", number))

    @rule(pick=st.integers(0, 9), label=st.sampled_from(("one", "two")))
    def label_config(self, pick: int, label: str) -> None:
        for found in self.some_configs({pick}):
            self.write(replace(found, spec=replace(found.spec, labels={"a": label})))

    @rule(pick=st.integers(0, 9))
    def remove_config(self, pick: int) -> None:
        for found in self.some_configs({pick}):
            self.remove(found)
            self.interned.forget(f"config/{found.id}")

    def some_configs(self, picks: set[int]) -> list[model.Config]:
        known = list(self.view.configs.all())
        return [known[pick] for pick in sorted(picks) if pick < len(known)]

    @rule(name=st.sampled_from(("s1", "s2")))
    def remove_service(self, name: str) -> None:
        if (found := self.view.services.get(name)) is not None:
            self.remove(found)

    @rule(name=st.sampled_from(NODES), addr=st.sampled_from(("192.0.2.77", "192.0.2.88")), mesh=st.booleans())
    def change_node(self, name: str, addr: str, mesh: bool) -> None:
        node = self.view.nodes.get(name)
        assert node is not None
        legs = (leg("ingress", node.number),) if mesh else ()
        self.write(replace(node, status=model.NodeStatus(addr=addr), attachments=legs))

    @rule(name=st.sampled_from(NETWORKS))
    def allocate_in_network(self, name: str) -> None:
        network = self.view.networks.get(name)
        assert network is not None
        hold = model.AddressHold(addr="10.0.0.9", index=self.view.index + 1)
        self.write(replace(network, held=(*network.held, hold), last_address="10.0.0.9"))

    @rule(name=st.sampled_from(NODES), keeps=st.booleans())
    def reconnect(self, name: str, keeps: bool) -> None:
        self.feeds[name].resume(self.states[name].chain if keeps else "")
        self.send(name)

    @invariant()
    def every_node_has_what_it_should(self) -> None:
        for node_id in NODES:
            wanted = desired(self.view, self.members, self.interned, node_id, lambda task: self.ready)
            if self.feeds[node_id].fresh:
                continue
            assert as_items(self.states[node_id]) == contents(wanted.items)
            assert self.states[node_id].fence.index >= wanted.heard

    @invariant()
    def membership_is_what_a_fresh_look_says(self) -> None:
        fresh = Membership()
        fresh.reset(self.view)
        for network in NETWORKS:
            assert set(fresh.nodes(network)) == set(self.members.nodes(network))
            assert set(fresh.tasks(network)) == set(self.members.tasks(network))


Feeds.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestFeeds = Feeds.TestCase


def test_a_complete_set_comes_in_parts() -> None:
    ids = itertools.count(1)
    feed = Feed(lambda: f"c{next(ids)}")
    view = View(memory(), 9)
    for number in range(CHUNK + 20):
        view.rows[model.Task].put(model.Task(id=f"t{number}", node_id="a", status=ASSIGNED))
    wanted = desired(view, Membership(), Interned(), "a", lambda task: True)
    first, second = feed.step(wanted, model.Fence(index=9))
    assert (first.complete, first.more, first.applies_to, first.results_in) == (True, True, "", "c1")
    assert (second.complete, second.more, second.applies_to, second.results_in) == (True, False, "c1", "c2")
    assert len(fold(NodeState("a"), [first, second]).tasks) == CHUNK + 20
    assert feed.step(wanted, model.Fence(index=10)) == []


def test_an_empty_set_is_still_sent_once() -> None:
    feed = Feed(lambda: "c")
    (message,) = feed.step(desired(View(memory()), Membership(), Interned(), "a", bool), model.Fence(index=1))
    assert message.complete
    assert message.changes == ()


KEYS = ("task/t", "network/n", "endpoint/t/n", "config/c", "service/s", "node/a")


def test_networks_come_before_tasks_and_go_after_them() -> None:
    items = {k: model.Assignment() for k in KEYS}
    assert [c.key.split("/")[0] for c in diff({}, items)] == [
        "network",
        "node",
        "service",
        "endpoint",
        "config",
        "task",
    ]
    assert [c.key.split("/")[0] for c in diff(items, {})] == [
        "task",
        "config",
        "endpoint",
        "service",
        "node",
        "network",
    ]


def test_a_status_alone_is_not_echoed() -> None:
    view = View(memory(), 1)
    interned, feed = Interned(), Feed(lambda: "c")
    task = model.Task(id="t", node_id="a", status=ASSIGNED, version=1)
    view.rows[model.Task].put(task)
    feed.step(desired(view, Membership(), interned, "a", bool), model.Fence(index=1))
    running = model.TaskStatus(state=TaskState.TASK_RUNNING)
    view.rows[model.Task].put(replace(task, version=2, status=running))
    assert feed.step(desired(view, Membership(), interned, "a", bool), model.Fence(index=2)) == []
    feed.resume("")
    (message,) = feed.step(desired(view, Membership(), interned, "a", bool, feed.fresh), model.Fence(index=2))
    sent = message.changes[0].assignment
    assert sent is not None
    assert sent.task is not None
    assert sent.task.task.status == running


def look(view: View, interned: Interned, feed: Feed, node: str = "a") -> list[model.Assignments]:
    view.index += 1
    wanted = desired(view, Membership(), interned, node, lambda task: True, feed.fresh)
    return feed.step(wanted, model.Fence(index=view.index))


def sent(messages: list[model.Assignments]) -> list[str]:
    return [("-" if c.remove else "+") + c.key for m in messages for c in m.changes]


def test_a_config_is_where_its_tasks_are_and_only_there() -> None:
    ids = itertools.count(1)
    view, interned = View(memory(), 1), Interned()
    feeds = {name: Feed(lambda: f"c{next(ids)}") for name in ("a", "b")}
    for name in ("c1", "c2"):
        view.rows[model.Config].put(config(name))
    tasks = [using(model.Task(id=f"t{n}", node_id="a", status=ASSIGNED), "c1") for n in range(2)]
    for task in tasks:
        view.rows[model.Task].put(task)
    assert sent(look(view, interned, feeds["a"], "a")) == ["+config/c1", "+task/t0", "+task/t1"]
    assert sent(look(view, interned, feeds["b"], "b")) == []
    failed = model.TaskStatus(state=TaskState.TASK_FAILED)
    view.rows[model.Task].put(replace(tasks[0], status=failed))
    assert sent(look(view, interned, feeds["a"])) == []
    view.rows[model.Task].put(replace(tasks[1], desired_state=TaskState.TASK_SHUTDOWN))
    assert sent(look(view, interned, feeds["a"])) == ["+task/t1", "-config/c1"]


def test_a_node_hears_of_networks_that_its_tasks_are_in_without_an_address() -> None:
    """The node's own network; not an overlay whose addresses a task has given back."""
    ids = itertools.count(1)
    view, interned, feed = View(memory(), 1), Interned(), Feed(lambda: f"c{next(ids)}")
    for name, driver in (("host", "host"), ("web", "overlay")):
        spec = model.NetworkSpec(name=name, driver=model.Driver(driver))
        view.rows[model.Network].put(model.Network(id=name, spec=spec))
    legs = (model.NetworkAttachment(network_id="host"), model.NetworkAttachment(network_id="web"))
    view.rows[model.Task].put(model.Task(id="t", node_id="a", status=ASSIGNED, networks=legs))
    assert sent(look(view, interned, feed, "a")) == ["+network/host", "+task/t"]


def test_a_task_that_ends_by_itself_concerns_its_node() -> None:
    running = model.TaskStatus(state=TaskState.TASK_RUNNING)
    complete = model.TaskStatus(state=TaskState.TASK_COMPLETE)
    task = using(model.Task(id="t", node_id="a", status=running), "c1")
    interest = Interest()
    change = Change(ChangeKind.UPDATE, task, replace(task, status=complete))
    interest.add(change, Membership(), View(memory()))
    assert interest.nodes == {"a"}


def test_the_others_hear_of_an_assignment_of_legs_that_they_know() -> None:
    """A single container's place is bound to its node before it is assigned; it starts when they have heard of that."""
    view, members, ids = View(memory(), 6), Membership(), itertools.count(1)
    here = model.Task(id="t1", node_id="a", networks=(leg("web", 1),))
    status = model.TaskStatus(state=TaskState.TASK_PENDING)
    place = model.Task(id="t2", node_id="b", networks=(leg("web", 2),), status=status)
    view.rows[model.Network].put(model.Network(id="web", spec=model.NetworkSpec(name="web")))
    for task in (here, place):
        view.rows[model.Task].put(task)
        members.apply(Change(ChangeKind.CREATE, None, task))
    feed, interned = Feed(lambda: f"c{next(ids)}"), Interned()

    def step() -> list[model.Assignments]:
        wanted = desired(view, members, interned, "a", lambda task: True, feed.fresh)
        return feed.step(wanted, model.Fence(cluster_id="c", index=view.index))

    assert step() and not step()
    view.index += 1
    assigned = replace(
        place, assigned_index=view.index, status=model.TaskStatus(state=TaskState.TASK_ASSIGNED)
    )
    view.rows[model.Task].put(assigned)
    interest = Interest()
    interest.add(Change(ChangeKind.UPDATE, place, assigned), members, view)
    assert interest.nodes == {"a", "b"}
    (message,) = step()
    assert (message.changes, message.fence.index) == ((), assigned.assigned_index)


def test_a_node_that_goes_down_and_labels_of_a_service_concern_everybody() -> None:
    ready = model.NodeStatus(state=model.NodeState.NODE_READY)
    node = model.Node(id="a", status=ready)
    down = replace(node, status=replace(ready, state=model.NodeState.NODE_DOWN))
    service = model.Service(id="s", spec=model.ServiceSpec(name="web"))
    labels = {"shoal.publish.address": "127.0.0.1, 10.0.0.0/8", "shoal.publish.masquerade": "true"}
    labelled = replace(service, spec=replace(service.spec, labels=labels))
    blind = replace(node, description=model.NodeDescription(masquerade=True))
    for change in (
        Change(ChangeKind.UPDATE, node, down), Change(ChangeKind.UPDATE, service, labelled),
        Change(ChangeKind.UPDATE, node, blind),
    ):  # fmt: skip
        interest = Interest()
        interest.add(change, Membership(), View(memory()))
        assert interest.everyone
    assert [node_record(View(memory()), n).down for n in (node, down)] == [False, True]
    assert [node_record(View(memory()), n).masquerade for n in (node, blind)] == [False, True]
    record = service_record(labelled)
    assert (record.publish_addresses, record.masquerade) == (("10.0.0.0/8", "127.0.0.1"), True)


def test_bulky_changes_come_in_parts_of_which_only_the_last_has_the_new_index() -> None:
    ids = itertools.count(1)
    view, interned, feed = View(memory(), 6), Interned(), Feed(lambda: f"c{next(ids)}")
    state = fold(NodeState("a"), look(view, interned, feed))
    assert state.fence.index == 7
    names = [f"c{n:02}" for n in range(20)]
    for name in names:
        view.rows[model.Config].put(config(name, size=1_000_000))
    view.rows[model.Task].put(using(model.Task(id="t", node_id="a", status=ASSIGNED), *names))
    messages = look(view, interned, feed)
    assert [len(m.changes) for m in messages] == [8, 8, 5]
    assert [m.fence.index for m in messages] == [7, 7, 8]
    assert not any(m.complete or m.more for m in messages)
    state = fold(state, messages)
    assert (len(state.configs), list(state.tasks), state.fence.index) == (20, ["t"], 8)
    feed.resume("")
    messages = look(view, interned, feed)
    assert [(m.complete, m.more, m.fence.index) for m in messages] == [
        (True, True, 9),
        (True, True, 9),
        (True, False, 9),
    ]
    again = fold(NodeState("a"), messages)
    assert (again.configs, again.tasks) == (state.configs, state.tasks)


def test_a_place_for_a_container_is_sent_when_it_is_assigned() -> None:
    """It is bound to its node from the beginning; having all that it needs is not yet being assigned."""
    view, interned, feed = View(memory()), Interned(), Feed(lambda: "c")
    place = model.Task(id="t", node_id="a", spec=model.TaskSpec(attachment=model.NetworkAttachmentSpec("c1")))
    pending = replace(place, status=model.TaskStatus(state=TaskState.TASK_PENDING))
    for task, told in ((place, []), (pending, []), (replace(pending, status=ASSIGNED), ["+task/t"])):
        old = view.rows[model.Task].get("t")
        view.rows[model.Task].put(task)
        interest = Interest()
        interest.add(Change(ChangeKind.UPDATE, old, task), Membership(), view)
        assert bool(interest.nodes) or not told
        assert sent(look(view, interned, feed)) == told


def test_an_address_that_was_given_is_no_news_of_its_network() -> None:
    network = model.Network(id="n", last_address="10.0.0.5", last_address6="fd00::5")
    assert bare(network) == bare(replace(network, last_address="10.0.0.6", last_address6="fd00::6"))
