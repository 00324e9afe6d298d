"""One container as it is now, and the events that others wait for. Held by the containers' life, which changes it.

A change that takes several steps (a start, an end, a removal) holds `changing` until it is through.
"""

import asyncio
from dataclasses import dataclass, field, replace

from agent.runtime.api import ContainerConfig, ContainerState, ExitStatus, Status, WaitCondition
from agent.runtime.folder import Record
from common import errors


@dataclass(slots=True)
class Live:
    """See the module's text; `pid` is 0 while it doesn't run."""

    record: Record
    pid: int = 0
    paused: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    runs: asyncio.Event = field(default_factory=asyncio.Event)
    next_end: asyncio.Event = field(default_factory=asyncio.Event)  # replaced at every end
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    removed: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one start or removal at a time

    @property
    def id(self) -> str:
        return self.record.config.id

    @property
    def config(self) -> ContainerConfig:
        return self.record.config

    @property
    def state(self) -> ContainerState:
        """What others are told of it."""
        record = self.record
        return ContainerState(
            id=self.id,
            name=record.config.name,
            image=record.config.image,
            labels=record.config.labels,
            status=self._status,
            pid=self.pid,
            created_at=record.created_at,
            started_at=record.started_at,
            exit=record.exit if not self.pid else None,
            config=record.config,
        )

    @property
    def _status(self) -> Status:
        if self.pid:
            return Status.PAUSED if self.paused else Status.RUNNING
        return Status.STOPPED if self.record.exit is not None else Status.CREATED

    def found_running(self, pid: int, paused: bool) -> None:
        """By an agent that has just started."""
        self.record = replace(self.record, exit=None)
        self.pid, self.paused = pid, paused
        self.runs.set()

    def has_started(self, pid: int, at: int) -> None:
        """Its process runs."""
        self.ended.clear()
        self.runs.set()
        self.pid = pid
        self.record = replace(self.record, started_at=at, exit=None)

    def has_ended(self) -> None:
        """Its process is no more; how it ended is in the record."""
        self.pid, self.paused = 0, False
        self.runs.clear()
        self.ended.set()
        ended_now, self.next_end = self.next_end, asyncio.Event()
        ended_now.set()

    def is_gone(self) -> None:
        """Nobody has to wait any more."""
        for event in (self.ended, self.next_end, self.gone):
            event.set()

    async def wait(self, condition: WaitCondition) -> ExitStatus:
        """As agent/runtime/api.py's `wait`."""
        if condition == "removed":
            await self.gone.wait()
            return self.record.exit or ExitStatus(0)
        await (self.next_end if condition == "next-exit" else self.ended).wait()
        if self.record.exit is None:
            raise no_such(self.id)
        return self.record.exit

    async def settled(self) -> None:
        """Returns when the change that is under way is through, and written down."""
        async with self.changing:
            pass


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it has happened by then."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def no_such(id: str) -> errors.NotFound:
    """As Docker words it."""
    return errors.NotFound(f"No such container: {id}")
