"""The agent's process: starts its parts (agent/composition.py) in the order that serves traffic soonest, and ends them.

Order: what the database remembers is put into the kernel before anything else, so that names, VIPs and the mesh work
without any manager; then the Engine API listens and systemd is told; then containers are adopted, and the session starts.
Nothing here stops a container, but for a machine that goes down (shutdown.py): SIGTERM ends the daemon alone, and a failure of a
part that can't go on ends the process, which systemd starts again. The session and the applying of assignments are restarted in place.
"""

from __future__ import annotations

import agent.lean  # noqa: F401 - first: it decides what the others load

# isort: split
import asyncio
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent import identity, shutdown
from agent import settings as config
from agent.applier import Applier
from agent.assembly import Assembly, assemble
from agent.composition import Composition, compose
from agent.database import Contact, Database, Remembered, TaskRecord, open_database
from agent.state import NodeState
from common import errors, logs, memory, sdnotify
from common.cancellation import still_wanted
from common.clock import Clock, SystemClock

log = logging.getLogger("agent")

_RESTART: Final = (0.1, 10.0)
_LOCK: Final = "lock"


def main() -> None:
    """Entry point `shoal-agent`."""
    try:
        settings = config.load(os.environ.get("SHOAL_AGENT_CONFIG", config.PATH))
    except errors.InvalidArgument as exc:
        sys.exit(f"shoal-agent: {exc.message}")
    logs.configure(settings.log.level)
    folder = Path(settings.state.dir)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _alone(folder)
    try:
        asyncio.run(Agent(settings).run())
    except errors.ShoalError as exc:
        sys.exit(f"shoal-agent: {exc.message}")
    finally:
        os.close(lock)


def _alone(folder: Path) -> int:
    """One agent for a state folder; held until the process ends."""
    fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"shoal-agent: another agent runs on {folder}")
    return fd


class Agent:
    """One run of the daemon. `assemble` makes the parts that touch the machine; tests hand in others."""

    def __init__(self, settings: config.Settings, make: Callable[..., Assembly] = assemble) -> None:
        self.settings = settings
        self.folder = Path(settings.state.dir)
        self._make = make
        self._stop = asyncio.Event()
        self._machine_stops = False

    def stop(self) -> None:
        """Ends the daemon; containers and the kernel's state stay."""
        self._stop.set()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT, or until a part fails for good."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        handed_over = sdnotify.listen_fds()
        database, remembered = open_database(self.folder)
        remembered = await self._consistent(database, remembered)
        clock = SystemClock()
        machine = self._make(self.settings, clock, handed_over)
        parts = compose(self.settings, machine, database, remembered, clock)
        try:
            await self._serve(parts, remembered.tasks, clock)
            if self._machine_stops:
                await shutdown.stop_containers(machine.runtime)
        finally:
            await parts.membership.close()
            await machine.network.close()
            await machine.names.close()
            await machine.runtime.close()
            database.close()

    async def _consistent(self, database: Database, remembered: Remembered) -> Remembered:
        """Without an identity nothing else counts: a leave was interrupted."""
        mine = identity.load(self.folder)
        if mine is None and (remembered.state != NodeState() or remembered.tasks):
            log.warning("this node belongs to no swarm: what it remembers of one is dropped")
            await database.clear()
            return replace(remembered, state=NodeState(), contact=Contact())
        return remembered

    async def _serve(self, parts: Composition, tasks: Mapping[str, TaskRecord], clock: Clock) -> None:
        machine, membership, liveness = parts.machine, parts.membership, parts.liveness
        member = membership.identity is not None
        parts.singles.wiring.wire()
        await machine.network.start()
        await parts.singles.begin(clock.now_ns())
        if member:
            await self._put_into_kernel(parts.applier)
        else:
            await machine.network.teardown()
        liveness.look()
        serving = machine.serve(membership, parts.singles, parts.execs)
        async with serving, asyncio.TaskGroup() as group:
            jobs = [
                group.create_task(self._watchdog(), name="watchdog"),
                group.create_task(memory.keep_small(), name="memory"),
                group.create_task(self._containers(parts, tasks, member), name="containers"),
                group.create_task(_again("applier", parts.applier.run), name="applier"),
                group.create_task(_again("membership", membership.run), name="membership"),
                group.create_task(_again("gossip", machine.gossip.run), name="gossip"),
                group.create_task(_again("liveness", liveness.run), name="liveness"),
                group.create_task(_again("network checks", parts.checks.run), name="network checks"),
                group.create_task(_again("manager", _once(membership.wake_manager)), name="manager"),
            ]
            sdnotify.ready("member of a swarm" if member else "no member of a swarm")
            memory.settle()
            await self._stop.wait()
            sdnotify.notify("STOPPING=1")
            self._machine_stops = await shutdown.machine_is_stopping()
            if self._machine_stops:
                await liveness.leave()
            else:
                log.info("ending; containers and networks stay")
            for job in jobs:
                job.cancel()

    async def _put_into_kernel(self, applier: Applier) -> None:
        """What the last assignments say, before any manager is asked. A failure is tried again by `applier.run`."""
        try:
            await applier.apply()
        except errors.ShoalError as exc:
            log.warning("the kernel is not as it should be: %s", exc.message)
            applier.retry()

    async def _containers(self, parts: Composition, tasks: Mapping[str, TaskRecord], member: bool) -> None:
        worker = parts.worker
        await parts.machine.runtime.start()
        await worker.adopt(tasks)
        if not member:
            worker.update(NodeState(), complete=True)  # whatever is left of tasks here is nobody's
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run(), name="tasks")
            group.create_task(_again("single containers", parts.singles.run), name="single containers")
            group.create_task(_again("execs", parts.execs.run), name="execs")

    async def _watchdog(self) -> None:
        """Keeps systemd satisfied for as long as this loop turns."""
        interval = sdnotify.watchdog_interval()
        while interval:
            sdnotify.keep_alive()
            await asyncio.sleep(interval)


def _once(work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        await work()
        await asyncio.Event().wait()

    return run


async def _again(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs a part that others must not suffer for: when it fails, it is started again."""
    delay = _RESTART[0]
    while True:
        try:
            await work()
        except errors.ShoalError as exc:
            log.warning("%s: %s; again in %.1f s", name, exc.message, delay)
        except Exception:
            log.exception("%s failed; again in %.1f s", name, delay)
        still_wanted()
        await asyncio.sleep(delay)
        delay = min(delay * 2, _RESTART[1])


if __name__ == "__main__":
    main()
