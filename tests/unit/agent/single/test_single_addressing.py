"""Subnets and addresses of this node's own bridges."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.single import addressing
from agent.single.record import LocalNetwork, Pool6
from common import errors

NET = LocalNetwork("n", "net", 0, "br-n", "172.20.0.0/29", "172.20.0.1", chosen=True)
DUAL = replace(NET, six=Pool6("fd00:1::/64", "fd00:1::1", chosen=True))


def test_the_first_pool_that_overlaps_nothing() -> None:
    assert addressing.choose_subnet(["192.0.2.0/24"]) == "172.17.0.0/16"
    assert addressing.choose_subnet(["fd00::/64", "172.17.0.0/24"]) == "172.18.0.0/16"
    assert addressing.choose_subnet(["172.17.0.0/24", "172.18.5.0/24"]) == "172.19.0.0/16"
    with pytest.raises(
        errors.ShoalError, match="could not find an available, non-overlapping IPv4 address pool"
    ):
        addressing.choose_subnet(["0.0.0.0/0"])
    addressing.refuse_overlap("172.20.0.0/16", ["172.21.0.0/16"])
    with pytest.raises(errors.PermissionDenied, match="Pool overlaps with other one on this address space"):
        addressing.refuse_overlap("172.20.0.0/16", ["172.20.5.0/24"])


def test_the_lowest_address_that_is_free() -> None:
    network = replace(NET, reserved={"router": "172.20.0.3"})
    assert addressing.next_address(network, ()) == "172.20.0.2"
    assert addressing.next_address(network, {"172.20.0.2"}) == "172.20.0.4"
    with pytest.raises(
        errors.ShoalError, match="no available IPv4 addresses on this network's address pools: net"
    ):
        addressing.next_address(network, {f"172.20.0.{n}" for n in range(8)})


def test_a_range_of_the_subnet() -> None:
    network = replace(NET, subnet="172.20.0.0/16", ip_range="172.20.5.0/24", gateway="172.20.5.0")
    assert addressing.first_address("172.20.0.0/16", "172.20.5.0/24", ()) == "172.20.5.0"
    assert addressing.first_address("172.20.0.0/16", "", {"172.20.0.1"}) == "172.20.0.2"
    assert addressing.next_address(network, ()) == "172.20.5.1"


@pytest.mark.parametrize(
    ("network", "wanted", "text"),
    [
        (replace(NET, name="bridge"), "172.20.0.2", "supported on user defined networks only"),
        (replace(NET, chosen=False), "172.20.0.2", "networks with user configured subnets"),
        (NET, "172.20.0.7", "Address already in use"),
        (NET, "10.0.0.1", "does not belong to any of this network's subnets"),
        (NET, "x", "invalid IPv4 address: x"),
        (NET, "172.20.0.1", "Address already in use"),
        (NET, "172.20.0.5", "Address already in use"),
        (NET, "fd00:1::5", "networks with user configured subnets"),
        (DUAL, "fd00:1::1", "Address already in use"),
        (DUAL, "fd00:1::", "Address already in use"),
        (DUAL, "fd00:1:0::5", "Address already in use"),
        (DUAL, "fd00:2::5", "Invalid address fd00:2::5: It does not belong to any of this network's subnets"),
    ],
)
def test_an_address_that_cannot_be_had(network: LocalNetwork, wanted: str, text: str) -> None:
    with pytest.raises(errors.ShoalError, match=text):
        addressing.wanted_address(network, wanted, {"172.20.0.5", "fd00:1::5"})


def test_both_families() -> None:
    assert addressing.addresses(NET, "", "", ()) == ("172.20.0.2", "")
    assert addressing.addresses(DUAL, "", "", {"fd00:1::2"}) == ("172.20.0.2", "fd00:1::3")
    assert addressing.addresses(DUAL, "172.20.0.5", "fd00:1::FF", ()) == ("172.20.0.5", "fd00:1::ff")
    small = replace(DUAL, six=Pool6("fd00:1::/126", "fd00:1::1", reserved={"a": "fd00:1::2"}))
    assert (
        addressing.addresses(small, "", "", ())[1] == "fd00:1::3"
    )  # the last one is an address like any other
    with pytest.raises(
        errors.ShoalError, match="no available IPv6 addresses on this network's address pools"
    ):
        addressing.addresses(small, "", "", {"fd00:1::3"})
    assert addressing.first_address("fd00:1::/64", "fd00:1::8000/120", ()) == "fd00:1::8000"
    assert addressing.choose_subnet6("0123456789abcdef" * 4) == "fd01:2345:6789:abcd::/64"
    addressing.refuse_overlap("fd00:1::/64", ["fd00:2::/64", "172.20.0.0/16"])


def test_one_that_can() -> None:
    assert addressing.wanted_address(NET, "172.20.0.6", {"172.20.0.5"}) == "172.20.0.6"


@given(st.integers(16, 30), st.sets(st.integers(0, 40)))
def test_what_is_given_lies_in_the_subnet_and_is_nobodys(length: int, taken: set[int]) -> None:
    subnet = ipaddress.IPv4Network(f"172.20.0.0/{length}")
    used = {str(subnet.network_address + n) for n in taken}
    network = replace(NET, subnet=str(subnet))
    try:
        found = addressing.next_address(network, used)
    except errors.ShoalError:
        assert all(str(host) in {*used, NET.gateway} for host in subnet.hosts())
        return
    assert ipaddress.IPv4Address(found) in list(subnet.hosts())[:50]
    assert found not in used and found != NET.gateway


def test_a_mac_in_any_form() -> None:
    for text in ("92:D0:c6:0a:29:33", "92-d0-c6-0a-29-33", "92d0.c60a.2933"):
        assert addressing.mac_address(text) == "92:d0:c6:0a:29:33"
    assert addressing.mac_address("") == ""
    for text in (
        "nonsense",
        "92:d0:c6:0a:29",
        "92:d0-c6:0a:29:33",
        "92d0c60a2933",
        "01:02:03:04:05:06:07:08",
    ):
        with pytest.raises(errors.InvalidArgument, match=f"^invalid MAC address {text}$"):
            addressing.mac_address(text)


def test_a_mac_that_no_interface_can_have() -> None:
    addressing.refuse_mac("92:d0:c6:0a:29:33")
    addressing.refuse_mac("")
    for mac in ("00:00:00:00:00:00", "93:d0:c6:0a:29:33"):
        with pytest.raises(
            errors.ShoalError, match=f'setting MAC to "{mac}": cannot assign requested address'
        ):
            addressing.refuse_mac(mac)


def test_link_local_addresses() -> None:
    addressing.refuse_link_local(())
    addressing.refuse_link_local(("169.254.34.68", "169.254.1.1"))
    for wanted, text in (
        (("169.254.34.68", "foo"), r"^Invalid link-local IP address: \[169.254.34.68 foo\]$"),
        (("10.1.1.1",), "^invalid link local IP address: 10.1.1.1$"),
        (("fe80::1",), "^--link-local-ip of IPv6 is not supported yet"),
    ):
        with pytest.raises(errors.ShoalError, match=text):
            addressing.refuse_link_local(wanted)
