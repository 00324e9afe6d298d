"""Which flows conntrack is to forget; that it does is tests/lab's matter."""

from __future__ import annotations

import errno
import logging
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import names
from agent.network.forgetting import Forgetting, stale_flows
from agent.state import NodeState
from common import model

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


async def test_a_full_disk_does_not_make_the_kernel_wrong(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def save(self, endpoints: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    class Here:
        async def run(self, work: Any, *arguments: Any) -> Any:
            return work(*arguments)

    forgetting = Forgetting(cast(Any, Here()), cast(Any, None), cast(Any, Full()))
    state = NodeState("n1", endpoints={("t1", "net"): model.EndpointRecord("t1", "net", "10.0.1.3")})
    with caplog.at_level(logging.WARNING):
        await forgetting.look(state, {})
        await forgetting.look(state, {})
    assert caplog.text.count("No space left on device") == 1
