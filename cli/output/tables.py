"""Columns aligned by their content, as Go's tabwriter sets them for `docker`: at least 10 wide, 3 spaces apart.

Pure; used by `cli.output.listing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width

_LEAST = 10
_GAP = 3


def _width(text: str) -> int:
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells; the last cell of a line isn't padded."""
    if not rows:
        return ""
    columns = max(len(row) for row in rows)
    widths = [
        max(_LEAST, _GAP + max((_width(row[index]) for row in rows if index < len(row) - 1), default=0))
        for index in range(columns)
    ]
    lines = []
    for row in rows:
        cells = [cell + " " * (widths[index] - _width(cell)) for index, cell in enumerate(row[:-1])]
        lines.append("".join(cells) + (row[-1] if row else ""))
    return "".join(line + "\n" for line in lines)
