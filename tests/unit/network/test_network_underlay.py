"""What a machine leaves to its overlays."""

from __future__ import annotations

from agent.network.underlay import Underlay, is_encrypted, overlay_mtu
from common import model
from tests.unit.network.small_swarm import UNDERLAY, network


def test_the_mtu_follows_the_underlay_and_the_option() -> None:
    small = model.Driver(name="overlay", options={"com.docker.network.driver.mtu": "1300"})
    large = model.Driver(name="overlay", options={"com.docker.network.driver.mtu": "9000"})
    assert overlay_mtu(network("a", 1), Underlay("192.0.2.1", 9001)) == 8951
    assert overlay_mtu(network("a", 1, driver=small), UNDERLAY) == 1300
    assert overlay_mtu(network("a", 1, driver=large), UNDERLAY) == 1450


def test_encrypted() -> None:
    assert is_encrypted(network("a", 1, driver=model.Driver(options={"encrypted": ""})))
    assert is_encrypted(network("a", 1, driver=model.Driver(options={"encrypted": "true"})))
    assert not is_encrypted(network("a", 1, driver=model.Driver(options={"encrypted": "false"})))
    assert not is_encrypted(network("a", 1))
