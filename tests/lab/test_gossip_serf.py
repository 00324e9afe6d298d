"""agent/gossip beside Debian's real `serf`, plain and sealed (serf.py)."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.lab.serf import KEY, made_namespace, ours, room

pytestmark = pytest.mark.lab


def test_a_member_among_serf_agents(serf_minutes: Future[None]) -> None:
    """It joins, stays alive for a minute, sees a kill, and leaves; has gone on beside the tests before this one."""
    serf_minutes.result(400)


async def test_our_death_is_seen_by_serf(tmp_path: Path) -> None:
    with made_namespace() as namespace:
        async with room(namespace, tmp_path, KEY) as made:
            async with ours(made) as node:
                await made.agent(1)
                await made.sees(1, "s1", "alive")
                await node.join([("127.0.7.1", 7946)])
                await made.sees(1, "ours", "alive")
            await made.sees(1, "ours", "failed")
