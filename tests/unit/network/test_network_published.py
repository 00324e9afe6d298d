"""Which ports of a node lead to tasks."""

from __future__ import annotations

from agent.network import names, published
from common import model
from tests.unit.network.small_swarm import endpoint, host_mode, state, task, with_service


def test_who_is_behind_a_udp_port() -> None:
    ports = (
        model.PortConfig(protocol=model.PortProtocol.UDP, target_port=80, published_port=53),
        model.PortConfig(protocol=model.PortProtocol.TCP, target_port=80, published_port=80),
    )
    records = (
        endpoint("t1", "ing", "10.0.0.20", "n2"),
        endpoint("t2", "ing", "10.0.0.21", "n2", model.EndpointState.ENDPOINT_WITHDRAWN),
    )
    own = task("t3", ports=host_mode(model.PortProtocol.UDP, 54))
    given = with_service(state(records, own), ports=ports)
    marks = [
        frozenset(names.backend_mark(a) for a in them)
        for them in (("10.0.0.20", "10.0.0.21"), ("172.18.0.2",))
    ]
    assert published.datagram_ports(given, {"t3": "172.18.0.2"}) == {53: marks[0], 54: marks[1]}
    assert published.datagram_ports(given, {}) == {53: marks[0]}
