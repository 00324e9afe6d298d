"""What commands say, read; and what a run was made with. Used by __main__.py."""

from __future__ import annotations

import datetime
import re
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from tests.vm.image import ROOT

_INDEX: Final = re.compile(r"\bspi (0x[0-9a-f]+)")
_PING: Final = re.compile(r"(\d+) packets transmitted, (\d+) received")


def ping(text: str) -> tuple[int, int]:
    """(sent, answered), of ping's summary."""
    found = _PING.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def newest_key(text: str) -> int:
    """The highest number of a key in what `ip xfrm state` shows: the last byte of each index."""
    return max((int(found[1], 16) & 0xFF for found in _INDEX.finditer(text)), default=0)


def dropped(text: str, chain: str) -> int:
    """Packets that the chains of this name have counted, in nft's listing."""
    return sum(int(found[1]) for found in re.finditer(rf"chain {chain} {{[^}}]*?counter packets (\d+)", text))


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Counters that are higher than before, by how much."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}


def beginning() -> dict[str, Any]:
    """When, and of which commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "commit": commit}
