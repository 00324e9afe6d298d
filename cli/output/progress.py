"""Progress as `docker` draws it: plain lines for a pipe, lines that are rewritten in place for a terminal.

Used by `cli.service.watch` and by image pulls.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TextIO

from cli.output.units import decimal_size

_BAR = 50
_WIDE = 110


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of one line. `total` 0: no bar. `counts`: show how much of how much."""

    ident: str
    action: str
    current: int = 0
    total: int = 0
    counts: bool = False


class Display:
    """Where progress is drawn; `quiet` draws nothing."""

    def __init__(self, out: TextIO, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._terminal = out.isatty()
        self._lines: dict[str, int] = {}

    def show(self, step: Progress) -> None:
        if self._quiet:
            return
        if not self._terminal:
            if not step.current and not step.total:
                self._out.write(f"{step.ident}: {step.action}\n")
                self._out.flush()
            return
        if step.ident not in self._lines:
            self._lines[step.ident] = len(self._lines)
            self._out.write("\n")
        distance = len(self._lines) - self._lines[step.ident]
        self._out.write(
            f"\x1b[{distance}A\x1b[2K\r{step.ident}: {step.action} {_bar(step)}\r\x1b[{distance}B"
        )
        self._out.flush()

    def message(self, text: str) -> None:
        """A line that isn't progress: what was drawn before stays as it is."""
        if not self._quiet:
            self._lines.clear()
            self._out.write(text + "\n")
            self._out.flush()


def _bar(step: Progress) -> str:
    if step.current <= 0 and step.total <= 0:
        return ""
    if step.total <= 0:
        return f"{decimal_size(step.current):>8}"
    done = min(int(step.current / step.total * 100) // 2, _BAR)
    box = f"[{'=' * done}>{' ' * (_BAR - done)}] " if shutil.get_terminal_size().columns > _WIDE else ""
    if not step.counts:
        return box
    return f"{box}{decimal_size(step.current):>8}/{decimal_size(step.total)}"
