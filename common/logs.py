"""Logging of the daemons: one line an event to stderr, which systemd's journal keeps; levels by its <N> prefix.

What ends a daemon is told too: an error that nobody expected with its traceback, a crash in native code (gRPC's, say)
with where each thread was.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class Sparing(logging.Filter):
    """For a logger that somebody else's doing writes to: so many lines in so many seconds, and how many were left out."""

    def __init__(
        self, lines: int = 10, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._lines = lines
        self._seconds = seconds
        self._clock = clock
        self._since = float("-inf")
        self._passed = self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        now = self._clock()
        if now - self._since >= self._seconds:
            self._since, self._passed = now, 0
        if self._passed >= self._lines:
            self._left_out += 1
            return False
        self._passed += 1
        if self._left_out:
            record.msg, record.args = (
                f"{record.getMessage()} ({self._left_out} more lines were left out)",
                None,
            )
            self._left_out = 0
        return True


@contextmanager
def spared(*loggers: logging.Logger) -> Iterator[None]:
    """Each of them writes sparingly inside the block."""
    sparing = [(logger, Sparing()) for logger in loggers]
    for logger, each in sparing:
        logger.addFilter(each)
    try:
        yield
    finally:
        for logger, each in sparing:
            logger.removeFilter(each)


def shown(text: str, most: int = 200) -> str:
    """What a stranger sent, fit for one line of the journal."""
    cut = text if len(text) <= most else f"{text[:most]}…"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)


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
