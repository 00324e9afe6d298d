"""What must not happen however bad the bytes: a fault, a line of the journal for each of them, anything left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from agent.engine.app import CLIENTS_OWN, strangers
from common import errors
from common.memory import give_back

LINES = 40  # of the journal, from a thousand inputs


@dataclass(slots=True)
class Account:
    """Of one batch."""

    inputs: int = 0
    answers: int = 0
    lines: int = 0
    faults: list[str] = field(default_factory=list)

    def wrong(self) -> str:
        """What is wrong; empty if nothing is."""
        if self.faults:
            return f"{len(self.faults)} faults, the first: {self.faults[0]}"
        if self.lines > LINES:
            return f"{self.lines} lines of log for {self.inputs} inputs"
        return ""


class _Lines(logging.Handler):
    def __init__(self, account: Account) -> None:
        super().__init__(logging.INFO)
        self._account = account

    def emit(self, record: logging.LogRecord) -> None:
        self._account.lines += 1


@contextmanager
def _listening(account: Account) -> Iterator[None]:
    """Lines as they come out; faults before any filter that spares the journal leaves them out."""
    root, lines = logging.getLogger(), _Lines(account)
    level, handle = root.level, logging.Logger.handle

    def heard(logger: logging.Logger, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        own = logger is strangers and isinstance(error, CLIENTS_OWN)  # aiohttp calls them errors
        if record.levelno >= logging.ERROR and not own:
            account.faults.append(logging.Formatter().format(record))
        handle(logger, record)

    root.addHandler(lines)
    root.setLevel(logging.INFO)
    with mock.patch.object(logging.Logger, "handle", heard):
        try:
            yield
        finally:
            root.removeHandler(lines)
            root.setLevel(level)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    """Without those that asyncio keeps for calls that block."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


def memory() -> int:
    """What this process holds in memory, in bytes, after it has given back what it can."""
    gc.collect()
    give_back()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def survived(work: Awaitable[None], account: Account) -> None:
    """A target that doesn't answer any more is a fault as well."""
    try:
        await work
    except (TimeoutError, errors.ShoalError) as error:
        account.faults.append(f"it lives no more: {error!r}")


@contextmanager
def watched() -> Iterator[Account]:
    """Counts what is logged at the level of a daemon; after the block nothing may be left of what it has opened."""
    account = Account()
    before = (descriptors(), threads(), len(asyncio.all_tasks()))
    with _listening(account):
        yield account
    gc.collect()
    after = (descriptors(), threads(), len(asyncio.all_tasks()))
    if any(now > then for now, then in zip(after, before, strict=True)):
        account.faults.append(f"descriptors, threads, tasks: {before} before, {after} after")
