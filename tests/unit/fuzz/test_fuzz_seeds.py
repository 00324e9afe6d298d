"""Twenty thousand bad inputs each at what listens: nothing fails, nothing is left behind, the journal stays short, memory too.

A batch that fails is thrown again by `python -m tests.soak.fuzz --seed N`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.fuzz import dns, gossip, http
from tests.fuzz.bounds import Account, memory

BATCHES = 20
WARM = 5
GROWTH = 24 << 20  # bytes; 15,000 inputs that each leave 2 KiB behind are more


@pytest.mark.parametrize("batch", [gossip.batch, dns.batch, http.batch], ids=["gossip", "dns", "http"])
async def test_bad_inputs(batch: Callable[[int], Awaitable[Account]]) -> None:
    inputs = before = 0
    for seed in range(BATCHES):
        account = await batch(seed)
        assert not account.wrong(), f"seed {seed}: {account.wrong()}"
        inputs += account.inputs
        if seed == WARM:
            before = memory()
    assert inputs == BATCHES * 1000
    assert memory() - before < GROWTH
