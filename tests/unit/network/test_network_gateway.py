"""docker_gwbridge's subnet and addresses."""

from __future__ import annotations

from agent.network import gateway


def test_first_pool_that_is_free() -> None:
    assert gateway.choose_subnet([]) == "172.18.0.0/16"
    assert gateway.choose_subnet(["192.0.2.0/24", "172.18.4.0/24"]) == "172.19.0.0/16"
    assert gateway.choose_subnet(["fd00::/64", "172.18.4.0/24"]) == "172.19.0.0/16"
    assert gateway.choose_subnet(["172.16.0.0/12"]) == "192.168.0.0/20"
    assert gateway.choose_subnet(["172.16.0.0/12", "192.168.0.0/16"]) is None


def test_addresses_are_given_next_fit() -> None:
    assert gateway.next_address("172.18.0.0/16", set(), "") == "172.18.0.2"
    assert gateway.next_address("172.18.0.0/16", {"172.18.0.3"}, "172.18.0.2") == "172.18.0.4"
    assert gateway.next_address("172.18.0.0/16", set(), "172.18.255.254") == "172.18.0.2"


def test_a_full_subnet() -> None:
    assert gateway.next_address("172.18.0.0/29", {f"172.18.0.{n}" for n in range(2, 7)}, "172.18.0.2") is None
