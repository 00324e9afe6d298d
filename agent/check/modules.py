"""Which parts of the kernel the network needs and this machine cannot have. Used by probing.py.

Only what is certain is told: a part is missing where the kernel's own lists name it neither as built in nor as a module.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Final

NEEDED: Final = (
    "bridge",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "veth",
    "vxlan",
)
_LISTS: Final = ("modules.builtin", "modules.dep")


def absent(needed: Iterable[str], loaded: Iterable[str], lists: Iterable[str]) -> list[str]:
    """Those of `needed` that are not loaded, and that no line of the kernel's lists names. Pure."""
    known = {name.replace("-", "_") for name in loaded}
    for text in lists:
        for line in text.splitlines():
            known.add(line.partition(":")[0].rpartition("/")[2].partition(".ko")[0].replace("-", "_"))
    return [name for name in needed if name not in known]


def missing(root: Path = Path("/")) -> list[str]:
    """What this machine's kernel lacks; nothing where its lists cannot be read."""
    folder = root / "lib/modules" / platform.release()
    try:
        lists = [(folder / name).read_text() for name in _LISTS]
        loaded = [entry.name for entry in (root / "sys/module").iterdir()]
    except OSError:
        return []
    return absent(NEEDED, loaded, lists)
