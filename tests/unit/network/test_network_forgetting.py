"""Which flows conntrack is to forget; that it does is tests/lab's matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.network import names
from agent.network.forgetting import stale_flows

ONE, TWO = names.backend_mark("10.0.0.20"), names.backend_mark("10.0.0.21")
PORTS = st.dictionaries(st.integers(1, 5), st.frozensets(st.sampled_from([ONE, TWO]), min_size=1))


def test_a_port_begins_and_ends_and_changes_hands() -> None:
    assert stale_flows({}, {53: frozenset({ONE})}) == [(53, 0)]
    assert stale_flows({53: frozenset({ONE})}, {}) == [(53, ONE | names.DATAGRAMS)]
    assert stale_flows({53: frozenset({ONE})}, {53: frozenset({TWO})}) == [(53, ONE | names.DATAGRAMS)]
    assert stale_flows({53: frozenset({ONE})}, {53: frozenset({ONE, TWO})}) == []


@given(PORTS, PORTS)
def test_what_leads_somewhere_stays(
    before: dict[int, frozenset[int]], now: dict[int, frozenset[int]]
) -> None:
    for port, mark in stale_flows(before, now):
        assert (
            mark == 0
            if port in now and port not in before
            else mark & ~names.DATAGRAMS not in now.get(port, ())
        )
    assert stale_flows(now, now) == []
