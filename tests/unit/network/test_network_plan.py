"""From assignments to facts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.network import dual, names, plan
from agent.network.facts import (
    Address,
    Bridge,
    DefaultRoute,
    Forward,
    LinkRoute,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    Table,
    Veth,
    Vxlan,
    difference,
)
from common import model
from tests.unit.network.small_swarm import (
    SERVING,
    STATES,
    UNDERLAY,
    balanced,
    endpoint,
    host_mode,
    network,
    state,
    table,
    task,
    with_service,
)


def test_a_node_without_tasks_serves_the_mesh() -> None:
    view = plan.desired(state((endpoint("t1", "ing", "10.0.0.20", "n2"),)), {}, UNDERLAY)
    assert set(view) == {"", "n-ing"}
    sandbox, host = view["n-ing"], view[""]
    assert Vxlan("vxlan0", 4096, "192.0.2.1", 1450, "br0") in sandbox
    assert Neighbour("10.0.0.20", "02:42:0a:00:00:14") in sandbox
    assert Forward("02:42:0a:00:00:14", "192.0.2.2") in sandbox
    assert Forward("02:42:0a:00:00:03", "192.0.2.2") in sandbox  # the other node's leg
    assert Neighbour("10.0.0.2", names.mac("10.0.0.2")) not in sandbox  # this node's own leg
    assert Port(names.INGRESS_PORT, "br0", mtu=1450) in sandbox
    assert Address("shoal_ing", "10.0.0.2/24") in host
    assert Bridge("docker_gwbridge", 1500, "172.18.0.1/16") in host
    assert balanced(table(host), "tcp_8080") == {"10.0.0.20": 1}


def test_a_tasks_namespace() -> None:
    found = task("t1", ("app", "10.0.1.10"), ("ing", "10.0.0.10"))
    view = plan.desired(state((), found), {"t1": "172.18.0.2"}, UNDERLAY)
    assert set(view) == {"", "n-ing", "n-app", "t-t1"}
    facts = view["t-t1"]
    assert {f for f in facts if isinstance(f, Address)} == {
        Address("eth0", "10.0.0.10/24"),  # ingress comes first
        Address("eth1", "10.0.1.10/24"),
        Address("eth2", "172.18.0.2/16"),
    }
    legs = {f.name: f for f in facts if isinstance(f, Veth)}
    assert legs["eth1"].mac == "02:42:0a:00:01:0a"
    assert (legs["eth0"].mtu, legs["eth2"].mtu) == (1450, 1500)
    assert legs["eth2"].isolated
    assert DefaultRoute("172.18.0.1", "eth2") in facts
    assert ReturnRoute(1002, "10.0.0.3", "eth0") in facts
    assert {f for f in facts if isinstance(f, ReturnRule)} == {ReturnRule(n, 1000 + n) for n in (1, 2, 3)}
    assert Port(names.sandbox_port("t1"), "br0", mtu=1450) in view["n-app"]
    assert Port(names.gateway_port("t1"), "docker_gwbridge", isolated=True) in view[""]


def test_an_internal_network_has_no_way_out() -> None:
    given = state((), task("t1", ("app", "10.0.1.10")))
    given = replace(given, networks={**given.networks, "app": network("app", 1, internal=True)})
    facts = plan.desired(given, {"t1": "172.18.0.2"}, UNDERLAY)["t-t1"]
    assert not any(isinstance(f, DefaultRoute) for f in facts)
    assert {f.interface for f in facts if isinstance(f, Address)} == {"eth0"}


def test_several_subnets_are_one_link() -> None:
    subnets = (model.IPAMConfig("10.33.0.0/16"), model.IPAMConfig("10.34.0.0/24"))
    wide = replace(network("app", 1), ipam=model.IPAMOptions(configs=subnets))
    given = state((), task("t1", ("app", "10.34.0.10")))
    given = replace(given, networks={**given.networks, "app": wide})
    facts = plan.desired(given, {"t1": "172.18.0.2"}, UNDERLAY)["t-t1"]
    assert {f for f in facts if isinstance(f, LinkRoute)} == {LinkRoute("10.33.0.0/16", "eth0")}
    usual = plan.desired(state((), task("t1", ("app", "10.0.1.10"))), {"t1": ""}, UNDERLAY)["t-t1"]
    assert not any(isinstance(f, LinkRoute) for f in usual)


def test_a_task_without_networks_has_a_way_out() -> None:
    facts = plan.desired(state((), task("t1")), {"t1": "172.18.0.2"}, UNDERLAY)["t-t1"]
    assert Address("eth0", "172.18.0.2/16") in facts


def test_withdrawn_is_reachable_but_not_offered() -> None:
    records = tuple(
        endpoint(f"t{n}", net, f"10.0.{third}.{20 + n}", "n2", s)
        for n, s in enumerate(STATES)
        for third, net in enumerate(("ing", "app"))
    )
    view = plan.desired(state(records, task("me", ("app", "10.0.1.90"))), {"me": ""}, UNDERLAY)
    peers = {f.address for f in view["n-app"] if isinstance(f, Neighbour)}
    assert peers == {f"10.0.1.{20 + n}" for n in range(len(STATES))}
    serving = STATES.index(SERVING)
    assert balanced(table(view["t-me"]), "vip_10_0_1_2") == {f"10.0.1.{20 + serving}": 1}
    assert balanced(table(view[""]), "tcp_8080") == {f"10.0.0.{20 + serving}": 1}


def test_host_mode_stays_on_this_node() -> None:
    port = model.PortConfig(
        protocol=model.PortProtocol.TCP, target_port=80, published_port=81,
        publish_mode=model.PublishMode.HOST,
    )  # fmt: skip
    view = plan.desired(state((), task("t1", ports=(port,))), {"t1": "172.18.0.2"}, UNDERLAY)
    assert balanced(table(view[""]), "tcp_81") == {"172.18.0.2": 1}
    assert "tcp_81" not in table(plan.desired(state((), task("t1", ports=(port,))), {}, UNDERLAY)[""])


def test_the_newest_task_has_a_host_mode_port() -> None:
    """Its predecessor's container may be there a moment longer."""
    ports = host_mode(model.PortProtocol.TCP, 81)
    old, new = (
        replace(made, task=replace(made.task, desired_state=desired, assigned_index=index))
        for made, desired, index in (
            (task("t2", ports=ports), model.TaskState.TASK_SHUTDOWN, 9),
            (task("t1", ports=ports), model.TaskState.TASK_RUNNING, 8),
        )
    )
    view = plan.desired(state((), old, new), {"t1": "172.18.0.3", "t2": "172.18.0.2"}, UNDERLAY)
    assert balanced(table(view[""]), "tcp_81") == {"172.18.0.3": 1}


def test_published_on_some_addresses_only() -> None:
    given = with_service(
        state((endpoint("t1", "ing", "10.0.0.20", "n2"),)), publish_addresses=("10.9.0.0/16", "127.0.0.1")
    )
    text = table(plan.desired(given, {}, UNDERLAY)[""])
    assert (
        "ip daddr != { 10.9.0.0/16, 127.0.0.1 } return"
        in text.partition("chain tcp_8080")[2].partition("dnat")[0]
    )
    labelled = task("t1", ports=host_mode(model.PortProtocol.TCP, 81))
    labelled = replace(
        labelled, task=replace(labelled.task, service_labels={"shoal.publish.address": "192.0.2.1"})
    )
    text = table(plan.desired(state((), labelled), {"t1": "172.18.0.2"}, UNDERLAY)[""])
    assert "ip daddr != { 192.0.2.1 } return" in text.partition("chain tcp_81")[2]


def test_sctp_goes_the_same_way() -> None:
    ports = (model.PortConfig(protocol=model.PortProtocol.SCTP, target_port=70, published_port=7070),)
    text = table(
        plan.desired(
            with_service(state((endpoint("t1", "ing", "10.0.0.20", "n2"),)), ports=ports), {}, UNDERLAY
        )[""]
    )
    assert "meta l4proto sctp dnat to ct mark map { 0x8a000014 : 10.0.0.20 } : 70" in text
    assert "fib daddr type local sctp dport vmap @sctp_ports" in text


def test_a_server_by_sctp_answers_from_its_leg_in_the_mesh() -> None:
    ports = tuple(
        model.PortConfig(protocol=model.PortProtocol.SCTP, target_port=target, published_port=target, publish_mode=mode)
        for target, mode in ((70, model.PublishMode.INGRESS), (71, model.PublishMode.HOST))
    )  # fmt: skip
    view = plan.desired(state((), task("me", ("ing", "10.0.0.90"), ports=ports)), {"me": ""}, UNDERLAY)
    (flows,) = (f.text for f in view["t-me"] if isinstance(f, Table) and f.name == names.FLOWS_TABLE)
    assert "ip daddr . sctp dport . sctp sport map @mesh_paths" in flows
    assert "sctp sport { 70 } @th,96,8 4 ct state new,invalid drop" in flows


def test_tasks_learn_flows_in_a_table_that_stays() -> None:
    given, more = (
        state(records, task("me", ("app", "10.0.1.90"), ("ing", "10.0.0.90")))
        for records in (
            (),
            (endpoint("t1", "app", "10.0.1.20", "n2"), endpoint("t1", "ing", "10.0.0.20", "n2")),
        )
    )
    before, after = (
        {f for f in plan.desired(s, {"me": ""}, UNDERLAY)["t-me"] if isinstance(f, Table)}
        for s in (given, more)
    )
    assert [f.name for f in before & after] == [names.FLOWS_TABLE]
    assert len(before) == len(after) == 2


def test_a_very_large_swarm_masquerades() -> None:
    given = state((endpoint("t1", "ing", "10.0.0.20", "n2"),), task("me", ("ing", "10.0.0.90")))
    many = {
        f"m{n}": model.NodeRecord(id=f"m{n}", ingress_addr=f"10.0.{n // 200 + 1}.{n % 200}", number=n)
        for n in range(4, 502)
    }
    view = plan.desired(replace(given, nodes={**given.nodes, **many}), {"me": ""}, UNDERLAY)
    assert not any(isinstance(f, ReturnRoute | ReturnRule) for f in view["t-me"])
    assert f"{names.backend_mark('10.0.0.20') | names.MASQUERADED:#x} : 10.0.0.20" in table(view[""])
    few = plan.desired(given, {"me": ""}, UNDERLAY)
    assert f"{names.backend_mark('10.0.0.20'):#x} : 10.0.0.20" in table(few[""])


def test_a_node_that_cannot_route_by_marks() -> None:
    """What the mesh sends to its tasks alone is masqueraded, by every node; its own tasks get no way back."""
    given = state(
        (endpoint("t1", "ing", "10.0.0.20", "n2"), endpoint("t2", "ing", "10.0.0.21", "n3")),
        task("me", ("ing", "10.0.0.90")),
    )

    def seen(blind: str) -> tuple[str, bool]:
        nodes = {**given.nodes, blind: replace(given.nodes[blind], masquerade=True)}
        view = plan.desired(replace(given, nodes=nodes), {"me": ""}, UNDERLAY)
        return table(view[""]), any(isinstance(f, ReturnRoute | ReturnRule) for f in view["t-me"])

    text, way_back = seen("n3")
    assert f"{names.backend_mark('10.0.0.20'):#x} : 10.0.0.20" in text
    assert f"{names.backend_mark('10.0.0.21') | names.MASQUERADED:#x} : 10.0.0.21" in text
    assert way_back
    text, way_back = seen(given.node_id)
    assert f"{names.MASQUERADED | names.BACKEND_MARK:#x} : " not in text
    assert not way_back


RECORDS = st.lists(
    st.tuples(st.sampled_from(["ing", "app"]), st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(STATES)),
    max_size=12,
).map(
    lambda rows: tuple(
        endpoint(f"t{n}", net, f"10.0.{int(net == 'app')}.{20 + n}", node, s)
        for n, (net, node, s) in enumerate(rows)
    )
)


@given(RECORDS)
def test_every_serving_endpoint_is_offered_exactly_once(records: tuple[model.EndpointRecord, ...]) -> None:
    clients = (task("c1", ("app", "10.0.1.90")), task("c2", ("app", "10.0.1.91"), ("ing", "10.0.0.91")))
    view = plan.desired(state(records, *clients), {"c1": "172.18.0.2", "c2": "172.18.0.3"}, UNDERLAY)
    serving = Counter(r.addr for r in records if r.network_id == "app" and r.state is SERVING)
    for client in ("t-c1", "t-c2"):
        assert balanced(table(view[client]), "vip_10_0_1_2") == serving
    meshed = Counter(r.addr for r in records if r.network_id == "ing" and r.state is SERVING)
    assert balanced(table(view[""]), "tcp_8080") == meshed
    remote = {r.addr for r in records if r.network_id == "app" and r.node_id != "n1"}
    assert {f.address for f in view["n-app"] if isinstance(f, Neighbour)} == remote


@given(RECORDS, st.integers())
def test_the_plan_does_not_depend_on_the_order_of_things(
    records: tuple[model.EndpointRecord, ...], seed: int
) -> None:
    given_state = state(records, task("c1", ("app", "10.0.1.90")), task("c2", ("ing", "10.0.0.91")))
    attached = {"c1": "172.18.0.2", "c2": "172.18.0.3"}
    shuffle = random.Random(seed)

    def mixed(items: dict[Any, Any]) -> dict[Any, Any]:
        return dict(shuffle.sample(list(items.items()), len(items)))

    other = replace(
        given_state,
        tasks=mixed(dict(given_state.tasks)), networks=mixed(dict(given_state.networks)),
        endpoints=mixed(dict(given_state.endpoints)), nodes=mixed(dict(given_state.nodes)),
    )  # fmt: skip
    one, two = plan.desired(given_state, attached, UNDERLAY), plan.desired(other, mixed(attached), UNDERLAY)
    assert one == two
    assert difference(one, two) == ()


def test_a_container_with_a_mac_of_its_own() -> None:
    elsewhere = replace(endpoint("t1", "app", "10.0.1.20", "n2"), mac="92:d0:c6:0a:29:33", addr6="fd00:1::20")
    twin = replace(endpoint("t2", "app", "10.0.1.21", "n3"), mac="92:d0:c6:0a:29:33")
    here = task("c1", ("app", "10.0.1.5"))
    leg = replace(here.task.networks[0], mac="92:d0:c6:0a:29:44")
    here = replace(here, task=replace(here.task, networks=(leg,)))
    view = plan.desired(state((elsewhere, twin), here), {"c1": ""}, UNDERLAY)
    sandbox = view["n-app"]
    assert {
        Neighbour("10.0.1.20", "92:d0:c6:0a:29:33"),
        Neighbour("10.0.1.21", "92:d0:c6:0a:29:33"),
    } <= sandbox
    assert [f.vtep for f in sandbox if isinstance(f, Forward) and f.mac == elsewhere.mac] == ["192.0.2.2"]
    assert {f.mac for f in view["t-c1"] if isinstance(f, Veth)} == {"92:d0:c6:0a:29:44"}
    assert {f.mac for f in dual.neighbours(state((elsewhere,)), network("app", 1))} == {"92:d0:c6:0a:29:33"}
