"""IPv6 beside the IPv4 facts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import dual, names, plan, rules
from agent.network.facts import (
    Address,
    Fact,
    Facts,
    LinkRoute,
    LoopbackRoute,
    Neighbour,
    ReturnRoute,
    ReturnRule,
    Sysctl,
    Table,
    after,
    difference,
)
from agent.network.legs import legs
from agent.network.refusals import refuse_without_ipv6
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import errors, model

UNDERLAY = Underlay("192.0.2.1", 1500)
SERVING, NONE = model.EndpointState.ENDPOINT_SERVING, model.EndpointState.ENDPOINT_NONE


def network(identifier: str, number: int, *subnets: str, **spec: object) -> model.Network:
    configs = tuple(model.IPAMConfig(subnet=s) for s in (f"10.0.{number}.0/24", *subnets))
    made = model.NetworkSpec(name=identifier, **spec)  # type: ignore[arg-type]
    return model.Network(id=identifier, spec=made, ipam=model.IPAMOptions(configs=configs), vni=4096 + number)


def task(identifier: str, n: int, *networks: str) -> model.TaskAssignment:
    """Addresses of both families in "six", and in the mesh if it is in "six" as well."""
    six = "six" in networks
    legs = []
    for net in networks:
        addresses = [f"10.0.{NUMBERS[net]}.{n}/24"]
        addresses += [f"fd00:{NUMBERS[net]}::{n:x}/64"] if net == "six" or (net == "ing" and six) else []
        legs.append(model.NetworkAttachment(network_id=net, addresses=tuple(addresses)))
    return model.TaskAssignment(task=model.Task(id=identifier, networks=tuple(legs)))


NUMBERS = {"ing": 0, "four": 1, "six": 2}
NETWORKS = {
    "ing": network("ing", 0, ingress=True),
    "four": network("four", 1),
    "six": network("six", 2, "fd00:2::/64", "fd00:3::/64", ipv6_enabled=True),
}
NODES = {
    f"n{n}": model.NodeRecord(
        id=f"n{n}", vtep=f"192.0.2.{n}", ingress_addr=f"10.0.0.{n + 1}", ingress_addr6=f"fd00:0::{n + 1}/64", number=n
    )
    for n in (1, 2, 3)
}  # fmt: skip
WEB = model.ServiceRecord(
    id="web", name="web", mode=model.EndpointMode.VIP,
    virtual_ips=(
        model.VirtualIP("ing", "10.0.0.9/24"), model.VirtualIP("six", "10.0.2.2/24"), model.VirtualIP("six", "fd00:2::2/64"),
    ),
    ports=(model.PortConfig(protocol=model.PortProtocol.TCP, target_port=80, published_port=8080),),
)  # fmt: skip


def leg(tid: str, n: int, net: str, node: str, six: bool = True, **more: object) -> model.EndpointRecord:
    return model.EndpointRecord(
        task_id=tid, network_id=net, addr=f"10.0.{NUMBERS[net]}.{n}", service_id="web", node_id=node,
        addr6=f"fd00:{NUMBERS[net]}::{n:x}" if six else "", **{"state": SERVING, **more},  # type: ignore[arg-type]
    )  # fmt: skip


def state(endpoints: list[model.EndpointRecord], *tasks: model.TaskAssignment) -> NodeState:
    return NodeState(
        node_id="n1",
        tasks={t.task.id: t for t in tasks},
        networks=NETWORKS,
        services={"web": WEB},
        endpoints={(e.task_id, e.network_id): e for e in endpoints},
        nodes=NODES,
    )


def of_six(facts: Facts) -> set[Fact]:
    """What speaks of IPv6, but for that it is off."""
    return {f for f in facts - dual.OFF if _speaks(f)}


def _speaks(fact: Fact) -> bool:
    match fact:
        case Sysctl(path=path):
            return path.startswith("net/ipv6") and not path.endswith("/accept_ra")
        case Table(family=family):
            return family == "ip6"
        case Address(address=address) | Neighbour(address=address) | LinkRoute(destination=address):
            return ":" in address
        case ReturnRoute(gateway=gateway):
            return ":" in gateway
        case ReturnRule(version=version):
            return version == 6
        case _:
            return isinstance(fact, LoopbackRoute)


def table(facts: Facts, family: str, name: str = names.TABLE) -> str:
    return next((f.text for f in facts if isinstance(f, Table) and (f.family, f.name) == (family, name)), "")


def test_without_an_address_nothing_speaks_ipv6() -> None:
    """Tasks and sandboxes have it off, and the machine's own isn't touched, whatever managers know of other networks."""
    endpoints = [leg("t1", 20, "ing", "n1", False), leg("t2", 21, "four", "n2", False)]
    view = plan.desired(state(endpoints, task("t1", 20, "ing", "four")), {"t1": "172.18.0.2"}, UNDERLAY)
    for name, facts in view.items():
        assert facts >= dual.OFF or not name
        assert not of_six(facts), name


def test_a_task_of_both_families() -> None:
    endpoints = [
        leg("t1", 20, "six", "n1"),
        leg("t2", 21, "six", "n2"),
        leg("t3", 22, "six", "n2", state=NONE),
    ]
    view = plan.desired(state(endpoints, task("t1", 20, "four", "six")), {"t1": "172.18.0.2"}, UNDERLAY)
    facts, sandbox = view["t-t1"], view["n-six"]
    assert {f for f in facts if isinstance(f, Address) and ":" in f.address} == {
        Address("eth1", "fd00:2::14/64")
    }
    assert LinkRoute("fd00:3::/64", "eth1") in facts
    off = {
        f.path for f in facts if isinstance(f, Sysctl) and f.path.endswith("disable_ipv6") and f.value == "1"
    }
    assert off == {"net/ipv6/conf/eth0/disable_ipv6", "net/ipv6/conf/eth2/disable_ipv6"}
    known = {f for f in sandbox if isinstance(f, Neighbour) and ":" in f.address}
    assert known == {
        Neighbour("fd00:2::15", names.mac("10.0.2.21")),
        Neighbour("fd00:2::16", names.mac("10.0.2.22")),
    }
    assert sandbox >= dual.IN_SANDBOXES
    assert view["n-four"] >= dual.OFF
    text = table(facts, "ip6")
    marks = {names.backend_mark(f"10.0.2.{n}"): f"fd00:2::{n:x}" for n in (20, 21)}
    assert "fd00:2::2 : goto vip_fd00_2__2" in text
    assert all(f"{mark:#x} : {address}" in text for mark, address in marks.items())
    assert "fd00:2::16" not in text and "127.0.0.11" not in text
    assert "10.0.2.2 : goto" in table(facts, "ip") and "fd00" not in table(facts, "ip")
    assert not of_six(view[names.HOST])


def test_the_mesh_of_both_families() -> None:
    endpoints = [
        leg("t1", 20, "ing", "n1"),
        leg("t2", 21, "ing", "n2"),
        leg("t4", 23, "ing", "n3", six=False),
    ]
    given_ = state(endpoints, task("t1", 20, "ing", "six"))
    view = plan.desired(given_, {"t1": "172.18.0.2"}, UNDERLAY)
    host, facts, sandbox = view[names.HOST], view["t-t1"], view["n-ing"]
    assert {Address(names.INGRESS_LEG, "fd00:0::2/64"), LoopbackRoute(names.INGRESS_LEG)} <= host
    text = table(host, "ip6")
    assert "8080 : goto tcp_8080" in text and f"{names.backend_mark('10.0.0.21'):#x} : fd00:0::15" in text
    assert "fd00:0::17" not in text and "10.0.0.23" in table(host, "ip"), (
        "one without is reached by IPv4 alone"
    )
    assert Address("eth0", "fd00:0::14/64") in facts
    assert {f for f in facts if isinstance(f, ReturnRule) and f.version == 6} == {
        ReturnRule(n, 1000 + n, 6) for n in NODES_BY
    }
    assert ReturnRoute(1002, "fd00:0::3", "eth0") in facts
    assert Neighbour("fd00:0::3", names.mac("10.0.0.3")) in sandbox, "another node's leg"
    assert table(facts, "ip6", names.FLOWS_TABLE) == rules.flows_table("eth0", "fd00:0::14").text
    over = plan.desired(state([]), {}, UNDERLAY)
    removed = {c.fact for c in difference(view, over) if c.remove and not c.namespace}
    assert {Address(names.INGRESS_LEG, "fd00:0::2/64"), LoopbackRoute(names.INGRESS_LEG)} <= removed
    assert any(isinstance(f, Table) and f.family == "ip6" for f in removed)
    gone = after(after(view, difference(view, over)), difference(over, view))
    assert Sysctl("net/ipv6/conf/all/disable_ipv6", "0") in gone["n-ing"], "on again when it is wanted again"


NODES_BY = [node.number for node in NODES.values()]


def test_published_on_addresses_of_one_family() -> None:
    endpoints = [leg("t1", 20, "ing", "n1")]
    for addresses, four, six in (
        ((), "8080 : goto", "8080 : goto"),
        (("10.1.0.0/16",), "ip daddr != { 10.1.0.0/16 } return", ""),
        (("::1",), "", "ip6 daddr != { ::1 } return"),
    ):
        given_ = replace(state(endpoints), services={"web": replace(WEB, publish_addresses=addresses)})
        host = plan.desired(given_, {}, UNDERLAY)[names.HOST]
        for family, wanted in (("ip", four), ("ip6", six)):
            assert wanted in table(host, family)
            assert ("8080 : goto" in table(host, family)) is bool(wanted)


def test_a_machine_without_ipv6() -> None:
    endpoints = [leg("t1", 20, "six", "n1"), leg("t1", 20, "ing", "n1")]
    without = replace(UNDERLAY, ipv6=False)
    given_ = state(endpoints, task("t1", 20, "ing", "six"))
    view = plan.desired(given_, {"t1": "172.18.0.2"}, without)
    for facts in view.values():
        assert not of_six(facts)
    task_legs = legs(given_, given_.tasks["t1"].task)
    for underlay, text in ((without, "no IPv6"), (replace(UNDERLAY, mtu=1300), "its MTU is 1250")):
        with pytest.raises(errors.FailedPrecondition, match=text):
            refuse_without_ipv6(task_legs, underlay)
    refuse_without_ipv6(task_legs, UNDERLAY)


@given(
    st.lists(
        st.tuples(st.integers(3, 250), st.booleans(), st.sampled_from(["n1", "n2", "n3"])),
        unique_by=lambda t: t[0],
    )
)
def test_both_families_stand_for_the_same_tasks(placed: list[tuple[int, bool, str]]) -> None:
    """Whoever has an IPv6 address and serves is behind both, in one order; IPv4's facts are what they are without IPv6."""
    endpoints = [leg(f"t{n}", n, "six", node, state=SERVING if up else NONE) for n, up, node in placed]
    both = plan.desired(state(endpoints, task("me", 251, "six")), {"me": ""}, UNDERLAY)
    alone = [replace(e, addr6="") for e in endpoints]
    without = plan.desired(state(alone, task("me", 251, "six")), {"me": ""}, UNDERLAY)
    assert table(both["t-me"], "ip") == table(without["t-me"], "ip")
    four, six = (
        [line.strip() for line in table(both["t-me"], family).splitlines() if "numgen" in line]
        for family in ("ip", "ip6")
    )
    assert four == six
    for n, up, _ in placed:
        assert (f" : fd00:2::{n:x} " in table(both["t-me"], "ip6").replace(",", " ")) is up
