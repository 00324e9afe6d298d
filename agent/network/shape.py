"""How much is in an nftables table, chain by chain: whether somebody has taken something out of one of ours. Pure; used by reader.py.

nft prints a table in other words than it was made with, so texts can't be compared; but each rule is a line in both, and each pair
of a map has one colon. What packets fill is left out. A rule that was exchanged for another is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_BLOCK: Final = re.compile(r"\s+(chain|map|set) (\w+) \{")
_PAIR: Final = " : "
_BY_PACKETS: Final = "flags dynamic"


def shape(text: str) -> Mapping[str, int]:
    """Rules of each chain and pairs of each map, from nft's listing of a table or the text that one is made from."""
    counts: dict[str, int] = {}
    kind, name = "", ""
    for line in text.splitlines():
        if (block := _BLOCK.match(line)) is not None:
            kind, name = block[1], block[2]
            counts[name] = line.count(_PAIR)
        if _BY_PACKETS in line:
            counts.pop(name, None)
            name = ""
        elif block is not None or not name:
            continue
        elif line.strip() == "}":
            name = ""
        elif kind == "chain":
            counts[name] += bool(line.strip()) and not line.lstrip().startswith("type ")
        else:
            counts[name] += line.count(_PAIR)
    return counts
