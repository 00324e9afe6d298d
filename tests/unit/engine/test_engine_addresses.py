"""agent/engine/addresses.py: which address is meant, in Docker's words when it can't be known."""

import pytest

from agent.engine import addresses
from agent.engine.backend import InterfaceAddress
from common import errors

LOCAL = [
    InterfaceAddress("lo", "127.0.0.1/8"),
    InterfaceAddress("eth0", "192.0.2.1/24"),
    InterfaceAddress("eth0", "2001:db8::1/64"),
    InterfaceAddress("docker_gwbridge", "172.18.0.1/16"),
]
LISTEN = ("0.0.0.0", 2377)


def said(function, *arguments):
    with pytest.raises(errors.InvalidArgument) as caught:
        function(*arguments)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.9", ("192.0.2.9", 2377)),
        ("192.0.2.9:4000", ("192.0.2.9", 4000)),
        ("eth0", ("192.0.2.1", 2377)),
        ("eth0:4000", ("192.0.2.1", 4000)),
        ("[2001:db8::9]:4000", ("2001:db8::9", 4000)),
        ("2001:db8::9", ("2001:db8::9", 2377)),
        ("", ("192.0.2.1", 2377)),
    ],
)
def test_advertise(text, found):
    assert addresses.resolve_advertise(text, LISTEN, LOCAL) == found


@pytest.mark.parametrize(
    "text", ["300.1.1.1", "nosuchif", "0.0.0.0", "192.0.2.1:0", "192.0.2.1:x", "192.0.2.1:70000"]
)
def test_advertise_that_is_none(text):
    assert said(addresses.resolve_advertise, text, LISTEN, LOCAL) == addresses.BAD_ADVERTISE


def test_advertise_is_the_listening_address_when_that_is_one():
    assert addresses.resolve_advertise("", ("192.0.2.7", 2377), LOCAL) == ("192.0.2.7", 2377)


def test_a_manager_advertises_an_address_of_its_machine():
    for host in ("192.0.2.1", "2001:db8::1"):
        addresses.require_own(host, LOCAL)
    message = said(addresses.require_own, "192.0.2.9", LOCAL)
    assert message.startswith(
        "advertise address 192.0.2.9 belongs to no interface of this node, which has 192.0.2.1, "
    )
    assert "which has none:" in said(addresses.require_own, "192.0.2.9", LOCAL[:1])


def test_several_addresses_are_named():
    two = [*LOCAL, InterfaceAddress("eth1", "198.51.100.1/24")]
    assert said(addresses.resolve_advertise, "", LISTEN, two) == (
        "could not choose an IP address to advertise since this system has multiple addresses on different interfaces "
        "(192.0.2.1 on eth0 and 198.51.100.1 on eth1) - specify one with --advertise-addr"
    )
    same = [InterfaceAddress("eth0", "192.0.2.1/24"), InterfaceAddress("eth0", "192.0.2.2/24")]
    assert "on interface eth0 (192.0.2.1 and 192.0.2.2)" in said(
        addresses.resolve_advertise, "", LISTEN, same
    )
    assert "more than one IP address" in said(addresses.resolve_advertise, "eth0", LISTEN, same)


def test_no_address_at_all():
    assert said(addresses.resolve_advertise, "", LISTEN, LOCAL[:1]) == addresses.NO_ADDRESS


def test_listen_and_data_path():
    assert addresses.resolve_listen("0.0.0.0:2377", LOCAL) == ("0.0.0.0", 2377)
    assert addresses.resolve_listen("eth0", LOCAL) == ("192.0.2.1", 2377)
    assert said(addresses.resolve_listen, "x:1", LOCAL) == addresses.BAD_LISTEN
    assert addresses.resolve_data_path("", LOCAL) == ""
    assert addresses.resolve_data_path("eth0", LOCAL) == "192.0.2.1"
    assert said(addresses.resolve_data_path, "0.0.0.0", LOCAL) == addresses.BAD_DATA_PATH


def test_pools():
    addresses.check_pool(["10.20.0.0/16", "10.30.0.0/16"], 24)
    assert said(addresses.check_pool, ["10.20.0.0/16"], 12) == (
        'invalid CIDR: "10.20.0.0/16". Subnet size is too small for pool: 12'
    )
    assert "overlaps" in said(addresses.check_pool, ["10.20.0.0/16", "10.20.1.0/24"], 26)
    assert "invalid CIDR address: x" in said(addresses.check_pool, ["x"], 24)
    assert "between 8 and 29" in said(addresses.check_pool, ["10.0.0.0/8"], 31)
    addresses.check_data_path_port(0)
    assert (
        said(addresses.check_data_path_port, 80) == "Datapath port number is not in valid range (1024-49151)"
    )


@pytest.mark.parametrize(("pair", "text"), [(("192.0.2.1", 1), "192.0.2.1:1"), (("::1", 1), "[::1]:1")])
def test_join_port(pair, text):
    assert addresses.join_port(*pair) == text
    assert addresses.split_port(text, 9) == pair
