"""The names that single containers see."""

from __future__ import annotations

from agent.dns.zone import Found, NetworkZone, ZoneView
from agent.single.record import BRIDGE, Leg, LocalNetwork, SingleRecord
from agent.single.zones import views

NETWORKS = {
    "n1": LocalNetwork("n1", "net", 0, "br-1", "172.20.0.0/16", "172.20.0.1"),
    "n2": LocalNetwork("n2", "inner", 0, "br-2", "172.21.0.0/16", "172.21.0.1", internal=True),
    BRIDGE: LocalNetwork(BRIDGE, BRIDGE, 0, "docker0", "172.17.0.0/16", "172.17.0.1"),
}
A, B, C = "a" * 64, "b" * 64, "c" * 64


def record(id: str, name: str, *legs: Leg, sandbox: str | None = None) -> SingleRecord:
    return SingleRecord(
        id, name, legs=legs, sandbox=id if sandbox is None else sandbox, dns=("192.0.2.53", "127.0.0.11")
    )


def test_names_aliases_and_short_ids_of_those_in_the_same_network() -> None:
    one = record(A, "one", Leg("net", ("al",), network_id="n1", address="172.20.0.2"))
    two = record(B, "two", Leg("net", network_id="n1", address="172.20.0.3"))
    gone = record(C, "gone", Leg("net"), sandbox="")
    seen = views((one, two, gone), NETWORKS.get, {})
    assert set(seen) == {A, B}
    for name in ("one", "AL", "a" * 12, "one.net"):
        assert seen[B].find(name, 1) == Found(("172.20.0.2",))
    assert seen[A].find("gone", 1) is None
    assert seen[A].find("3.0.20.172.in-addr.arpa", 12) == Found(pointer="two.net")
    assert (seen[A].forward, seen[A].servers) == (True, ("192.0.2.53",))


def test_the_default_bridge_has_no_names_and_an_internal_network_no_outside() -> None:
    one = record(A, "one", Leg(BRIDGE, network_id=BRIDGE, address="172.17.0.2"))
    two = record(B, "two", Leg("inner", network_id="n2", address="172.21.0.2"))
    seen = views((one, two), NETWORKS.get, {})
    assert (seen[A].find("one", 1), seen[A].forward) == (None, True)
    assert (seen[B].find("two", 1), seen[B].forward) == (Found(("172.21.0.2",)), False)


def test_overlays_beside_bridges_in_their_order() -> None:
    zone = NetworkZone("ov", {"web": ("10.0.1.2",), "two": ("10.0.1.9",)})
    one = record(A, "one", Leg("ov", attachment="a1"), Leg("net", network_id="n1", address="172.20.0.2"))
    two = record(B, "two", Leg("net", network_id="n1", address="172.20.0.3"))
    seen = views((one, two), NETWORKS.get, {"a1": ZoneView((zone,))})
    assert seen[A].find("web", 1) == Found(("10.0.1.2",))
    assert seen[A].find("two", 1) == Found(("10.0.1.9",))
    assert seen[B].find("web", 1) is None


def test_a_link_is_a_name_that_its_container_alone_has() -> None:
    given = ("two:db", "later:soon", "al:viaalias", "two", "later:one", "db:twice")
    one = record(A, "one", Leg("net", network_id="n1", address="172.20.0.2"))
    two = record(B, "two", Leg("net", ("al",), network_id="n1", address="172.20.0.3"))
    me = record(C, "me", Leg("net", network_id="n1", address="172.20.0.4", links=given))
    seen = views((one, two, me), NETWORKS.get, {})
    for name in ("db", "DB", "db.net", "viaalias", "two"):
        assert seen[C].find(name, 1) == Found(("172.20.0.3",))
    assert seen[C].find("db", 28) == Found()
    assert [seen[C].find(name, 1) for name in ("soon", "one", "twice")] == [None, None, None]
    assert seen[A].find("db", 1) is None
    assert seen[A].find("one", 1) == Found(("172.20.0.2",))
    renamed = views((one, record(B, "later", *two.legs), me), NETWORKS.get, {})
    assert renamed[C].find("db", 1) is None
    assert renamed[C].find("soon", 1) == renamed[C].find("one", 1) == Found(("172.20.0.3",))


def test_a_link_in_an_overlay_comes_before_the_names_of_other_networks() -> None:
    zone = NetworkZone("ov", {"web": ("10.0.1.2", "fd00::2"), "two": ("10.0.1.9",)})
    two = record(B, "two", Leg("net", network_id="n1", address="172.20.0.3"))
    me = record(
        C,
        "me",
        Leg("net", network_id="n1", address="172.20.0.4"),
        Leg("ov", attachment="a1", links=("web:two",)),
    )
    view = views((two, me), NETWORKS.get, {"a1": ZoneView((zone,))})[C]
    assert (view.find("two", 1), view.find("two", 28)) == (Found(("10.0.1.2",)), Found(("fd00::2",)))
    assert view.find("two.net", 1) == Found(("172.20.0.3",))
