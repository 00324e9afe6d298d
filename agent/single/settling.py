"""What could not be put right when a container had ended is tried again by itself, until it is. For containers.py.

A network that cannot be taken down, a container that containerd doesn't remove: the kernel or containerd may be able to a moment
later. The waits grow to a minute; the log hears of it at first, when the cause changes, while the waits grow, and at the end. Where
all is well nothing waits and nothing is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from agent.single.failures import FAILURES, said

log = logging.getLogger("single")

FIRST: Final = 0.5
LONGEST: Final = 60.0


@dataclass(slots=True)
class _Trouble:
    delay: float
    fresh: bool = False
    why: str = ""


class Settling:
    """`settle` puts one thing right, or raises one of FAILURES; `fresh` is passed on to it: the agent has just started."""

    def __init__(self, settle: Callable[[str, bool], Awaitable[None]], first: float = FIRST) -> None:
        self.first = first
        self._settle = settle
        self._troubles: dict[str, _Trouble] = {}
        self._group: asyncio.TaskGroup | None = None

    async def now(self, key: str, fresh: bool = False) -> None:
        """Puts it right, at once or later."""
        try:
            await self._settle(key, fresh)
        except FAILURES as exc:
            self.later(key, exc, fresh)

    def later(self, key: str, error: BaseException, fresh: bool = False) -> None:
        """It is to be tried again. Without a group it isn't: whoever gives the next one looks at everything."""
        trouble = self._troubles.get(key)
        if trouble is not None:
            trouble.fresh |= fresh
            _tell(key, trouble, said(error))
            return
        trouble = _Trouble(self.first, fresh)
        _tell(key, trouble, said(error))
        if self._group is not None:
            self._troubles[key] = trouble
            self._group.create_task(self._again(key, trouble), name=f"settle {_name(key)}")

    async def _again(self, key: str, trouble: _Trouble) -> None:
        try:
            while True:
                await asyncio.sleep(trouble.delay)
                try:
                    await self._settle(key, trouble.fresh)
                except FAILURES as exc:
                    grows = trouble.delay < LONGEST
                    trouble.delay = min(trouble.delay * 2, LONGEST)
                    _tell(key, trouble, said(exc), again=grows)
                else:
                    log.info("%s: put right", _name(key))
                    return
        finally:
            if self._troubles.get(key) is trouble:
                del self._troubles[key]

    def within(self, group: asyncio.TaskGroup | None) -> None:
        """Where the waits belong to from now on."""
        self._group = group
        if group is None:
            self._troubles.clear()


def _tell(key: str, trouble: _Trouble, why: str, again: bool = False) -> None:
    if again or why != trouble.why:
        log.warning("%s: %s; again in %g s", _name(key), why, trouble.delay)
    trouble.why = why


def _name(key: str) -> str:
    return f"single container {key[:12]}" if key else "namespaces of single containers"
