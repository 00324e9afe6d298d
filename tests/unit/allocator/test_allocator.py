"""Addresses, VIPs, ports and numbers: one pass at a time, and over long random histories."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common import model
from common.model import EndpointMode, NodeState, PublishMode, TaskState
from manager import lifecycle
from manager.allocator.addresses import Pool, pool_of
from manager.allocator.reconcile import Allocator
from manager.allocator.subnets import AllocationError, refusal, site
from manager.dispatcher.acks import Acks
from manager.lifecycle import SECOND
from manager.plan import Plan
from manager.store.store import Change, ChangeKind
from manager.store.tables import MemoryRows, View, memory
from manager.store.view import THIS_INDEX

NOW = 1_000_000 * SECOND


class Bench:
    """A store without a log, and the allocator on it."""

    def __init__(self) -> None:
        self.view = View(memory())
        self.acks = Acks()
        self.allocator = Allocator(self.acks)
        self.now = NOW
        self.allocator.reset(self.view)

    def write(self, thing: model.Cluster | model.Node | model.Service | model.Task | model.Network) -> None:
        self.view.index += 1
        index = self.view.index
        if isinstance(thing, model.Network):
            held = tuple(replace(h, index=index) if h.index == THIS_INDEX else h for h in thing.held)
            thing = replace(thing, held=held)
        thing = replace(thing, version=index)
        rows: MemoryRows[object] = self.view.rows[type(thing)]
        old = rows.put(thing)
        kind = ChangeKind.CREATE if old is None else ChangeKind.UPDATE
        self.allocator.observe(Change(kind, old, thing), self.view)  # type: ignore[arg-type]

    def remove(self, thing: model.Node | model.Service | model.Task | model.Network) -> None:
        self.view.index += 1
        old = self.view.rows[type(thing)].remove(thing.id)
        self.allocator.observe(Change(ChangeKind.REMOVE, old, None), self.view)

    def settle(self) -> list[Plan]:
        plans = []
        for _ in range(50):
            if not self.allocator.pending(self.now):
                return plans
            plan = self.allocator.reconcile(self.view, self.now)
            plans.append(plan)
            for key, thing in plan.changes.items():
                if thing is None:
                    self.remove(plan.originals[key])
                else:
                    self.write(thing)
        raise AssertionError("the allocator never comes to rest")


def network(name: str, *subnets: str, **spec: object) -> model.Network:
    ipam = model.IPAMOptions(configs=tuple(model.IPAMConfig(subnet=s) for s in subnets)) if subnets else None
    return model.Network(id=name, spec=model.NetworkSpec(name=name, ipam=ipam, **spec))  # type: ignore[arg-type]


def service(name: str, *networks: str, ports: tuple[model.PortConfig, ...] = ()) -> model.Service:
    attachments = tuple(model.NetworkAttachmentConfig(target=n, aliases=(f"{name}-alias",)) for n in networks)
    endpoint = model.EndpointSpec(mode=EndpointMode.VIP, ports=ports)
    spec = model.ServiceSpec(name=name, task=model.TaskSpec(networks=attachments), endpoint=endpoint)
    return model.Service(id=name, spec=spec, spec_version=1)


def task(name: str, of: model.Service) -> model.Task:
    status = model.TaskStatus(state=TaskState.TASK_NEW, message="created")
    return model.Task(
        id=name, service_id=of.id, spec=of.spec.task, spec_version=1, status=status,
        desired_state=TaskState.TASK_RUNNING, ports=lifecycle.spec_ports(of.spec),
    )  # fmt: skip


def start() -> Bench:
    bench = Bench()
    bench.write(model.Cluster(id="c"))
    bench.write(network("ingress", ingress=True))
    bench.write(network("web"))
    bench.settle()
    return bench


def test_networks_get_subnet_gateway_and_vni() -> None:
    bench = start()
    web = bench.view.networks.get("web")
    assert web.ipam.configs == (model.IPAMConfig(subnet="10.1.0.0/24", gateway="10.1.0.1"),)
    assert web.vni == 0x530001
    assert bench.view.cluster.next_vni == 0x530002
    assert web.driver_state.options == {"com.docker.network.driver.overlay.vxlanid_list": str(0x530001)}


def pools(*configs: model.IPAMConfig) -> list[str]:
    """Networks of these subnets, asked for as many addresses as there are; and the gateways that were chosen."""
    bench = start()
    bench.write(
        model.Network(id="x", spec=model.NetworkSpec(name="x", ipam=model.IPAMOptions(configs=configs)))
    )
    bench.settle()
    pool = pool_of(bench.view.networks.get("x"))
    assert pool is not None
    found = [c.gateway for c in bench.view.networks.get("x").ipam.configs]
    with suppress(AllocationError):
        while True:
            found.extend(pool.take())
    with pytest.raises(AllocationError, match="no available IPv4 addresses on network x"):
        pool.take()
    return found


def test_what_a_user_keeps_is_never_given() -> None:
    kept = {"a": "10.40.0.1", "b": "10.40.0.4"}
    assert pools(model.IPAMConfig("10.40.0.0/29", reserved=kept)) == [
        "10.40.0.2", "10.40.0.3/29", "10.40.0.5/29", "10.40.0.6/29",
    ]  # fmt: skip


def test_addresses_come_from_the_range_and_carry_the_subnets_length() -> None:
    part = model.IPAMConfig("10.40.0.0/16", range="10.40.7.0/30", gateway="10.40.7.1")
    assert pools(part) == ["10.40.7.1", "10.40.7.0/16", "10.40.7.2/16", "10.40.7.3/16"]


def test_a_second_subnet_follows_when_the_first_is_full() -> None:
    found = pools(model.IPAMConfig("10.41.0.0/29", gateway="10.41.0.6"), model.IPAMConfig("10.40.0.0/30"))
    assert found == [
        "10.41.0.6", "10.40.0.1",
        *(f"10.41.0.{n}/29" for n in range(1, 6)), "10.40.0.2/30",
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.integers(24, 29),
    st.integers(0, 200),
    st.lists(st.integers(1, 6), max_size=4, unique=True),
    st.integers(0, 3),
)
def test_every_address_that_may_be_given_is_given_once(
    prefix: int, offset: int, kept: list[int], narrower: int
) -> None:
    """Whatever the subnet, the part of it and what is kept: all the rest, and nothing else, next-fit from the start."""
    subnet = ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.40.0.0")) + offset * 256, prefix))
    part = next(iter(subnet.subnets(prefixlen_diff=min(narrower, 32 - prefix))))
    reserved = {f"host{n}": str(subnet[n]) for n in kept}
    config = model.IPAMConfig(str(subnet), range=str(part) if narrower else "", reserved=reserved)
    gateway, *found = pools(config)
    never = {
        subnet[0],
        subnet[-1],
        ipaddress.IPv4Address(gateway),
        *map(ipaddress.IPv4Address, reserved.values()),
    }
    assert found == [f"{a}/{prefix}" for a in part if a not in never]
    assert gateway not in reserved.values()


def dual(*configs: model.IPAMConfig, name: str = "six", **spec: object) -> model.Network:
    ipam = model.IPAMOptions(configs=configs) if configs else None
    return model.Network(
        id=name,
        spec=model.NetworkSpec(name=name, ipv6_enabled=True, ipam=ipam, **spec),  # type: ignore[arg-type]
    )


def test_a_network_of_both_families_is_given_what_it_doesnt_ask_for() -> None:
    bench = start()
    given_six = model.IPAMConfig("FD00:5::/64", gateway="fd00:5:0::9", reserved={"a": "fd00:5::2"})
    bench.write(dual(name="neither"))
    bench.write(dual(given_six, name="only-six"))
    bench.write(dual(model.IPAMConfig("10.70.0.0/24"), name="only-four"))
    bench.settle()
    found = {n.id: [(c.subnet, c.gateway) for c in n.ipam.configs] for n in bench.view.networks.all()}
    six, gateway = found["neither"][1]
    assert ipaddress.ip_network(six).subnet_of(ipaddress.ip_network("fd00::/8"))
    assert (ipaddress.ip_network(six).prefixlen, gateway) == (64, six.replace("/64", "1"))
    assert found["only-six"] == [("10.1.2.0/24", "10.1.2.1"), ("fd00:5::/64", "fd00:5::9")]
    assert found["only-four"][0] == ("10.70.0.0/24", "10.70.0.1")
    assert found["only-four"][1][0] != six
    pool = pool_of(bench.view.networks.get("only-six"))
    assert pool is not None
    assert [pool.take() for _ in range(2)] == [
        ("10.1.2.2/24", "fd00:5::1/64"),
        ("10.1.2.3/24", "fd00:5::3/64"),
    ]


def test_addresses_of_both_families_in_the_part_that_is_asked_for() -> None:
    part = model.IPAMConfig("fd00:7::/64", range="fd00:7::1:0/126", reserved={"x": "fd00:7::1:2"})
    bench = start()
    bench.write(dual(part, model.IPAMConfig("10.41.0.0/24")))
    bench.settle()
    pool = pool_of(bench.view.networks.get("six"))
    assert pool is not None
    found = [pool.take() for _ in range(3)]
    assert [six for _, six in found] == ["fd00:7::1:0/64", "fd00:7::1:1/64", "fd00:7::1:3/64"]
    with pytest.raises(AllocationError, match="no available IPv6 addresses on network six"):
        pool.take()
    assert pool.network.last_address == "10.41.0.4", "of the other family none is taken then"


def test_a_service_of_both_families() -> None:
    """Two VIPs and two addresses there; in the routing mesh an IPv6 address that is made of the other one."""
    bench = start()
    bench.write(dual(model.IPAMConfig("10.41.0.0/24"), model.IPAMConfig("fd00:7::/64")))
    api = service("api", "six", "web", ports=(model.PortConfig(target_port=80, published_port=80),))
    bench.write(api)
    bench.write(task("t", api))
    bench.settle()
    vips = bench.view.services.get("api").endpoint.virtual_ips
    assert [(v.network_id, v.addr) for v in vips] == [
        ("ingress", "10.0.0.2/16"), ("six", "10.41.0.2/24"), ("six", "fd00:7::2/64"), ("web", "10.1.0.2/24"),
    ]  # fmt: skip
    legs = {a.network_id: a.addresses for a in bench.view.tasks.get("t").networks}
    assert (legs["six"], legs["web"]) == (("10.41.0.3/24", "fd00:7::3/64"), ("10.1.0.3/24",))
    mesh = legs["ingress"][1]
    assert (legs["ingress"][0], mesh) == ("10.0.0.3/16", f"{site('c')[int.from_bytes((10, 0, 0, 3))]}/64")
    bench.remove(bench.view.tasks.get("t"))
    bench.remove(bench.view.services.get("api"))
    bench.settle()
    held = {n.id: {h.addr for h in n.held} for n in bench.view.networks.all()}
    assert held["six"] == {"10.41.0.2", "10.41.0.3", "fd00:7::2", "fd00:7::3"}
    assert held["ingress"] == {"10.0.0.2", "10.0.0.3"}


def test_many_networks_in_one_pass_do_not_meet() -> None:
    bench = start()
    for n in range(5):
        bench.write(network(f"n{n}"))
    bench.settle()
    found = {bench.view.networks.get(f"n{n}").ipam.configs[0].subnet for n in range(5)}
    assert found == {f"10.1.{n}.0/24" for n in range(1, 6)}
    assert len({n.vni for n in bench.view.networks.all()}) == 7


def test_an_overlapping_subnet_is_an_error_until_it_is_free() -> None:
    bench = start()
    bench.write(network("other", "10.1.0.0/25"))
    bench.settle()
    other = bench.view.networks.get("other")
    assert other.error == "network other: subnet 10.1.0.0/25 overlaps network web (10.1.0.0/24)"
    web = service("api", "other")
    bench.write(web)
    bench.write(task("t", web))
    bench.settle()
    assert bench.view.tasks.get("t").status.err == other.error
    bench.view.rows[model.Network].remove("web")
    bench.allocator.observe(Change(ChangeKind.REMOVE, network("web"), None), bench.view)
    bench.settle()
    assert bench.view.networks.get("other").error == ""
    assert bench.view.tasks.get("t").status.state == TaskState.TASK_PENDING


def test_service_and_task() -> None:
    bench = start()
    ports = (
        model.PortConfig(target_port=80, publish_mode=PublishMode.INGRESS),
        model.PortConfig(target_port=81, published_port=8081, publish_mode=PublishMode.HOST),
    )
    web = service("api", "web", ports=ports)
    bench.write(web)
    bench.write(task("t", web))
    bench.settle()
    found = bench.view.services.get("api")
    assert [v.addr for v in found.endpoint.virtual_ips] == ["10.0.0.2/16", "10.1.0.2/24"]
    assert [p.published_port for p in found.endpoint.ports] == [30000, 8081]
    got = bench.view.tasks.get("t")
    assert (got.status.state, got.status.message) == (TaskState.TASK_PENDING, "pending task scheduling")
    assert [(a.network_id, a.addresses, a.aliases) for a in got.networks] == [
        ("ingress", ("10.0.0.3/16",), ()),
        ("web", ("10.1.0.3/24",), ("api-alias",)),
    ]
    assert got.ports == found.endpoint.ports


def test_a_port_that_is_taken_parks_the_service_and_its_tasks() -> None:
    bench = start()
    ports = (model.PortConfig(target_port=80, published_port=80),)
    bench.write(service("one", ports=ports))
    bench.settle()
    two = service("two", ports=ports)
    bench.write(two)
    bench.write(task("t", two))
    bench.settle()
    text = "port '80' is already in use by service 'one' (one) as an ingress port"
    assert bench.view.services.get("two").error == text
    assert bench.view.tasks.get("t").status.err == text
    bench.remove(bench.view.services.get("one"))
    bench.settle()
    assert bench.view.tasks.get("t").status.state == TaskState.TASK_PENDING
    assert bench.view.tasks.get("t").status.err == ""


def test_vips_follow_the_spec() -> None:
    bench = start()
    api = service("api", "web")
    bench.write(api)
    bench.settle()
    found = bench.view.services.get("api")
    dnsrr = replace(found, spec=replace(found.spec, endpoint=model.EndpointSpec(mode=EndpointMode.DNSRR)))
    bench.write(dnsrr)
    bench.settle()
    assert bench.view.services.get("api").endpoint.virtual_ips == ()
    assert [h.addr for h in bench.view.networks.get("web").held] == ["10.1.0.2"]


def test_a_vip_lasts_as_long_as_tasks_stand_behind_it() -> None:
    """A rolling update takes the service out of a network: the tasks that still serve there keep their VIP."""
    bench = start()
    bench.write(network("new"))
    api = service("api", "web")
    bench.write(api)
    bench.write(task("t", api))
    bench.settle()
    found = bench.view.services.get("api")
    bench.write(replace(found, spec=service("api", "new").spec))
    bench.settle()
    assert {v.network_id for v in bench.view.services.get("api").endpoint.virtual_ips} == {"web", "new"}
    running = bench.view.tasks.get("t")
    bench.write(replace(running, status=replace(running.status, state=TaskState.TASK_SHUTDOWN)))
    bench.settle()
    assert {v.network_id for v in bench.view.services.get("api").endpoint.virtual_ips} == {"new"}
    assert [h.addr for h in bench.view.networks.get("web").held] == ["10.1.0.2", "10.1.0.3"]


def test_a_removed_network_goes_with_its_last_task() -> None:
    bench = start()
    api = service("api", "web")
    bench.write(api)
    for name, where in (("t1", "a"), ("t2", "a"), ("t3", "b")):
        bench.write(model.Node(id=where, status=model.NodeStatus(state=NodeState.NODE_READY)))
        bench.write(task(name, api))
        bench.settle()
        bench.write(replace(bench.view.tasks.get(name), node_id=where))
    bench.remove(bench.view.services.get("api"))
    bench.write(replace(bench.view.networks.get("web"), pending_delete=True))
    bench.write(network("same", "10.1.0.0/24"))
    bench.settle()
    assert bench.view.networks.get("same").error == "", "a subnet may be asked for again"
    bench.write(network("other"))
    bench.settle()
    assert bench.view.networks.get("other").ipam.configs[0].subnet == "10.1.1.0/24", "but it isn't chosen"

    def end(name: str) -> None:
        running = bench.view.tasks.get(name)
        bench.write(replace(running, status=replace(running.status, state=TaskState.TASK_SHUTDOWN)))
        bench.settle()

    end("t1")
    assert bench.view.networks.get("web") is not None
    bench.write(replace(bench.view.nodes.get("b"), status=model.NodeStatus(state=NodeState.NODE_DOWN)))
    bench.settle()
    assert bench.view.networks.get("web") is not None
    end("t2")
    assert bench.view.networks.get("web") is None, "nobody waits for the node that is Down"
    end("t3")
    assert not any(a.addresses for t in bench.view.tasks.all() for a in t.networks)


def test_the_vips_of_a_removed_service_rest() -> None:
    bench = start()
    bench.write(service("api", "web"))
    bench.settle()
    bench.remove(bench.view.services.get("api"))
    bench.settle()
    assert [h.addr for h in bench.view.networks.get("web").held] == ["10.1.0.2"]


def test_nodes_get_the_lowest_free_number() -> None:
    bench = start()
    for name in ("a", "b", "c"):
        bench.write(model.Node(id=name))
    bench.settle()
    assert [bench.view.nodes.get(n).number for n in "abc"] == [1, 2, 3]
    bench.remove(bench.view.nodes.get("b"))
    bench.write(model.Node(id="d"))
    bench.settle()
    assert bench.view.nodes.get("d").number == 2
    assert bench.view.nodes.get("d").attachments[0].addresses == ("10.0.0.5/16",)


class Histories(RuleBasedStateMachine):
    """Services and tasks come and go in a network of few addresses; nodes acknowledge when they like."""

    subnets: tuple[str, ...] = ("10.9.0.0/28",)
    never: tuple[str, ...] = ("10.9.0.1", "10.9.0.0", "10.9.0.15")

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.made = 0
        self.acked = dict.fromkeys(("a", "b"), -1)
        self.bench.write(model.Cluster(id="c"))
        self.bench.write(network("small", *self.subnets, ipv6_enabled=len(self.subnets) > 1))
        for name in ("a", "b"):
            self.bench.write(model.Node(id=name, status=model.NodeStatus(state=NodeState.NODE_READY)))
        self.resting: dict[str, tuple[int, int]] = {}

    def step(self) -> None:
        before = {h.addr for h in self.bench.view.networks.get("small").held}
        self.bench.settle()
        for hold in self.bench.view.networks.get("small").held:
            if hold.addr not in before:
                self.resting[hold.addr] = (hold.index, self.bench.now)

    @rule()
    def new_service(self) -> None:
        self.made += 1
        self.bench.write(service(f"s{self.made}", "small"))
        self.step()

    @rule(count=st.integers(1, 4), pick=st.integers(0, 100))
    def new_tasks(self, count: int, pick: int) -> None:
        services = list(self.bench.view.services.all())
        if services:
            for _ in range(count):
                self.made += 1
                self.bench.write(task(f"t{self.made}", services[pick % len(services)]))
            self.step()

    @rule(pick=st.integers(0, 100), where=st.sampled_from("ab"))
    def assign(self, pick: int, where: str) -> None:
        waiting = [t for t in self.bench.view.tasks.all() if t.status.state == TaskState.TASK_PENDING]
        if waiting:
            chosen = waiting[pick % len(waiting)]
            status = replace(chosen.status, state=TaskState.TASK_RUNNING)
            self.bench.write(replace(chosen, node_id=where, status=status))
            self.step()

    @rule(pick=st.integers(0, 100), remove=st.booleans())
    def end_task(self, pick: int, remove: bool) -> None:
        alive = list(self.bench.view.tasks.all())
        if not alive:
            return
        chosen = alive[pick % len(alive)]
        if remove:
            self.bench.remove(chosen)
        else:
            self.bench.write(replace(chosen, status=replace(chosen.status, state=TaskState.TASK_FAILED)))
        self.step()

    @rule(pick=st.integers(0, 100))
    def end_service(self, pick: int) -> None:
        alive = list(self.bench.view.services.all())
        if alive:
            self.bench.remove(alive[pick % len(alive)])
            self.step()

    @rule(where=st.sampled_from("ab"))
    def acknowledge(self, where: str) -> None:
        self.acked[where] = self.bench.view.index
        self.bench.acks.record(where, self.bench.view.index)
        self.bench.allocator.acknowledged(where)
        self.step()

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.bench.now += seconds * SECOND
        self.step()

    @rule()
    def new_leader(self) -> None:
        self.bench.allocator = Allocator(self.bench.acks)
        self.bench.allocator.reset(self.bench.view)
        self.step()

    @invariant()
    def nobody_shares_an_address(self) -> None:
        view = self.bench.view
        small = view.networks.get("small")
        used = Counter(h.addr for h in small.held)
        used.update(v.addr.partition("/")[0] for s in view.services.all() for v in s.endpoint.virtual_ips)
        used.update(a.partition("/")[0] for t in view.tasks.all() for n in t.networks for a in n.addresses)
        used.update(self.never if small.ipam else [])
        assert all(count == 1 for count in used.values()), used
        assert all(
            any(ipaddress.ip_address(a) in ipaddress.ip_network(s) for s in self.subnets) for a in used
        )

    @invariant()
    def everybody_has_one_of_each_family(self) -> None:
        view = self.bench.view
        services = [[v.addr for v in s.endpoint.virtual_ips] for s in view.services.all()]
        tasks = [list(n.addresses) for t in view.tasks.all() for n in t.networks]
        for found in services + tasks:
            assert [":" in a for a in found] in ([], [False, True][: len(self.subnets)])

    @invariant()
    def addresses_rest_long_enough(self) -> None:
        view = self.bench.view
        held = {h.addr for h in view.networks.get("small").held}
        for address, (index, since) in list(self.resting.items()):
            if address in held:
                continue
            del self.resting[address]
            assert self.bench.now - since >= 60 * SECOND
            taking_part = {
                t.node_id for t in view.tasks.all() if t.node_id and not lifecycle.ended(t) and t.networks
            }
            assert all(self.acked[n] >= index for n in taking_part)

    @invariant()
    def whoever_waits_says_why(self) -> None:
        for waiting in self.bench.view.tasks.all():
            if waiting.status.state == TaskState.TASK_NEW and self.bench.view.services.get(
                waiting.service_id
            ):
                assert re.fullmatch(r"no available IPv[46] addresses on network small", waiting.status.err)


class DualHistories(Histories):
    """The same in a network of both families, of which IPv6 is the smaller one."""

    subnets = ("10.9.0.0/24", "fd00:9::/124")
    never = ("10.9.0.0", "10.9.0.1", "10.9.0.255", "fd00:9::", "fd00:9::1", "fd00:9::f")


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase
DualHistories.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestDualHistories = DualHistories.TestCase


def pool_with(*held: str) -> Pool:
    spec = model.NetworkSpec(name="net", ipv6_enabled=True)
    configs = (
        model.IPAMConfig("10.1.0.0/24", range="10.1.0.0/28", gateway="10.1.0.1", reserved={"a": "10.1.0.2"}),
        model.IPAMConfig("10.2.0.0/16", gateway="10.2.0.1"),
        model.IPAMConfig("fd00:1::/64", gateway="fd00:1::1"),
    )
    holds = tuple(model.AddressHold(addr=address, until=NOW) for address in held)
    found = pool_of(model.Network(id="net", spec=spec, ipam=model.IPAMOptions(configs=configs), held=holds))
    assert found is not None
    for address in held:
        found.hold(address)
    return found


def test_the_address_that_is_asked_for() -> None:
    pool = pool_with("10.1.0.40")
    assert pool.take(("10.1.0.30",)) == (
        "10.1.0.30/24",
        "fd00:1::2/64",
    )  # also beside the part that is given by itself
    assert pool.take(("10.2.7.7", "FD00:1:0::9")) == ("10.2.7.7/16", "fd00:1::9/64")
    assert pool.take(("fd00:1::a",)) == ("10.1.0.3/24", "fd00:1::a/64")
    assert pool.take(("10.1.0.40",))[0] == "10.1.0.40/24" and pool.network.held == ()  # it rested
    before = pool.network
    for wanted, why in (
        ("10.1.0.30", "Address already in use: 10.1.0.30"),
        ("10.1.0.40", "Address already in use: 10.1.0.40"),
        ("10.1.0.2", "Address already in use: 10.1.0.2"),
        ("10.3.0.1", "Invalid address 10.3.0.1: It does not belong to any of this network's subnets"),
        ("fd00:1::9", "Address already in use: fd00:1::9"),
    ):
        with pytest.raises(AllocationError, match=f"^{re.escape(why)}$"):
            pool.take((wanted,))
        assert pool.network is before


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("x", "invalid IP address: x"),
        ("fd00:1::9%eth0", "invalid IP address: fd00:1::9%eth0"),
        ("10.3.0.1", "Invalid address 10.3.0.1: It does not belong to any of this network's subnets"),
        ("fd00:2::1", "Invalid address fd00:2::1: It does not belong to any of this network's subnets"),
        ("10.1.0.1", "Address already in use: 10.1.0.1"),
        ("10.1.0.2", "Address already in use: 10.1.0.2"),
        ("10.1.0.0", "Address already in use: 10.1.0.0"),
        ("10.2.255.255", "Address already in use: 10.2.255.255"),
        ("10.1.0.30", ""),
        ("fd00:1::9", ""),
    ],
)
def test_what_can_never_be_given(wanted: str, why: str) -> None:
    assert refusal(pool_with().network, wanted) == why


def test_an_address_without_a_network_for_it() -> None:
    assert (
        refusal(network("net", "10.1.0.0/24"), "fd00::1")
        == "Invalid address fd00::1: the network has no IPv6"
    )
    assert refusal(network("net"), "10.1.0.1") == ""  # it has no subnet yet


def test_a_chosen_address_goes_from_one_to_the_other_in_one_pass() -> None:
    b = Bench()
    b.write(network("net", "10.1.0.0/24"))
    b.settle()
    asked = model.TaskSpec(networks=(model.NetworkAttachmentConfig("net", addresses=("10.1.0.9",)),))
    new = model.TaskStatus(state=TaskState.TASK_NEW)
    one, other = (
        model.Task(id=name, spec=asked, status=new, desired_state=TaskState.TASK_RUNNING)
        for name in ("a", "b")
    )
    b.write(one)
    b.write(other)
    b.settle()

    def addresses(name: str) -> list[str]:
        return [address for a in b.view.tasks.get(name).networks for address in a.addresses]  # type: ignore[union-attr]

    assert addresses("a") == ["10.1.0.9/24"] and addresses("b") == []
    waiting, running = b.view.tasks.get("b"), b.view.tasks.get("a")
    assert waiting is not None and running is not None
    assert waiting.status.err == "Address already in use: 10.1.0.9"
    b.write(replace(running, status=model.TaskStatus(state=TaskState.TASK_SHUTDOWN)))
    b.settle()
    assert addresses("a") == [] and addresses("b") == ["10.1.0.9/24"]
    net = b.view.networks.get("net")
    assert net is not None and net.held == ()
