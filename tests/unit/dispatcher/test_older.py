"""What an agent is told that is older than IPv6 and encrypted networks: nothing that would break its plan, nothing of sealed ones."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace

import pytest

from common import model, overlays
from common.model import EndpointState, TaskState
from manager.dispatcher.assignments import Interned, desired, diff
from manager.dispatcher.interest import Interest
from manager.dispatcher.older import without_ipv6
from manager.membership import Membership
from manager.store.store import Change, ChangeKind
from manager.store.tables import View, view_of

OVERLAY, SEALED = model.Driver("overlay"), model.Driver("overlay", {"encrypted": ""})


def network(name: str, *subnets: str, driver: model.Driver = OVERLAY, **more: bool) -> model.Network:
    configs = tuple(model.IPAMConfig(subnet) for subnet in subnets)
    spec = model.NetworkSpec(name=name, driver=driver, **more)  # type: ignore[arg-type]
    return model.Network(id=name, spec=spec, ipam=model.IPAMOptions(configs=configs), vni=4097)


INGRESS = network("ingress", "10.0.0.0/16", "fd00:1::/64", ingress=True, ipv6_enabled=True)
PLAIN = network("plain", "10.0.1.0/24")
BOTH = network("both", "10.0.2.0/24", "fd00:2::/64", ipv6_enabled=True)
CLOSED = network("closed", "10.0.3.0/24", driver=SEALED)
NETWORKS = (INGRESS, PLAIN, BOTH, CLOSED)
ORDER = tuple(network.id for network in NETWORKS)


def node(name: str, number: int, *abilities: str) -> model.Node:
    return model.Node(
        id=name, number=number, attachments=(model.NetworkAttachment(network_id="ingress", addresses=(f"10.0.0.{number}/16",)),),
        description=model.NodeDescription(hostname=name, abilities=abilities),
        status=model.NodeStatus(model.NodeState.NODE_READY, "", f"192.0.2.{number}"),
    )  # fmt: skip


OLD, NEW = node("old", 1), node("new", 2, *overlays.ABILITIES)


def task(name: str, on: str, number: int, *networks: str) -> model.Task:
    legs = tuple(
        model.NetworkAttachment(
            network_id=n, addresses=(f"10.0.{ORDER.index(n)}.{number}/24", f"fd00::{number}/64")[: 1 + (n in ("ingress", "both"))]
        )
        for n in networks
    )  # fmt: skip
    return model.Task(
        id=name, service_id="web", node_id=on, networks=legs, desired_state=TaskState.TASK_RUNNING,
        status=model.TaskStatus(state=TaskState.TASK_RUNNING), endpoint=EndpointState.ENDPOINT_SERVING,
    )  # fmt: skip


SERVICE = model.Service(
    id="web",
    spec=model.ServiceSpec(name="web", labels={"shoal.publish.address": "10.1.0.0/16,fd00:9::/64"}),
    endpoint=model.Endpoint(
        ports=(model.PortConfig(target_port=80, published_port=8080),),
        virtual_ips=(model.VirtualIP("plain", "10.0.1.2/24"), model.VirtualIP("both", "fd00:2::2/64")),
    ),
)
TASKS = (task("t1", "new", 11, "ingress", "plain", "both", "closed"), task("t2", "old", 12, "plain"))


def items(view: View, node_id: str, interned: Interned | None = None) -> dict[str, model.Assignment]:
    members = Membership()
    members.reset(view)
    return dict(desired(view, members, interned or Interned(), node_id, lambda task: True).items)


def of_ipv6(thing: object, known: bool = True) -> Iterator[str]:
    """Every IPv6 address below; fields that an agent doesn't know are no trouble to it."""
    if isinstance(thing, str):
        try:
            found = ipaddress.ip_interface(thing)
        except ValueError:
            return
        if found.version == 6:
            yield thing
    elif isinstance(thing, tuple):
        for each in thing:
            yield from of_ipv6(each)
    elif is_dataclass(thing):
        for field in fields(thing):
            if field.name not in ("addr6", "ingress_addr6"):
                yield from of_ipv6(getattr(thing, field.name))


def test_an_able_agent_is_told_all() -> None:
    found = items(view_of((*NETWORKS, OLD, NEW, SERVICE, *TASKS)), "new")
    assert {key for key in found if key.startswith("network/")} == {f"network/{n.id}" for n in NETWORKS}
    assert list(of_ipv6(tuple(found.values())))


def test_an_old_one_hears_of_ipv4_and_of_nothing_sealed() -> None:
    found = items(view_of((*NETWORKS, OLD, NEW, SERVICE, *TASKS)), "old")
    assert {key for key in found if key.startswith("network/")} == {"network/ingress", "network/plain"}
    assert {k for k in found if k.startswith("endpoint/")} == {
        "endpoint/t1/ingress", "endpoint/t1/plain", "endpoint/t2/plain",
    }  # fmt: skip
    assert list(of_ipv6(tuple(found.values()))) == []
    service = found["service/web"].service
    assert service is not None
    assert service.publish_addresses == ("10.1.0.0/16",) and service.ports
    assert service.virtual_ips == SERVICE.endpoint.virtual_ips[:1]


def test_a_task_that_is_bound_to_a_node_with_an_older_agent_now() -> None:
    """The task stays, its network is none that the node knows; others still hear what the node has heard."""
    bound = replace(
        task("t3", "old", 13, "both", "closed"), status=model.TaskStatus(state=TaskState.TASK_ASSIGNED)
    )
    bound = replace(bound, assigned_index=77)
    view = view_of((*NETWORKS, OLD, NEW, bound))
    found = items(view, "old")
    assert "task/t3" in found and list(of_ipv6(tuple(found.values()))) == []
    assert not {"network/both", "network/closed", "endpoint/t3/both"} & found.keys()
    members = Membership()
    members.reset(view)
    assert desired(view, members, Interned(), "old", lambda task: True).heard == 77


@pytest.mark.parametrize(
    ("addresses", "ports", "left"),
    [((), 1, ()), (("fd00::/64",), 0, ()), (("10.0.0.1", "fd00::1"), 1, ("10.0.0.1",))],
)
def test_ports_on_addresses_of_the_other_family(
    addresses: tuple[str, ...], ports: int, left: tuple[str, ...]
) -> None:
    """No address at all would mean every one."""
    record = model.ServiceRecord(ports=SERVICE.endpoint.ports, publish_addresses=addresses)
    told = without_ipv6(model.Assignment(service=record)).service
    assert told is not None
    assert (len(told.ports), told.publish_addresses) == (ports, left)


def test_what_stays_the_same_is_not_sent_again() -> None:
    view, interned = view_of((*NETWORKS, OLD, NEW, SERVICE, *TASKS)), Interned()
    first = items(view, "old", interned)
    assert diff(first, items(view, "old", interned)) == ()
    items(view, "new", interned)
    assert diff(first, items(view, "old", interned)) == ()
    interned.forget("service/web")
    assert "service/web" not in interned.older


def test_a_node_whose_agent_is_another_is_looked_at() -> None:
    view, members, interest = view_of((OLD,)), Membership(), Interest()
    upgraded = replace(OLD, description=replace(OLD.description, abilities=overlays.ABILITIES))
    interest.add(Change(ChangeKind.UPDATE, upgraded, OLD), members, view)
    assert interest.nodes == {"old"} and not interest.everyone


def test_the_ingress_network_asks_nothing() -> None:
    assert overlays.asked(INGRESS.spec) == frozenset()
    assert overlays.asked(BOTH.spec) == {overlays.OVERLAY_IPV6}
    assert overlays.asked(CLOSED.spec) == {overlays.OVERLAY_ENCRYPTION}
    assert overlays.suits(PLAIN.spec, ()) and not overlays.suits(BOTH.spec, (overlays.OVERLAY_ENCRYPTION,))
