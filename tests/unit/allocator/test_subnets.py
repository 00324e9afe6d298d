"""Subnets: out of the pools, apart from networks and routes; VNIs."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import model
from manager.allocator import subnets
from manager.store.tables import view_of


def network(name: str, subnet: str = "", **spec: object) -> model.Network:
    ipam = model.IPAMOptions(configs=(model.IPAMConfig(subnet=subnet),)) if subnet else None
    return model.Network(id=name, spec=model.NetworkSpec(name=name, **spec), ipam=ipam)  # type: ignore[arg-type]


def node(*routes: str) -> model.Node:
    return model.Node(id="n", description=model.NodeDescription(hostname="worker1", routes=routes))


def test_ingress_gets_a_16_and_the_first_network_the_24_after_it() -> None:
    ingress = network("ingress", ingress=True)
    assert str(subnets.choose(view_of([ingress]), ingress)) == "10.0.0.0/16"
    given_ = network("ingress", "10.0.0.0/16", ingress=True)
    web = network("web")
    assert str(subnets.choose(view_of([given_, web]), web)) == "10.1.0.0/24"


def test_routes_of_nodes_are_avoided_but_for_the_default_route() -> None:
    web = network("web")
    view = view_of([web, node("0.0.0.0/0", "10.0.0.0/8"), model.Cluster(id="c")])
    with pytest.raises(subnets.AllocationError, match="no free subnet"):
        subnets.choose(view, web)
    view = view_of([web, node("0.0.0.0/0", "10.0.0.0/24", "10.0.1.128/25")])
    assert str(subnets.choose(view, web)) == "10.0.2.0/24"


def test_a_small_pool_is_not_eaten_by_ingress() -> None:
    cluster = model.Cluster(id="c", default_address_pool=("10.20.0.0/16",), subnet_size=26)
    ingress = network("ingress", ingress=True)
    assert str(subnets.choose(view_of([cluster, ingress]), ingress)) == "10.20.0.0/20"


def test_conflict_names_what_is_in_the_way() -> None:
    view = view_of([network("web", "10.1.0.0/24"), node("192.168.0.0/16")])
    assert subnets.conflict(view, "10.1.0.0/16") == "subnet 10.1.0.0/16 overlaps network web (10.1.0.0/24)"
    assert subnets.conflict(view, "192.168.7.0/24") == (
        "subnet 192.168.7.0/24 overlaps route 192.168.0.0/16 of node worker1"
    )
    assert subnets.conflict(view, "10.2.0.0/24") is None
    assert subnets.conflict(view, "10.1.0.0/24", ignoring="web") is None


def test_ipv6_subnets_of_the_cluster() -> None:
    """A /48 of its own, the first /64 of it for the mesh, and the lowest that nobody has for a network."""
    site = subnets.site("c")
    assert (str(site)[:2], site.prefixlen, site.is_private) == ("fd", 48, True)
    assert subnets.site("c") == site != subnets.site("d")
    halves = list(site.subnets(new_prefix=64))[:4]
    web = network("web", ipv6_enabled=True)
    cluster = model.Cluster(id="c")
    assert subnets.choose6(view_of([cluster, web]), web) == halves[1]
    view = view_of([cluster, web, network("other", str(halves[1])), node(f"{halves[2]}", "::/0")])
    assert subnets.choose6(view, web) == halves[3]
    assert str(subnets.choose(view, web)) == "10.0.0.0/24"
    with pytest.raises(subnets.AllocationError, match="no free subnet"):
        subnets.choose6(view_of([cluster, web, node("fc00::/7")]), web)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from(["", "fd12::/64", "fd12::/96"]))
def test_addresses_in_the_mesh_are_made_of_each_other(one: int, other: int, subnet: str) -> None:
    ingress = network("ingress", subnet, ingress=True)
    first, second = (str(ipaddress.IPv4Address(n)) for n in (one, other))
    made = subnets.mesh_address("c", ingress, f"{first}/16")
    assert (made == subnets.mesh_address("c", ingress, second)) is (one == other)
    assert ipaddress.ip_interface(made).network == ipaddress.ip_network(
        subnet or f"{subnets.site('c')[0]}/64"
    )


ranges = st.builds(
    lambda number, prefix: ipaddress.IPv4Network((number & ~((1 << (32 - prefix)) - 1), prefix)),
    st.integers(int(ipaddress.IPv4Address("10.0.0.0")), int(ipaddress.IPv4Address("10.3.255.255"))),
    st.integers(12, 28),
)


@given(st.lists(ranges, max_size=12), st.integers(16, 26))
def test_first_free_is_free_lowest_and_aligned(used: list[ipaddress.IPv4Network], prefix: int) -> None:
    pool = ipaddress.IPv4Network("10.0.0.0/14")
    found = subnets.first_free(pool, prefix, [subnets.Taken(u, "") for u in used])
    free = (s for s in pool.subnets(new_prefix=prefix) if not any(s.overlaps(u) for u in used))
    assert found == next(free, None)


def test_vnis_come_from_our_base_and_wrap() -> None:
    assert subnets.choose_vni(0, set()) == 0x530000
    assert subnets.choose_vni(0x530005, {0x530005}) == 0x530006
    assert subnets.choose_vni((1 << 24) - 1, {(1 << 24) - 1}) == 0x530000
