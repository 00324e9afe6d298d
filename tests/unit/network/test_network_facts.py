"""The difference between two views of the kernel."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.network import facts
from agent.network.facts import (
    Address,
    Bridge,
    Change,
    DefaultRoute,
    Fact,
    Facts,
    Forward,
    LinkRoute,
    Namespace,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    Sysctl,
    Table,
    Veth,
    Vxlan,
    after,
    difference,
)

N = st.integers(1, 3)
FACT: st.SearchStrategy[Fact] = st.one_of(
    st.builds(lambda a, b: Sysctl(f"net/x{a}", str(b)), N, N),
    st.builds(lambda a: Bridge("br0", 1400 + a), N),
    st.builds(lambda a, b: Vxlan("vxlan0", a, f"10.0.0.{b}", 1450, "br0"), N, N),
    st.builds(lambda a, b: Veth(f"eth{a}", f"02:{b}", 1450, "p", "n-1", "br0"), N, N),
    st.builds(lambda a: Port(f"v{a}", "br0"), N),
    st.builds(lambda a, b: Address(f"eth{a}", f"10.0.0.{b}/24"), N, N),
    st.builds(lambda a, b: Neighbour(f"10.0.0.{a}", f"02:{b}"), N, N),
    st.builds(lambda a, b: Forward(f"02:{a}", f"10.9.0.{b}"), N, N),
    st.builds(lambda a: DefaultRoute(f"172.18.0.{a}", "eth1"), N),
    st.builds(lambda a: LinkRoute(f"10.{a}.0.0/16", "eth0"), N),
    st.builds(lambda a, b: ReturnRoute(1000 + a, f"10.0.0.{b}", "eth0"), N, N),
    st.builds(lambda a: ReturnRule(a, 1000 + a), N),
    st.builds(lambda a: Table(str(a), f"text {a}"), N),
)


def one_of_each(found: frozenset[Fact]) -> Facts:
    """As a kernel can be: one bridge of a name, one table, one MAC for a neighbour."""
    by_identity = {facts._identity(fact): fact for fact in sorted(found, key=repr)}
    sysctls = {fact.path: fact for fact in by_identity.values() if isinstance(fact, Sysctl)}
    rest = {fact for fact in by_identity.values() if not isinstance(fact, Sysctl)}
    return frozenset({Namespace(), *rest, *sysctls.values()})


VIEW = st.dictionaries(
    st.sampled_from(["", "n-1", "n-2", "t-1", "t-2"]), st.frozensets(FACT, max_size=12).map(one_of_each)
)


@given(VIEW, VIEW)
def test_carried_out_nothing_is_left_to_do(actual: dict[str, Facts], desired: dict[str, Facts]) -> None:
    done = after(actual, difference(actual, desired))
    assert difference(done, desired) == ()
    for namespace, wanted in desired.items():
        assert wanted <= done[namespace]


@given(VIEW)
def test_nothing_twice(view: dict[str, Facts]) -> None:
    assert difference(view, view) == ()


@given(VIEW, VIEW)
def test_made_in_order_and_removed_afterwards(actual: dict[str, Facts], desired: dict[str, Facts]) -> None:
    changes = difference(actual, desired)
    made = [facts.rank(c.fact) for c in changes if not c.remove]
    removed = [facts.rank(c.fact) for c in changes if c.remove]
    assert made == sorted(made)
    assert removed == sorted(removed, reverse=True)
    assert [c.remove for c in changes] == sorted(c.remove for c in changes)


@given(st.frozensets(FACT, max_size=12).map(one_of_each), st.frozensets(FACT, max_size=12).map(one_of_each))
def test_a_containers_own_changes_are_left_alone(actual: Facts, desired: Facts) -> None:
    for change in difference({"t-1": actual}, {"t-1": desired}):
        assert not change.remove or isinstance(change.fact, ReturnRoute | ReturnRule)


def test_a_namespace_goes_with_its_tunnel_first() -> None:
    tunnel = Vxlan("vxlan0", 7, "10.9.0.1", 1450, "br0")
    view = {"n-1": frozenset({Namespace(), Bridge("br0", 1450), tunnel, Port("v1", "br0")})}
    assert difference(view, {}) == (
        Change("n-1", tunnel, remove=True),
        Change("n-1", Namespace(), remove=True),
    )


def test_both_ends_of_a_leg_get_a_new_mtu_in_place() -> None:
    """The end that nobody looks at would go on dropping what the other one sends."""
    small, large = Port("v1", "br0", mtu=1230), Port("v1", "br0", mtu=8950)
    assert difference({"n-1": frozenset({small})}, {"n-1": frozenset({large})}) == (Change("n-1", large),)


def test_what_does_not_tell_is_not_compared() -> None:
    leg = Veth("eth0", "02:42", 1450, "v1", "n-1", "br0")
    assert leg == replace(leg, peer="", peer_namespace="", bridge="")
    assert DefaultRoute("172.18.0.1", "eth1") == DefaultRoute("10.0.0.1", "tun0")


def test_an_interfaces_sysctl_comes_after_it() -> None:
    leg = Veth("shoal_ing", "02:42", 1450, "vhost", "n-1", "br0")
    assert facts.rank(Sysctl("net/ipv4/conf/shoal_ing/rp_filter", "0")) > facts.rank(leg)
    assert facts.rank(Sysctl("net/ipv4/conf/all/rp_filter", "0")) < facts.rank(leg)


def test_an_interfaces_sysctl_goes_with_it() -> None:
    leg = Veth("shoal_ing", "02:42", 1450, "vhost", "n-1", "br0")
    own, other = (Sysctl(f"net/ipv4/conf/{name}/route_localnet", "1") for name in ("shoal_ing", "eth0"))
    everywhere = Sysctl("net/ipv4/ip_forward", "1")
    standing = {"": frozenset({leg, own, other, everywhere})}
    gone = after(standing, difference(standing, {"": frozenset({other, everywhere})}))
    assert gone == {"": frozenset({other, everywhere})}
    assert Change("", own) in difference(gone, standing)
