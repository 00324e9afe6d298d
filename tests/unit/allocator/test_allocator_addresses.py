"""Which addresses are given: of ranges, of several subnets, of both families, and those that are asked for."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import replace

import pytest
from allocator_bench import NOW, Bench, network, service, start, task
from hypothesis import given, settings
from hypothesis import strategies as st

from common import model
from common.model import TaskState
from manager.allocator.addresses import Pool, pool_of
from manager.allocator.subnets import AllocationError, refusal, site


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
