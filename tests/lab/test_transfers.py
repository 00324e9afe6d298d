"""Transfers are whole at every MTU: a handful here, all of them in `make soak-mtu`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.transfers import OVERHEAD, world

pytestmark = pytest.mark.lab
UNDERLAY = (1500, 1280, 1427, 9000)
OVERLAY = (1280, 1399)


async def test_transfers_are_whole_at_every_mtu(say: Callable[[str], None]) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shoal-mtu-") as folder:
        async with world(Path(folder)) as made:
            for mtu in UNDERLAY:
                await made.underlay(mtu)
                await made.check(f"underlay {mtu}", mtu - OVERHEAD)
            for mtu in OVERLAY:
                await made.overlay(mtu)
                await made.check(f"underlay {UNDERLAY[-1]}, overlay {mtu}", mtu)
    assert not made.problems, "\n".join(made.problems)
    say(f"{len(UNDERLAY) + len(OVERLAY)} MTUs in {time.monotonic() - began:.1f} s")
