"""Further processes in running containers, as `docker exec` makes them. The engine calls it; `run` is the daemon's.

A process lives on when its client leaves, as in Docker; its output is then read and dropped. The newest that have ended
are remembered for those who ask how.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from agent.runtime.api import ExecConfig, ExecSession, LogStream, Runtime
from common import errors, ids

log = logging.getLogger("exec")

KEPT: Final = 256
NOT_STARTED: Final = 126  # the exit code of a program that cannot be run
_AHEAD: Final = 64
_STARTING: Final = 10.0  # seconds


@dataclass(slots=True)
class Exec:
    """One of them, from its making to long after its end."""

    id: str
    container_id: str
    config: ExecConfig
    attach: tuple[bool, bool, bool]  # stdin, stdout, stderr
    detach_keys: str = ""
    session: ExecSession | None = None
    pid: int = 0
    exit_code: int | None = None
    begun: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    _pieces: asyncio.Queue[tuple[LogStream, bytes] | None] = field(
        default_factory=lambda: asyncio.Queue(_AHEAD)
    )
    _left: bool = False

    async def output(self) -> AsyncIterator[tuple[LogStream, bytes]]:
        """For the one client that started it."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    def leave(self) -> None:
        """The client has gone: nobody reads any more."""
        self._left = True
        while not self._pieces.empty():
            self._pieces.get_nowait()

    async def put(self, piece: tuple[LogStream, bytes] | None) -> None:
        if not self._left:
            await self._pieces.put(piece)


class Execs:
    """See the module's text."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[str, Exec] = {}
        self._group: asyncio.TaskGroup | None = None
        self.ended: Callable[[Exec], Awaitable[None]] = _nobody  # is told of each that has run
        self._runs = asyncio.Event()

    def create(
        self, container_id: str, config: ExecConfig, attach: tuple[bool, bool, bool], detach_keys: str
    ) -> Exec:
        made = Exec(ids.new_container_id(), container_id, config, attach, detach_keys)
        over = [known for known in self._known.values() if known.exit_code is not None or not known.begun]
        for old in over[: max(0, len(over) - KEPT)]:
            del self._known[old.id]
        self._known[made.id] = made
        return made

    def find(self, exec_id: str) -> Exec:
        found = self._known.get(exec_id)
        if found is None:
            raise errors.NotFound(f"No such exec instance: {exec_id}")
        return found

    def of(self, container_id: str) -> list[str]:
        """Ids of those that run in a container."""
        return [e.id for e in self._known.values() if e.container_id == container_id and e.session]

    async def start(self, exec_id: str, attached: bool) -> Exec:
        """Runs it; without a client (`attached`) its output is dropped. Raises what the runtime says.

        Not to be cut off: what is half started would run with nobody to know of it.
        """
        found = self.find(exec_id)
        if found.begun:
            raise errors.Conflict(f"exec command {exec_id} has already run")
        group = await self._parent()
        if found.begun:  # by somebody else meanwhile
            raise errors.Conflict(f"exec command {exec_id} has already run")
        found.begun = True
        if not attached:
            found.leave()
        try:
            session = await self._runtime.exec(found.container_id, found.config)
        except BaseException:
            found.exit_code = NOT_STARTED
            found.started.set()
            raise
        if self._group is not group:  # the agent ends: nobody could read what it says
            found.exit_code = NOT_STARTED
            found.started.set()
            await session.close()
            raise errors.Unavailable("the agent is starting or ending")
        found.session, found.pid = session, session.pid
        found.started.set()
        group.create_task(self._see_through(found, session), name=f"exec {exec_id[:12]}")
        return found

    async def _parent(self) -> asyncio.TaskGroup:
        """Of what runs; one who asks while the agent starts waits for it."""
        if self._group is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STARTING):
                    await self._runs.wait()
        if self._group is None:
            raise errors.Unavailable("the agent is starting or ending")
        return self._group

    async def _see_through(self, running: Exec, session: ExecSession) -> None:
        try:
            async for piece in session.output():
                await running.put(piece)
            running.exit_code = await session.wait()
        except (errors.ShoalError, OSError) as exc:  # of one process: the others go on
            log.warning("exec %s: %s", running.id[:12], exc)
            running.exit_code = NOT_STARTED
        finally:
            running.session = None
            try:
                await asyncio.shield(session.close())
            except (errors.ShoalError, OSError) as exc:  # its shim is dying, or containerd is away
                log.warning("exec %s was not cleared away: %s", running.id[:12], exc)
        await running.put(None)
        await self.ended(running)

    async def run(self) -> None:
        """Until cancelled; what still runs then is ended, since nobody could read what it says."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._runs.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._runs.clear()
                self._group = None


async def _nobody(_: Exec) -> None:
    return None
