"""Logging of the daemons: one line an event to stderr, which systemd's journal keeps; levels by its <N> prefix.

What ends a daemon is told too: an error that nobody expected with its traceback, a crash in native code (gRPC's, say)
with where each thread was.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from types import TracebackType
from typing import Final

log = logging.getLogger("shoal")

_PRIORITY: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class JournalFormatter(logging.Formatter):
    """Puts the journal's priority in front when stderr is the journal; otherwise the time."""

    def __init__(self, journal: bool) -> None:
        super().__init__(
            "%(name)s: %(message)s" if journal else "%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        # A line of a traceback is an entry of its own there.
        prefix = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return prefix + text.replace("\n", f"\n{prefix}")


def configure(level: str = "info") -> None:
    """Sets up the root logger; called once by each daemon's main. Level names are logging's, any case."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=getattr(logging, level.upper()), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    sys.excepthook = _last_words
    faulthandler.enable(sys.stderr)


def _last_words(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Nobody has caught it: the process ends."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, trace)
    else:
        log.critical("the process ends: %s", str(exc) or kind.__name__, exc_info=(kind, exc, trace))
