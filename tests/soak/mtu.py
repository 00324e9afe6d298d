"""Whole transfers at every MTU: `make soak-mtu N=1500` (root).

python -m tests.soak.mtu --most 1500    every MTU below the overlays from 1280 up to this, each hundredth up to 9000, and every
                                        MTU that a network over cables of 1500 can be made with

TCP both ways and datagrams of up to 65,507 bytes on every way of tests/lab/transfers.py, one of them through a link of 1280 that neither
end knows of. Ends with 1 when something did not arrive as it was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.transfers import AMOUNT, OVERHEAD, World, world
from tests.soak.seeds import commit

LEAST, JUMBO, USUAL = 1280, 9000, 1500


async def every(most: int) -> tuple[World, int]:
    """The world afterwards, and how many MTUs it was."""
    beneath = [*range(LEAST, most + 1), *range(most + 100, JUMBO, 100), JUMBO]
    above = range(LEAST, USUAL - OVERHEAD + 1)
    with tempfile.TemporaryDirectory(prefix="shoal-mtu-") as folder:
        async with world(Path(folder)) as made:
            for mtu in beneath:
                await made.underlay(mtu)
                await told(made, f"underlay {mtu}", mtu - OVERHEAD)
            await made.underlay(USUAL)
            for mtu in above:
                await made.overlay(mtu)
                await told(made, f"underlay {USUAL}, overlay {mtu}", mtu)
            return made, len(beneath) + len(above)


async def told(made: World, what: str, largest: int) -> None:
    known = len(made.problems)
    await made.check(what, largest)
    for problem in made.problems[known:]:
        print(problem, flush=True)


def main() -> int:
    """0 if all was whole."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--most", type=int, default=USUAL)
    options = parser.parse_args()
    began = time.monotonic()
    made, count = asyncio.run(every(options.most))
    print(
        f"commit {commit()}: {count} MTUs, {len(made.ways)} ways, {AMOUNT} bytes there and back by TCP and six sizes of datagrams"
        f" each: {len(made.problems)} not whole, {time.monotonic() - began:.0f} s"
    )
    return 1 if made.problems else 0


if __name__ == "__main__":
    sys.exit(main())
