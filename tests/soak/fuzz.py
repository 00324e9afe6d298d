"""A million bad inputs each at gossip, DNS and the engine's socket, a thousand of each with every seed: `make soak-fuzz N=1000000 FIRST=0`.

python -m tests.soak.fuzz --runs 1000    goes on where it was stopped, unless the code has changed
python -m tests.soak.fuzz --seed 4711    one batch again
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass

from tests.fuzz import dns, gossip, http
from tests.fuzz.bounds import Account, memory
from tests.soak import seeds

CODE = ("agent/gossip", "agent/dns", "agent/engine", "common/logs.py", "tests/fuzz")
BATCHES = {"gossip": gossip.batch, "dns": dns.batch, "http": http.batch}
WARM, EVERY = 20, 20  # batches until memory is compared, and between two comparisons
GROWTH = 48 << 20
"""Bytes that a process may grow by after it is warm; a leak of one small object for each input would be more."""


def thrown(seed: int) -> dict[str, Account]:
    return {name: asyncio.run(batch(seed)) for name, batch in BATCHES.items()}


@dataclass(slots=True)
class Soak(seeds.Soak):
    """Batches at all three."""

    inputs: int = 0
    answers: int = 0
    lines: int = 0
    warm: int = 0
    largest_growth: int = 0
    here: int = 0  # batches in this process

    def once(self, seed: int) -> str:
        wrong = []
        for name, account in thrown(seed).items():
            self.inputs += account.inputs
            self.answers += account.answers
            self.lines += account.lines
            if account.wrong():
                wrong.append(f"{name}: {account.wrong()}")
        return "; ".join([*wrong, *self._growth()])

    def _growth(self) -> list[str]:
        self.here += 1
        if self.here == WARM:
            self.warm = memory()
        elif self.here > WARM and self.here % EVERY == 0:
            growth = memory() - self.warm
            self.largest_growth = max(self.largest_growth, growth)
            if growth > GROWTH:
                return [f"memory has grown by {growth >> 20} MiB in {self.here - WARM} batches"]
        return []

    def told(self) -> str:
        return (
            f"{self.inputs} inputs, a third each at gossip, DNS and HTTP, {self.answers} answers, {self.lines} lines of log, memory grown by "
            f"{max(self.largest_growth, 0) / (1 << 20):.1f} MiB at most"
        )


def main() -> int:
    """0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    seeds.arguments(parser, 1000)
    options = parser.parse_args()
    if options.seed is None:
        return seeds.soak(Soak, "fuzz", seeds.fingerprint(*CODE), options)
    wrong = {name: account.wrong() for name, account in thrown(options.seed).items()}
    print(*(f"{name}: {text or 'well'}" for name, text in wrong.items()), sep="\n")
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
