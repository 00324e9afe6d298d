"""Nodes may say of themselves what they like: what others are told stays what it must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import model
from manager import claims
from manager.dispatcher import registration

NODE = model.Node(id="n", status=model.NodeStatus(addr="10.0.0.1"))


def test_addresses_are_addresses() -> None:
    assert claims.address("10.0.0.7") == "10.0.0.7"
    assert claims.address("FD00::0:7") == "fd00::7"
    for text in (
        "",
        "nonsense",
        "10.0.0.7/24",
        "10.0.0.7:2377",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "fe80::1%eth0",
    ):
        assert claims.address(text, "10.0.0.1") == "10.0.0.1"


@given(st.text())
def test_whatever_is_said_is_an_address_or_nothing(text: str) -> None:
    assert claims.address(text, "?") == "?" or claims.address(claims.address(text)) == claims.address(text)


@pytest.mark.parametrize("said", ["nonsense", "10.0.0.300", "-"])
def test_a_node_cannot_give_others_an_address_that_is_none(said: str) -> None:
    told = model.NodeDescription(hostname="w\x1b[2J1", data_path_addr=said)
    node = registration.ready_node(NODE, model.Hello(description=told, addr=said), "10.0.0.9")
    assert (node.status.addr, node.description.data_path_addr) == ("10.0.0.9", "")
    assert node.description.hostname == "w?[2J1"


def test_what_is_right_stays() -> None:
    told = model.NodeDescription(hostname="w1.example.org", data_path_addr="10.1.0.2")
    node = registration.ready_node(NODE, model.Hello(description=told, addr="10.0.0.2"), "10.0.0.9")
    assert (node.status.addr, node.description) == ("10.0.0.2", told)
