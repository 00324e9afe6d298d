"""The smallest transaction that makes one text of an nftables table out of another. Pure; used by kernel.py.

Replacing a table of hundreds of services costs tens of milliseconds in each container's namespace; most changes concern who stands
behind one of them. Where only ordinary chains differ (those that a map leads to), these alone are filled anew, and the chain whose name
tells the text is exchanged; where anything else differs, the text as a whole is the transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_HEAD: Final = re.compile(r"table (\w+) (\w+)\ndelete table \1 \2\ntable \1 \2 \{\n")
_BLOCK: Final = re.compile(r"  (\w+) (\w+) \{(.*)\n((?:    .*\n)*)  \}\n")
_MARKER: Final = "plan_"

Blocks = Mapping[tuple[str, str], tuple[str, str]]  # (what stands after the brace, lines) by kind and name


def transaction(before: str, after: str) -> str:
    """`before` is the text that the table in the kernel was made from."""
    known, wanted = _parsed(before), _parsed(after)
    if known is None or wanted is None or known[0] != wanted[0]:
        return after
    table, old, new = known[0], known[1], wanted[1]
    markers = [[name for _, name in blocks if name.startswith(_MARKER)] for blocks in (old, new)]
    if [len(found) for found in markers] != [1, 1] or _others(old) != _others(new):
        return after
    lines = [f"delete chain {table} {markers[0][0]}", f"add chain {table} {markers[1][0]}"]
    for (kind, name), (_, rules) in sorted(new.items()):
        if not name.startswith(_MARKER) and old[kind, name] != new[kind, name]:
            lines.append(f"flush chain {table} {name}")
            lines += [f"add rule {table} {name} {rule.strip()}" for rule in rules.splitlines()]
    return "\n".join(lines) + "\n"


def _others(blocks: Blocks) -> Blocks:
    """What has to be the same: the names of ordinary chains, everything of all else."""
    return {
        (kind, name): ("", "") if _ordinary(kind, rules) else (more, rules)
        for (kind, name), (more, rules) in blocks.items()
        if not name.startswith(_MARKER)
    }


def _ordinary(kind: str, rules: str) -> bool:
    return kind == "chain" and not rules.startswith("    type ")


def _parsed(text: str) -> tuple[str, Blocks] | None:
    """The table's family and name, and what is in it; None for a text that isn't made of blocks alone."""
    head = _HEAD.match(text)
    if head is None or not text.endswith("\n}\n"):
        return None
    inside = text[head.end() : -2]
    blocks: dict[tuple[str, str], tuple[str, str]] = {}
    at = 0
    while at < len(inside):
        block = _BLOCK.match(inside, at)
        if block is None or (block[1], block[2]) in blocks:
            return None
        blocks[block[1], block[2]] = block[3], block[4]
        at = block.end()
    return f"{head[1]} {head[2]}", blocks
