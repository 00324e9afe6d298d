"""Places of single containers in networks: what an agent names becomes tasks, what it doesn't name is over."""

from __future__ import annotations

from dataclasses import replace

from common import model, overlays
from common.model import TaskState
from manager.allocator.reconcile import Allocator
from manager.dispatcher.attachments import settle
from manager.orchestrator.reconcile import Orchestrator
from manager.plan import Plan
from manager.scheduler.reconcile import Scheduler
from manager.store.tables import view_of
from manager.store.view import THIS_INDEX

NOW = 10**18
ID, OTHER = "a" * 25, "b" * 25
S = TaskState


def network(name: str, attachable: bool = True, **fields: object) -> model.Network:
    driver = model.Driver("overlay")
    spec = model.NetworkSpec(name=name, attachable=attachable, driver=driver)
    ipam = model.IPAMOptions(configs=(model.IPAMConfig("10.0.1.0/24", gateway="10.0.1.1"),))
    return replace(
        model.Network(id=f"{name}-id", spec=spec, ipam=ipam, vni=4097, driver_state=driver), **fields
    )


def node(name: str) -> model.Node:
    return model.Node(id=name, status=model.NodeStatus(state=model.NodeState.NODE_READY))


def asked(*networks: str, id: str = ID) -> model.ContainerAttachment:
    configs = tuple(model.NetworkAttachmentConfig(n, ("alias",)) for n in networks)
    return model.ContainerAttachment(id, "c" * 64, "one", configs)


NET = network("net")


def made(**fields: object) -> model.Task:
    (task,), refused = settle(view_of([NET, node("n1")]), "n1", [asked("net")], NOW)
    assert refused == ()
    return replace(task, **fields)


def test_a_new_place_is_a_task_of_its_node() -> None:
    task = made()
    assert (task.id, task.name, task.node_id, task.service_id) == (ID, "one", "n1", "")
    assert task.spec.networks == (model.NetworkAttachmentConfig("net-id", ("alias",)),)
    assert (task.status.state, task.desired_state) == (S.TASK_NEW, S.TASK_RUNNING)
    assert settle(view_of([NET, task]), "n1", [asked("net")], NOW) == ((), ())


def test_what_is_not_named_any_more_is_over() -> None:
    running = made(status=model.TaskStatus(state=S.TASK_RUNNING))
    elsewhere = replace(running, id=OTHER, node_id="n2")
    of_a_service = replace(running, id="s", spec=model.TaskSpec(), service_id="web")
    (gone,), _ = settle(view_of([NET, running, elsewhere, of_a_service]), "n1", [], NOW)
    assert (gone.id, gone.status.state, gone.desired_state) == (ID, S.TASK_SHUTDOWN, S.TASK_REMOVE)


def test_a_container_that_is_renamed_renames_its_places() -> None:
    running = made(status=model.TaskStatus(state=S.TASK_RUNNING))
    renamed = replace(asked("net"), name="new")
    (after,), refused = settle(view_of([NET, running]), "n1", [renamed], NOW)
    assert (after, refused) == (replace(running, name="new"), ())
    assert settle(view_of([NET, after]), "n1", [renamed], NOW) == ((), ())
    over = replace(running, status=model.TaskStatus(state=S.TASK_SHUTDOWN))
    assert settle(view_of([NET, over]), "n1", [renamed], NOW) == ((), ())


def test_refusals_with_dockers_words() -> None:
    closed, going = network("closed", attachable=False), network("going", pending_delete=True)
    view = view_of([closed, going, made(node_id="n2")])

    def refusal(*networks: str, id: str = OTHER) -> tuple[str, str]:
        written, (refused,) = settle(view, "n1", [asked(*networks, id=id)], NOW)
        assert written == () and refused.id == id
        return refused.code, refused.message

    assert refusal("closed") == ("PermissionDenied", "network closed not manually attachable")
    assert refusal("nosuch") == ("NotFound", "network nosuch not found")
    assert refusal("going") == ("NotFound", "network going not found")
    assert refusal("closed", id=ID)[0] == refusal("closed", id="../x")[0] == "InvalidArgument"


def test_a_node_whose_agent_is_too_old_has_no_place_there() -> None:
    both = network("both")
    both = replace(both, spec=replace(both.spec, ipv6_enabled=True))
    old = node("n1")
    able = replace(old, description=model.NodeDescription(abilities=overlays.ABILITIES))
    _, (refused,) = settle(view_of([both, old]), "n1", [asked("both")], NOW)
    assert (refused.code, refused.network) == ("FailedPrecondition", "both")
    assert refused.message == "network both asks more of this node than its agent can do: upgrade it"
    (task,), none = settle(view_of([both, able]), "n1", [asked("both")], NOW)
    assert task.spec.networks[0].target == "both-id" and none == ()


def choosing(*addresses: str, mac: str = "", id: str = ID) -> model.ContainerAttachment:
    config = model.NetworkAttachmentConfig("net", addresses=addresses, mac=mac)
    return model.ContainerAttachment(id, "c" * 64, "one", (config,))


def test_an_address_that_a_container_asks_for() -> None:
    (task,), refused = settle(view_of([NET, node("n1")]), "n1", [choosing("10.0.1.7")], NOW)
    assert task.spec.networks[0].addresses == ("10.0.1.7",) and refused == ()
    pending = step(Allocator(Acks()), NET, node("n1"), task).changes["Task", ID]
    assert isinstance(pending, model.Task) and pending.networks[0].addresses == ("10.0.1.7/24",)
    # Somebody has it: the place waits, and its agent hears why.
    (waiting,), (refusal,) = settle(view_of([NET, pending]), "n2", [choosing("10.0.1.7", id=OTHER)], NOW)
    assert waiting.id == refusal.id == OTHER
    assert (refusal.address, refusal.waits) == (True, True)
    assert refusal.message == "Address already in use: 10.0.1.7"
    # It can never be had.
    written, (refusal,) = settle(view_of([NET]), "n1", [choosing("10.0.2.7")], NOW)
    assert written == () and (refusal.address, refusal.waits) == (True, False)
    assert refusal.message == "Invalid address 10.0.2.7: It does not belong to any of this network's subnets"


def test_a_mac_that_a_container_asks_for() -> None:
    able = replace(node("n1"), description=model.NodeDescription(abilities=overlays.ABILITIES))
    (task,), refused = settle(view_of([NET, able]), "n1", [choosing(mac="92:d0:c6:0a:29:33")], NOW)
    assert task.spec.networks[0].mac == "92:d0:c6:0a:29:33" and refused == ()
    pending = step(Allocator(Acks()), NET, able, task).changes["Task", ID]
    assert isinstance(pending, model.Task) and pending.networks[0].mac == "92:d0:c6:0a:29:33"
    own, others = choosing("10.0.1.9", mac="02:42:0a:00:01:09"), choosing(mac="02:42:0a:00:01:09")
    assert settle(view_of([NET, able]), "n1", [own], NOW)[1] == ()
    assert settle(view_of([NET, able]), "n1", [choosing(mac="02:42:0a:00:02:09")], NOW)[1] == ()
    (holder,), none = settle(view_of([NET, able]), "n1", [replace(others, id=OTHER)], NOW)
    assert none == ()  # nobody has that address, and nobody gets it from now on
    holder = step(Allocator(Acks()), NET, able, holder).changes["Task", OTHER]
    assert isinstance(holder, model.Task) and holder.networks[0].addresses == ("10.0.1.2/24",)
    _, (refusal,) = settle(view_of([NET, able, holder]), "n2", [choosing("10.0.1.9")], NOW)
    assert refusal.message == "Address already in use: 10.0.1.9"
    _, (refusal,) = settle(view_of([NET, able, holder]), "n2", [others], NOW)
    assert refusal.message == "MAC address 02:42:0a:00:01:09 is the one of 10.0.1.9 in network net"
    written, none = settle(view_of([NET, able, holder]), "n1", [others], NOW)  # its container starts anew
    assert [task.id for task in written] == [ID, OTHER] and none == ()
    for wrong in (
        "zz",
        "92:D0:c6:0a:29:33",
        "93:d0:c6:0a:29:33",
        "00:00:00:00:00:00",
        "92:d0:c6:0a:29:33:44",
    ):
        _, (refusal,) = settle(view_of([NET, able]), "n1", [choosing(mac=wrong)], NOW)
        assert refusal.message == f"invalid MAC address {wrong!r}"
    old = replace(node("n2"), description=model.NodeDescription(hostname="worker2"))
    _, (refusal,) = settle(view_of([NET, able, old]), "n1", [choosing(mac="92:d0:c6:0a:29:33")], NOW)
    assert refusal.message == (
        "--mac-address in network net asks more than the agents of worker2 can do: upgrade them"
    )


def test_a_mac_that_another_container_has_is_waited_for() -> None:
    able = replace(node("n1"), description=model.NodeDescription(abilities=overlays.ABILITIES))
    mac, allocator = "92:d0:c6:0a:29:33", Allocator(Acks())
    both = [choosing(mac=mac), choosing(mac=mac, id=OTHER)]
    tasks, none = settle(view_of([NET, able]), "n1", both, NOW)
    assert none == ()  # nobody has it yet
    first, second = (step(allocator, NET, able, *tasks).changes["Task", id] for id in (ID, OTHER))
    assert isinstance(first, model.Task) and isinstance(second, model.Task)
    assert (first.networks[0].mac, second.networks, second.status.err) == (
        mac, (), f"MAC address already in use: {mac}",
    )  # fmt: skip
    (waiting,), (refusal,) = settle(view_of([NET, able, first]), "n2", [choosing(mac=mac, id=OTHER)], NOW)
    assert (refusal.message, refusal.waits) == (f"MAC address already in use: {mac}", True)
    over = replace(first, status=model.TaskStatus(state=S.TASK_SHUTDOWN))
    given = step(allocator, NET, able, over, waiting).changes["Task", OTHER]
    assert isinstance(given, model.Task) and given.networks[0].mac == mac


class Acks:
    def index(self, node_id: str) -> int:
        return 0


def step(loop: Allocator | Scheduler | Orchestrator, *things: object) -> Plan:
    view = view_of(things)  # type: ignore[arg-type]
    loop.reset(view)
    return loop.reconcile(view, NOW)


def test_the_leaders_loops_give_it_an_address_its_node_and_its_end() -> None:
    pending = step(Allocator(Acks()), NET, node("n1"), made()).changes["Task", ID]
    assert isinstance(pending, model.Task) and pending.status.state == S.TASK_PENDING
    assert pending.networks[0].addresses == ("10.0.1.2/24",) and pending.networks[0].aliases == ("alias",)
    assigned = step(Scheduler(), NET, node("n1"), node("n0"), pending).changes["Task", ID]
    assert isinstance(assigned, model.Task)
    assert (assigned.status.state, assigned.node_id) == (S.TASK_ASSIGNED, "n1")
    assert assigned.assigned_index == THIS_INDEX
    assert step(Orchestrator(lambda: "x"), node("n1"), assigned).changes == {}
    orphan = step(Orchestrator(lambda: "x"), node("n2"), assigned).changes["Task", ID]
    assert isinstance(orphan, model.Task) and orphan.status.state == S.TASK_ORPHANED
    assert step(Orchestrator(lambda: "x"), orphan).changes == {}  # its address first
    released = step(Allocator(Acks()), NET, orphan).changes["Task", ID]
    assert isinstance(released, model.Task) and released.networks[0].addresses == ()
    assert step(Orchestrator(lambda: "x"), released).changes == {("Task", ID): None}
