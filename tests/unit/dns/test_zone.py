"""What a name means, network by network."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dns.zone import NOTHING, Endpoint, Found, Port, Service, Srv, Type, ZoneView, build_network

WEB = Service("s1", "Web", "10.0.1.2", (Port("http", "tcp", 80), Port("", "udp", 53)))
RR = Service("s2", "rr")
TASKS = (
    Endpoint("web.1.aaa", "10.0.1.3", "s1", ("www",), ("0123456789ab",)),
    Endpoint("web.2.bbb", "10.0.1.4", "s1", ("www",)),
    Endpoint("web.3.ccc", "10.0.1.5", "s1", ("www",), serving=False),
    Endpoint("rr.1.ddd", "10.0.1.6", "s2", ("both", "www")),
    Endpoint("rr.2.eee", "10.0.1.7", "s2", ("both",)),
    Endpoint("tool", "10.0.1.9", names=("alias",)),
)
NET = build_network("Net", (WEB, RR), TASKS)
OTHER = build_network("other", (Service("s3", "web", "10.0.2.2"), Service("s4", "only", "10.0.2.3")), ())
VIEW = ZoneView((NET, OTHER))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("web", ("10.0.1.2",)),
        ("WEB", ("10.0.1.2",)),
        ("tasks.web", ("10.0.1.3", "10.0.1.4")),
        ("web.1.aaa", ("10.0.1.3",)),
        ("web.3.ccc", ("10.0.1.5",)),  # not offered, but there
        ("0123456789ab", ("10.0.1.3",)),
        ("rr", ("10.0.1.6", "10.0.1.7")),
        ("tasks.rr", ("10.0.1.6", "10.0.1.7")),
        ("www", ("10.0.1.6", "10.0.1.2")),
        ("both", ("10.0.1.6", "10.0.1.7")),
        ("tool", ("10.0.1.9",)),
        ("alias", ("10.0.1.9",)),
        ("only", ("10.0.2.3",)),
        ("web.net", ("10.0.1.2",)),
        ("web.other", ("10.0.2.2",)),
        ("web.1.aaa.net", ("10.0.1.3",)),
    ],
)
def test_addresses(name: str, wanted: tuple[str, ...]) -> None:
    assert VIEW.find(name, Type.A) == Found(wanted)


@pytest.mark.parametrize(
    "name", ["web.2", "nosuch", "web.nosuch", "only.net", "", ".", "..", "a..b", "1.aaa"]
)
def test_unknown_names(name: str) -> None:
    assert VIEW.find(name, Type.A) is None


def test_a_known_name_without_the_asked_type_is_empty() -> None:
    assert VIEW.find("web", Type.AAAA) == NOTHING
    assert VIEW.find("web", 15) == NOTHING
    assert VIEW.find("2.1.0.10.in-addr.arpa", Type.A) == NOTHING
    assert VIEW.find("_http._tcp.web", Type.A) == NOTHING


def test_a_service_without_tasks_is_known() -> None:
    view = ZoneView((build_network("n", (RR,), ()),))
    assert view.find("rr", Type.A) == NOTHING
    assert view.find("tasks.rr", Type.A) == NOTHING


def test_pointers() -> None:
    assert VIEW.find("2.1.0.10.in-addr.arpa", Type.PTR) == Found(pointer="Web.Net")
    assert VIEW.find("3.1.0.10.IN-ADDR.ARPA", Type.PTR) == Found(pointer="web.1.aaa.Net")
    assert VIEW.find("9.9.9.9.in-addr.arpa", Type.PTR) is None
    assert VIEW.find("x.in-addr.arpa", Type.PTR) is None
    six = build_network("n", (Service("s", "six", "fd00::2"),), ())
    nibbles = ".".join(reversed("fd00" + "0" * 27 + "2"))
    assert ZoneView((six,)).find(f"{nibbles}.ip6.arpa", Type.PTR) == Found(pointer="six.n")
    assert ZoneView((six,)).find("six", Type.AAAA) == Found(("fd00::2",))
    assert ZoneView((six,)).find("six", Type.A) == NOTHING


def test_services() -> None:
    assert VIEW.find("_http._tcp.web", Type.SRV) == Found(services=(Srv(80, "web"),))
    assert VIEW.find("_80._tcp.web", Type.SRV) == Found(services=(Srv(80, "web"),))
    assert VIEW.find("_53._udp.web.net", Type.SRV) == Found(services=(Srv(53, "web"),))
    assert VIEW.find("_http._udp.web", Type.SRV) is None


@given(st.text(max_size=300), st.integers(0, 65535))
def test_no_name_is_an_error(name: str, kind: int) -> None:
    VIEW.find(name, kind)
    VIEW.find(name + ".in-addr.arpa", kind)
    VIEW.find(name + ".ip6.arpa", kind)


def test_both_families() -> None:
    """Every name answers with the family that is asked for; a name with one of them only is known all the same."""
    web = Service("s1", "web", "10.0.1.2", address6="fd00:1::2")
    rr = Service("s2", "rr")
    zone = build_network(
        "net", (web, rr),
        (
            Endpoint("web.1.aaa", "10.0.1.3", "s1", ("www",), ("0123456789ab",), address6="fd00:1::3"),
            Endpoint("rr.1.ccc", "10.0.1.5", "s2", ("both",), address6="fd00:1::5"),
            Endpoint("rr.2.ddd", "10.0.1.6", "s2", ("both",)),
        ),
    )  # fmt: skip
    view = ZoneView((zone,))
    for name, four, six in (
        ("web", ("10.0.1.2",), ("fd00:1::2",)),
        ("www.net", ("10.0.1.2",), ("fd00:1::2",)),
        ("tasks.web", ("10.0.1.3",), ("fd00:1::3",)),
        ("web.1.aaa", ("10.0.1.3",), ("fd00:1::3",)),
        ("0123456789ab", ("10.0.1.3",), ("fd00:1::3",)),
        ("rr", ("10.0.1.5", "10.0.1.6"), ("fd00:1::5",)),
        ("both", ("10.0.1.5", "10.0.1.6"), ("fd00:1::5",)),
        ("rr.2.ddd", ("10.0.1.6",), ()),
    ):
        assert view.find(name, Type.A) == Found(four), name
        assert view.find(name, Type.AAAA) == Found(six), name
    for address, name in (("fd00:1::2", "web.net"), ("fd00:1::5", "rr.1.ccc.net")):
        asked = ipaddress.ip_address(address).reverse_pointer
        assert view.find(asked, Type.PTR) == Found(pointer=name)
    assert view.find(ipaddress.ip_address("fd00:1::9").reverse_pointer, Type.PTR) is None
